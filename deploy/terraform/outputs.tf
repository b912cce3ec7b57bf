output "vault_uri" {
  description = "Address of the vault: KeyVaultUri of the gateway."
  value       = local.vault_uri
}

output "vault_id" {
  description = "Resource id of the vault."
  value       = local.vault_id
}

output "identity_id" {
  description = "Resource id of the identity, to be assigned to the place where the gateway runs."
  value       = azurerm_user_assigned_identity.this.id
}

output "identity_client_id" {
  description = "Client id of the identity: AZURE_CLIENT_ID of the gateway."
  value       = azurerm_user_assigned_identity.this.client_id
}

output "identity_principal_id" {
  description = "Object id of the identity, for further role assignments, such as AcrPull."
  value       = azurerm_user_assigned_identity.this.principal_id
}

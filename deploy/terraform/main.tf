# The identity that reads secrets, its role on a new or an existing vault, the log of the vault, and a private endpoint: the same
# as the templates of deploy/azure.

locals {
  new_vault = var.existing_vault_resource_group_name == null
  vault_id  = local.new_vault ? azurerm_key_vault.this[0].id : data.azurerm_key_vault.this[0].id
  vault_uri = local.new_vault ? azurerm_key_vault.this[0].vault_uri : data.azurerm_key_vault.this[0].vault_uri

  # Key Vault Secrets User: reads the value of a secret (getSecret), and lists names and properties without values (readMetadata).
  secrets_user = "4633458b-17de-408a-b874-0445c86b69e6"

  new_zone            = var.private_endpoint != null && try(var.private_endpoint.private_dns_zone_id, null) == null
  private_dns_zone_id = local.new_zone ? azurerm_private_dns_zone.this[0].id : try(var.private_endpoint.private_dns_zone_id, null)
}

data "azurerm_client_config" "current" {}

data "azurerm_key_vault" "this" {
  count = local.new_vault ? 0 : 1

  name                = var.vault_name
  resource_group_name = var.existing_vault_resource_group_name

  lifecycle {
    postcondition {
      condition     = self.rbac_authorization_enabled
      error_message = "The vault has access policies, so a role has no effect on it. Change it to Azure RBAC, or add a policy with Get for secrets."
    }
  }
}

resource "azurerm_key_vault" "this" {
  count = local.new_vault ? 1 : 0

  name                          = var.vault_name
  resource_group_name           = var.resource_group_name
  location                      = var.location
  tenant_id                     = data.azurerm_client_config.current.tenant_id
  sku_name                      = "standard"
  rbac_authorization_enabled    = true
  purge_protection_enabled      = var.purge_protection
  soft_delete_retention_days    = var.soft_delete_retention_days
  public_network_access_enabled = var.public_network_access

  enabled_for_deployment          = false
  enabled_for_disk_encryption     = false
  enabled_for_template_deployment = false

  network_acls {
    bypass                     = "None"
    default_action             = length(var.allowed_subnet_ids) == 0 ? "Allow" : "Deny"
    virtual_network_subnet_ids = var.allowed_subnet_ids
  }
}

resource "azurerm_user_assigned_identity" "this" {
  name                = var.identity_name
  resource_group_name = var.resource_group_name
  location            = var.location
}

resource "azurerm_federated_identity_credential" "this" {
  for_each = var.federated_credentials

  name                      = each.key
  user_assigned_identity_id = azurerm_user_assigned_identity.this.id
  issuer                    = each.value.issuer
  subject                   = each.value.subject
  audience                  = [each.value.audience]
}

resource "azurerm_role_definition" "get_secret" {
  count = var.get_secret_only ? 1 : 0

  name        = "Key Vault Gateway Secret Reader (${var.vault_name})"
  description = "Reads the value of a secret by its name. Lists nothing and changes nothing."
  scope       = local.vault_id

  permissions {
    data_actions = ["Microsoft.KeyVault/vaults/secrets/getSecret/action"]
  }

  assignable_scopes = [local.vault_id]
}

resource "azurerm_role_assignment" "secrets" {
  scope        = local.vault_id
  principal_id = azurerm_user_assigned_identity.this.principal_id
  # With the type, Azure does not look up the identity. That look-up can fail for a new identity.
  principal_type = "ServicePrincipal"
  role_definition_id = var.get_secret_only ? azurerm_role_definition.get_secret[0].role_definition_resource_id : (
    "/subscriptions/${data.azurerm_client_config.current.subscription_id}/providers/Microsoft.Authorization/roleDefinitions/${local.secrets_user}"
  )
}

resource "azurerm_monitor_diagnostic_setting" "vault" {
  count = var.log_analytics_workspace_id == null ? 0 : 1

  name                       = "to-log-analytics"
  target_resource_id         = local.vault_id
  log_analytics_workspace_id = var.log_analytics_workspace_id
  # The table AZKVAuditLogs instead of AzureDiagnostics.
  log_analytics_destination_type = "Dedicated"

  enabled_log {
    category = "AuditEvent"
  }

  enabled_log {
    category = "AzurePolicyEvaluationDetails"
  }

  enabled_metric {
    category = "AllMetrics"
  }
}

resource "azurerm_private_dns_zone" "this" {
  count = local.new_zone ? 1 : 0

  name                = var.private_endpoint.private_dns_zone_name
  resource_group_name = var.resource_group_name
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  count = local.new_zone ? length(var.private_endpoint.virtual_network_ids) : 0

  name                = "keyvault-gateway-${count.index}"
  private_dns_zone_id = azurerm_private_dns_zone.this[0].id
  virtual_network_id  = var.private_endpoint.virtual_network_ids[count.index]
}

resource "azurerm_private_endpoint" "this" {
  count = var.private_endpoint == null ? 0 : 1

  name                = var.identity_name
  resource_group_name = var.resource_group_name
  location            = var.location
  subnet_id           = var.private_endpoint.subnet_id

  private_service_connection {
    name                           = var.identity_name
    private_connection_resource_id = local.vault_id
    subresource_names              = ["vault"]
    is_manual_connection           = false
  }

  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = [local.private_dns_zone_id]
  }
}

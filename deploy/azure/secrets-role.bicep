// The role of one identity on one vault. The vault belongs to the resource group of the deployment.

@description('Name of the vault, which has to use Azure RBAC.')
param vaultName string

@description('Object id of the identity.')
param principalId string

@description('Name, a GUID, of the role. Key Vault Secrets User, 4633458b-17de-408a-b874-0445c86b69e6, reads values (getSecret) and lists names and properties without values (readMetadata). custom-role.bicep makes a role with getSecret alone.')
param roleName string

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: vaultName
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, principalId, roleName)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleName)
    principalId: principalId
    // With the type, Azure does not look up the identity. That look-up can fail for a new identity.
    principalType: 'ServicePrincipal'
  }
}

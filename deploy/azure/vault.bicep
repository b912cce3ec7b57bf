// The vault, the identity that reads its secrets, and the log of who read which.

@description('Name of the vault: 3 to 24 letters, digits and hyphens, unique in all of Azure.')
@minLength(3)
@maxLength(24)
param vaultName string

@description('Name of the user-assigned identity that the gateway signs in with.')
param identityName string = 'keyvault-gateway'

@description('Azure region of the vault and the identity.')
param location string = resourceGroup().location

@description('Resource id of the Log Analytics workspace that gets the vault\'s log.')
param workspaceId string

@description('Days in which a deleted secret, or the deleted vault, can be brought back. It cannot be changed later.')
@minValue(7)
@maxValue(90)
param softDeleteRetentionInDays int = 90

@description('Whether the vault can be reached by its public address. With Disabled, the gateway needs a private endpoint.')
@allowed([
  'Enabled'
  'Disabled'
])
param publicNetworkAccess string = 'Enabled'

@description('Resource ids of the subnets, with the service endpoint Microsoft.KeyVault, from which alone the public address answers; empty for every network.')
param subnetIds array = []

// Key Vault Secrets User: reads the value of a secret (getSecret), and lists names and properties without values (readMetadata).
var secretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

// All control-plane versions before 2026-02-01 retire on 27 February 2027.
resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {
  name: vaultName
  location: location
  properties: {
    tenantId: subscription().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: softDeleteRetentionInDays
    enablePurgeProtection: true
    enabledForDeployment: false
    enabledForDiskEncryption: false
    enabledForTemplateDeployment: false
    publicNetworkAccess: publicNetworkAccess
    networkAcls: {
      bypass: 'None'
      defaultAction: empty(subnetIds) ? 'Allow' : 'Deny'
      ipRules: []
      virtualNetworkRules: [for subnetId in subnetIds: {
        id: subnetId
      }]
    }
  }
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: identityName
  location: location
}

resource mayRead 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, identity.id, secretsUser)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', secretsUser)
    principalId: identity.properties.principalId
    // An identity that was made a moment ago is not everywhere yet; with its type it need not be looked up.
    principalType: 'ServicePrincipal'
  }
}

resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'to-log-analytics'
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        category: 'AuditEvent'
        enabled: true
      }
      {
        category: 'AzurePolicyEvaluationDetails'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

@description('Address of the vault: KeyVaultUri of the gateway.')
output vaultUri string = vault.properties.vaultUri

@description('Resource id of the identity, to be assigned to the place where the gateway runs.')
output identityId string = identity.id

@description('Client id of the identity: AZURE_CLIENT_ID of the gateway.')
output identityClientId string = identity.properties.clientId

// A new vault, the identity that reads its secrets, and the log of each read with its caller.

import { federatedCredential } from 'identity.bicep'

@description('Name of the vault: 3 to 24 letters, digits and hyphens, unique in all of Azure.')
@minLength(3)
@maxLength(24)
param vaultName string

@description('Name of the user-assigned identity that the gateway signs in with.')
param identityName string = 'keyvault-gateway'

@description('Azure region of the vault and the identity.')
param location string = resourceGroup().location

@description('Resource id of the Log Analytics workspace that gets the log of the vault; empty for no log.')
param workspaceId string = ''

@description('Whether a deleted vault or secret stays until the end of its retention, for every account. Once on, it can never be switched off. false is for trials.')
param purgeProtection bool = true

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

@description('Name, a GUID, of the role on the vault. The default is Key Vault Secrets User; custom-role.bicep makes a role that allows less.')
param roleName string = '4633458b-17de-408a-b874-0445c86b69e6'

@description('Federated credentials of the identity.')
param federatedCredentials federatedCredential[] = []

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
    // Azure refuses the value false.
    enablePurgeProtection: purgeProtection ? true : null
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

module identity 'identity.bicep' = {
  name: 'keyvault-gateway-identity'
  params: {
    identityName: identityName
    location: location
    federatedCredentials: federatedCredentials
  }
}

module role 'secrets-role.bicep' = {
  name: 'keyvault-gateway-role'
  params: {
    vaultName: vault.name
    principalId: identity.outputs.identityPrincipalId
    roleName: roleName
  }
}

module log 'audit-log.bicep' = if (!empty(workspaceId)) {
  name: 'keyvault-gateway-log'
  params: {
    vaultName: vault.name
    workspaceId: workspaceId
  }
}

@description('Address of the vault: KeyVaultUri of the gateway.')
output vaultUri string = vault.properties.vaultUri

@description('Resource id of the vault.')
output vaultId string = vault.id

@description('Resource id of the identity, to be assigned to the place where the gateway runs.')
output identityId string = identity.outputs.identityId

@description('Client id of the identity: AZURE_CLIENT_ID of the gateway.')
output identityClientId string = identity.outputs.identityClientId

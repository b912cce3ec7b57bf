// An identity for the gateway, with its role on an existing vault. The identity belongs to the resource group of the deployment.
// The vault may be in another resource group of the subscription. The template does not change the vault itself.

import { federatedCredential } from 'identity.bicep'

@description('Name of the vault, which has to use Azure RBAC.')
param vaultName string

@description('Resource group of the vault.')
param vaultResourceGroup string = resourceGroup().name

@description('Name of the user-assigned identity that the gateway signs in with.')
param identityName string = 'keyvault-gateway'

@description('Azure region of the identity.')
param location string = resourceGroup().location

@description('Resource id of the Log Analytics workspace that gets the log of the vault; empty to leave the logs of the vault as they are.')
param workspaceId string = ''

@description('Name, a GUID, of the role on the vault. The default is Key Vault Secrets User; custom-role.bicep makes a role that allows less.')
param roleName string = '4633458b-17de-408a-b874-0445c86b69e6'

@description('Federated credentials of the identity.')
param federatedCredentials federatedCredential[] = []

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  scope: resourceGroup(vaultResourceGroup)
  name: vaultName
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
  scope: resourceGroup(vaultResourceGroup)
  params: {
    vaultName: vaultName
    principalId: identity.outputs.identityPrincipalId
    roleName: roleName
  }
}

module log 'audit-log.bicep' = if (!empty(workspaceId)) {
  name: 'keyvault-gateway-log'
  scope: resourceGroup(vaultResourceGroup)
  params: {
    vaultName: vaultName
    workspaceId: workspaceId
  }
}

@description('Address of the vault: KeyVaultUri of the gateway.')
output vaultUri string = vault.properties.vaultUri

@description('Whether the vault uses Azure RBAC. If it is false, the role has no effect: the vault has access policies.')
output vaultUsesRbac bool = vault.properties.?enableRbacAuthorization ?? false

@description('Resource id of the identity, to be assigned to the place where the gateway runs.')
output identityId string = identity.outputs.identityId

@description('Client id of the identity: AZURE_CLIENT_ID of the gateway.')
output identityClientId string = identity.outputs.identityClientId

// A role that reads values of secrets by name and can do nothing else: no list of names, which Key Vault Secrets User has. It is
// one for the subscription. The name of the role, an output, is the parameter roleName of the other templates.

targetScope = 'subscription'

@description('Display name of the role, unique in the tenant.')
param displayName string = 'Key Vault Gateway Secret Reader'

resource role 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, displayName)
  properties: {
    roleName: displayName
    description: 'Reads the value of a secret by its name. Lists nothing and changes nothing.'
    type: 'CustomRole'
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/secrets/getSecret/action'
        ]
        notDataActions: []
      }
    ]
    assignableScopes: [
      subscription().id
    ]
  }
}

@description('Name, a GUID, of the role.')
output roleName string = role.name

// A role that can only read values of secrets by name. Key Vault Secrets User can list names as well. A subscription needs the
// role once. The output is the name of the role, for the parameter roleName of the other templates.

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

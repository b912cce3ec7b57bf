// The gateway as an app of Azure Container Apps, with a user-assigned identity. deploy/azure/vault.bicep makes the vault and
// the identity; deploy/azure/existing-vault.bicep makes the identity for an existing vault.

@description('Name of the container app.')
param name string = 'keyvault-gateway'

@description('Azure region of the container app.')
param location string = resourceGroup().location

@description('Resource id of the Container Apps environment that the app belongs to.')
param environmentId string

@description('Image of the gateway, with its tag or, better, its digest.')
param image string

@description('Login server of the registry of the image, to be pulled from with the identity, which needs the role AcrPull there; empty for a public registry.')
param registryServer string = ''

@description('Resource id of the user-assigned identity that may read the vault.')
param identityId string

@description('Client id of the same identity. Container Apps asks for the system-assigned identity if none is selected.')
param identityClientId string

@description('Address of the vault, https://my-vault.vault.azure.net.')
param vaultUri string

@description('Address in Key Vault of the secret with the callers\' key, https://my-vault.vault.azure.net/secrets/name; empty if callers have tokens or anonymous access.')
param gatewayKeySecretUri string = ''

@description('Callers, as the JSON list that the page "Settings" describes: GATEWAY_CALLERS. It has hashes of keys and no keys.')
param gatewayCallers string = ''

@description('Tenant of callers with access tokens of Entra ID: GATEWAY_JWT_TENANT; empty if callers have keys.')
param callerTokenTenant string = ''

@description('Audience of these tokens: GATEWAY_JWT_AUDIENCE; empty if callers have keys.')
param callerTokenAudience string = ''

@description('Issuers of tokens of callers\' platforms, as the JSON list that the page "Settings" describes: GATEWAY_OIDC; empty for none.')
param gatewayOidc string = ''

@description('Whether the app can be reached from outside its environment.')
param external bool = false

@description('Address ranges, 203.0.113.7/32, from which alone the app answers; empty for all. For an app with external=true.')
param allowedAddressRanges array = []

@description('Fewest replicas. Each has a cache of its own, which is empty at its start.')
@minValue(1)
param minReplicas int = 2

@description('Most replicas.')
@minValue(1)
param maxReplicas int = 10

@description('Concurrent requests of one replica beyond which Container Apps adds another one.')
@minValue(1)
param concurrentRequests int = 100

var hasKey = !empty(gatewayKeySecretUri)

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    environmentId: environmentId
    configuration: {
      activeRevisionsMode: 'Single'
      ingress: {
        external: external
        targetPort: 8080
        transport: 'http'
        allowInsecure: false
        ipSecurityRestrictions: [for (range, at) in allowedAddressRanges: {
          name: 'allowed-${at}'
          action: 'Allow'
          ipAddressRange: range
        }]
      }
      registries: empty(registryServer) ? [] : [
        {
          server: registryServer
          identity: identityId
        }
      ]
      secrets: hasKey ? [
        {
          name: 'gateway-key'
          keyVaultUrl: gatewayKeySecretUri
          identity: identityId
        }
      ] : []
    }
    template: {
      // The host gives requests in progress 15 seconds.
      terminationGracePeriodSeconds: 20
      containers: [
        {
          name: 'gateway'
          image: image
          args: ['--max-connections', '1000']
          resources: {
            // The smallest size of Container Apps. The component runs on one thread.
            cpu: json('0.25')
            memory: '0.5Gi'
          }
          env: concat([
            {
              name: 'KeyVaultUri'
              value: vaultUri
            }
            {
              name: 'AZURE_CLIENT_ID'
              value: identityClientId
            }
            {
              // The ingress adds X-Forwarded-For and similar headers to every request.
              name: 'GATEWAY_TRUST_FORWARDED'
              value: 'true'
            }
            {
              name: 'GATEWAY_CALLERS'
              value: gatewayCallers
            }
            // An empty setting counts as not set.
            {
              name: 'GATEWAY_JWT_TENANT'
              value: callerTokenTenant
            }
            {
              name: 'GATEWAY_JWT_AUDIENCE'
              value: callerTokenAudience
            }
            {
              name: 'GATEWAY_OIDC'
              value: gatewayOidc
            }
          ], hasKey ? [
            {
              name: 'GATEWAY_KEY'
              secretRef: 'gateway-key'
            }
          ] : [])
          probes: [
            {
              type: 'Liveness'
              httpGet: {
                path: '/healthz'
                port: 8080
              }
              periodSeconds: 10
              timeoutSeconds: 2
              failureThreshold: 3
            }
            {
              type: 'Readiness'
              httpGet: {
                path: '/readyz'
                port: 8080
              }
              periodSeconds: 10
              timeoutSeconds: 5
              failureThreshold: 3
            }
          ]
        }
      ]
      scale: {
        minReplicas: minReplicas
        maxReplicas: maxReplicas
        rules: [
          {
            name: 'http'
            http: {
              metadata: {
                concurrentRequests: string(concurrentRequests)
              }
            }
          }
        ]
      }
    }
  }
}

@description('Host name of the app.')
output fqdn string = app.properties.configuration.ingress.fqdn

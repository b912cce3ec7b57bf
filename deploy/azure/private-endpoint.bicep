// A private endpoint for the vault, and the private DNS zone by which a virtual network finds it.

@description('Resource id of the vault.')
param vaultId string

@description('Name of the private endpoint.')
param name string = 'keyvault-gateway'

@description('Azure region of the private endpoint, which is that of its virtual network.')
param location string = resourceGroup().location

@description('Resource id of the subnet that the private endpoint gets its address from.')
param subnetId string

@description('Resource id of a private DNS zone that exists, for example that of a hub network; empty to make one here.')
param privateDnsZoneId string = ''

@description('Name of the private DNS zone: privatelink.vaultcore.azure.net, in the cloud of US Government privatelink.vaultcore.usgovcloudapi.net, in that of China privatelink.vaultcore.azure.cn.')
param privateDnsZoneName string = 'privatelink.vaultcore.azure.net'

@description('Resource ids of the virtual networks that find the vault by a zone that is made here: each network that the gateway runs in.')
param virtualNetworkIds array = []

var makeZone = empty(privateDnsZoneId)

resource zone 'Microsoft.Network/privateDnsZones@2020-06-01' = if (makeZone) {
  name: privateDnsZoneName
  location: 'global'
}

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01' = [for virtualNetworkId in virtualNetworkIds: if (makeZone) {
  parent: zone
  name: '${last(split(virtualNetworkId, '/'))}-${uniqueString(virtualNetworkId)}'
  location: 'global'
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: virtualNetworkId
    }
  }
}]

resource endpoint 'Microsoft.Network/privateEndpoints@2024-05-01' = {
  name: name
  location: location
  properties: {
    subnet: {
      id: subnetId
    }
    privateLinkServiceConnections: [
      {
        name: name
        properties: {
          privateLinkServiceId: vaultId
          groupIds: [
            'vault'
          ]
        }
      }
    ]
  }
}

resource zoneGroup 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: 'vault'
        properties: {
          privateDnsZoneId: makeZone ? zone.id : privateDnsZoneId
        }
      }
    ]
  }
}

@description('Resource id of the private endpoint.')
output privateEndpointId string = endpoint.id

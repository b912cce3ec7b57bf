// The identity of the gateway, and its federated credentials. With these, workloads that Azure does not give an identity sign in
// as it: a service account of Kubernetes, a workflow of GitHub.

@export()
@description('Issuer and subject of a token that may be exchanged for a token of the identity. Entra ID compares all three values letter by letter.')
type federatedCredential = {
  @description('Name of the credential.')
  name: string

  @description('Issuer of the token, as in its claim iss. That of an AKS cluster ends with a slash.')
  issuer: string

  @description('Subject of the token, as in its claim sub: system:serviceaccount:NAMESPACE:NAME.')
  subject: string

  @description('Audience of the token, as in its claim aud. The default is that of the public cloud.')
  audience: string?
}

@description('Name of the user-assigned identity that the gateway signs in with.')
param identityName string = 'keyvault-gateway'

@description('Azure region of the identity.')
param location string = resourceGroup().location

@description('Federated credentials of the identity, 20 at most.')
@maxLength(20)
param federatedCredentials federatedCredential[] = []

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: identityName
  location: location
}

// One after the other: Azure does not support concurrent changes of the credentials of one identity.
@batchSize(1)
resource credentials 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = [for credential in federatedCredentials: {
  parent: identity
  name: credential.name
  properties: {
    issuer: credential.issuer
    subject: credential.subject
    audiences: [
      credential.?audience ?? 'api://AzureADTokenExchange'
    ]
  }
}]

@description('Resource id of the identity, to be assigned to the place where the gateway runs.')
output identityId string = identity.id

@description('Client id of the identity: AZURE_CLIENT_ID of the gateway.')
output identityClientId string = identity.properties.clientId

@description('Object id of the identity, which role assignments name.')
output identityPrincipalId string = identity.properties.principalId

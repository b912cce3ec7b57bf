// The log of a vault: each call, with the identity and the address of the caller. The vault belongs to the resource group of the
// deployment.

@description('Name of the vault.')
param vaultName string

@description('Resource id of the Log Analytics workspace that gets the log.')
param workspaceId string

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: vaultName
}

resource log 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'to-log-analytics'
  properties: {
    workspaceId: workspaceId
    // The tables AZKVAuditLogs and AZKVPolicyEvaluationDetailsLogs instead of AzureDiagnostics.
    logAnalyticsDestinationType: 'Dedicated'
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

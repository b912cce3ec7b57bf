// Alerts on the log of the gateway, for platforms on which /metrics has the counts of only one of several instances.
// docs/how-to/monitor has these queries and the reasons for the thresholds, docs/reference/errors.md what to do for each code.

@description('Resource id of the Log Analytics workspace that has the log.')
param workspaceId string

@description('Azure region of the rules, which is that of the workspace.')
param location string = resourceGroup().location

@description('Table of the workspace that has the log. docs/how-to/monitor/container-apps.md says which it is where.')
@allowed([
  'ContainerAppConsoleLogs_CL'
  'ContainerAppConsoleLogs'
  'ContainerLogV2'
  'AppTraces'
  'AppServiceConsoleLogs'
])
param table string = 'ContainerAppConsoleLogs_CL'

@description('Name of what the gateway runs as: the container app, the namespace in Kubernetes, the function app or the web app.')
@minLength(1)
param name string = 'keyvault-gateway'

@description('Resource ids of the action groups for alerts that need an operator at once.')
param pageActionGroupIds array

@description('Resource ids of the action groups for alerts that can wait until working hours; empty: these alerts notify no operator.')
param ticketActionGroupIds array = []

@description('Whether probes ask the gateway all the time, so that a log without lines is an alert.')
param probed bool = true

// Selects the lines of the gateway, and names their text.
var sources = {
  ContainerAppConsoleLogs_CL: 'ContainerAppConsoleLogs_CL | where ContainerAppName_s == "${name}" | extend text = Log_s'
  ContainerAppConsoleLogs: 'ContainerAppConsoleLogs | where ContainerAppName == "${name}" | extend text = Log'
  ContainerLogV2: 'ContainerLogV2 | where PodNamespace == "${name}" | extend text = tostring(LogMessage)'
  AppTraces: 'AppTraces | where AppRoleName =~ "${name}" | extend text = Message'
  AppServiceConsoleLogs: 'AppServiceConsoleLogs | where _ResourceId endswith "/sites/${name}" | extend text = ResultDescription'
}

// Parses the lines. A line may have a prefix before its JSON. Lines of other programs have no code.
var read = '''
    | where text has "upstream"
    | extend line = parse_json(substring(text, indexof(text, "{")))
    | project TimeGenerated, code = tostring(line.code), codes = tostring(line.codes), status = toint(line.status),
        found = tostring(line.cache), upstream = tolong(line.upstream)
    | where isnotempty(code);
'''

// Azure Monitor evaluates each rule every five minutes. It fires if each of the last `periods` windows is bad. A rule with `by`
// fires for each value of that column.
var rules = [
  {
    name: 'KeyVaultGatewayMisconfigured'
    description: 'A setting is missing or wrong: no request for a secret is answered.'
    query: 'lines | where code in ("ConfigurationError", "InternalError")'
    by: 'code'
    aggregation: 'Count'
    column: ''
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT5M'
    periods: 1
    severity: 1
  }
  {
    name: 'KeyVaultGatewayNoAccess'
    description: 'The token source or the vault has refused for more than ten minutes.'
    query: 'lines | where code in ("IdentityError", "VaultError", "VaultAccessDenied")'
    by: 'code'
    aggregation: 'Count'
    column: ''
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT5M'
    periods: 3
    severity: 1
  }
  {
    name: 'KeyVaultGatewayItemsFail'
    description: 'In requests for several secrets, some have failed because of Azure for more than ten minutes.'
    query: 'lines | where codes has_any ("IdentityError", "VaultError", "VaultAccessDenied", "IdentityThrottled", "VaultThrottled", "Unavailable", "Timeout")'
    by: ''
    aggregation: 'Count'
    column: ''
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT5M'
    periods: 3
    severity: 1
  }
  {
    name: 'KeyVaultGatewayFailing'
    description: 'More than one request in a hundred is answered with a status of 500 or more.'
    query: 'lines | extend failed = iff(status >= 500, 100, 0)'
    by: ''
    aggregation: 'Average'
    column: 'failed'
    operator: 'GreaterThan'
    threshold: 1
    window: 'PT5M'
    periods: 2
    severity: 1
  }
  {
    name: 'KeyVaultGatewayServesStale'
    description: 'Azure has failed for more than ten minutes, and values past their time are served.'
    query: 'lines | where found == "served-stale"'
    by: ''
    aggregation: 'Count'
    column: ''
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT5M'
    periods: 3
    severity: 1
  }
  {
    name: 'KeyVaultGatewayNearTheLimit'
    description: 'Calls to Azure are half of what one vault answers.'
    query: 'lines'
    by: ''
    aggregation: 'Total'
    column: 'upstream'
    operator: 'GreaterThan'
    threshold: 60000
    window: 'PT5M'
    periods: 2
    severity: 3
  }
  {
    name: 'KeyVaultGatewayThrottled'
    description: 'The token source or the vault has throttled for more than five minutes.'
    query: 'lines | where code in ("VaultThrottled", "IdentityThrottled")'
    by: 'code'
    aggregation: 'Count'
    column: ''
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT5M'
    periods: 2
    severity: 3
  }
  {
    name: 'KeyVaultGatewayCallersLimited'
    description: 'A client guesses keys, one with an old key does not stop, or a caller has spent its budget of calls.'
    query: 'lines | where code == "TooManyRequests" or codes has "TooManyRequests"'
    by: ''
    aggregation: 'Count'
    column: ''
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT5M'
    periods: 2
    severity: 3
  }
  {
    name: 'KeyVaultGatewayRefusesCallers'
    description: 'A caller with a wrong key or scope asks on and on.'
    query: 'lines | extend refused = iff(code in ("Unauthorized", "Forbidden"), 1, tolong(parse_json(codes).Forbidden)) | where refused > 0 | extend code = iff(isempty(codes), code, "Forbidden")'
    by: 'code'
    aggregation: 'Total'
    column: 'refused'
    operator: 'GreaterThan'
    threshold: 10
    window: 'PT10M'
    periods: 2
    severity: 3
  }
  {
    name: 'KeyVaultGatewaySilent'
    description: 'The log has had no line for 15 minutes: the gateway is down, or its log does not arrive, and no other rule can fire.'
    query: 'lines | summarize requests = count()'
    by: ''
    aggregation: 'Total'
    column: 'requests'
    operator: 'LessThan'
    threshold: 1
    window: 'PT15M'
    periods: 1
    severity: 1
  }
]

resource alerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in rules: {
  name: '${rule.name}-${name}'
  location: location
  kind: 'LogAlert'
  properties: {
    displayName: '${rule.name} (${name})'
    description: rule.description
    enabled: probed || rule.name != 'KeyVaultGatewaySilent'
    severity: rule.severity
    scopes: [
      workspaceId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: rule.window
    criteria: {
      allOf: [
        union({
          query: 'let lines = ${sources[table]}\n${read}${rule.query}'
          timeAggregation: rule.aggregation
          operator: rule.operator
          threshold: rule.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: rule.periods
            minFailingPeriodsToAlert: rule.periods
          }
        }, empty(rule.column) ? {} : {
          metricMeasureColumn: rule.column
        }, empty(rule.by) ? {} : {
          dimensions: [
            {
              name: rule.by
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
        })
      ]
    }
    autoMitigate: true
    actions: {
      actionGroups: rule.severity == 1 ? pageActionGroupIds : ticketActionGroupIds
    }
  }
}]

@description('Names of the rules.')
output ruleNames array = [for (rule, at) in rules: alerts[at].name]

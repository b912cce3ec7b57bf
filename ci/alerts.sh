#!/usr/bin/env bash
# Tests deploy/alerts/alerts.jq with logs that fire no alert and logs that fire each alert. Needs jq.
set -euo pipefail
cd "$(dirname "$0")/.."
# lines COUNT STATUS CODE CACHE UPSTREAM: prints COUNT lines for each of the last 20 minutes.
lines() {
  jq -cn --arg count "$1" --arg status "$2" --arg code "$3" --arg cache "$4" --arg upstream "$5" '
    range(20) as $minute | range($count | tonumber)
    | {time: (1000000 - $minute * 60 - 30 | todate), status: ($status | tonumber), code: $code, cache: $cache,
       upstream: ($upstream | tonumber)}'
}
fires() {
  local found
  found="$({ lines 2 200 OK hit 0; cat; } | sed 's/^/stderr [0] :: /' | jq -Rrn --argjson now 1000000 -f deploy/alerts/alerts.jq)"
  [[ $found == "$1" ]] || { printf 'error: got the alerts "%s", expected "%s"\n' "$found" "$1" >&2; exit 1; }
}
fires '' < /dev/null
lines 1 400 ConfigurationError '' 0 | fires $'KeyVaultGatewayMisconfigured\tpage\tConfigurationError'
lines 1 403 VaultAccessDenied miss 1 | fires $'KeyVaultGatewayNoAccess\tpage\tVaultAccessDenied'
lines 1 200 OK '' 4 | jq -c '.codes = {OK: 3, VaultError: 1}' | fires $'KeyVaultGatewayItemsFail\tpage'
lines 1 200 OK '' 4 | jq -c '.codes = {OK: 3, SecretNotFound: 1}' | fires ''
lines 1 503 Unavailable miss 1 | fires $'KeyVaultGatewayFailing\tpage'
lines 1 200 OK served-stale 1 | fires $'KeyVaultGatewayServesStale\tpage'
lines 1 200 OK miss 20000 | fires $'KeyVaultGatewayNearTheLimit\tticket'
lines 1 403 VaultThrottled miss 1 | fires $'KeyVaultGatewayThrottled\tticket\tVaultThrottled'
lines 1 429 TooManyRequests '' 0 | fires $'KeyVaultGatewayCallersLimited\tticket'
lines 1 200 OK '' 4 | jq -c '.codes = {OK: 3, TooManyRequests: 1}' | fires $'KeyVaultGatewayCallersLimited\tticket'
lines 2 401 Unauthorized '' 0 | fires $'KeyVaultGatewayRefusesCallers\tticket\tUnauthorized'
lines 1 200 OK '' 0 | jq -c '.codes = {Forbidden: 50}' | fires $'KeyVaultGatewayRefusesCallers\tticket\tForbidden'

# The script of the timer: it prints what fires, and fails then, and without a journal.
journal="$(mktemp -d)"
trap 'rm -r "$journal"' EXIT
printf '#!/bin/sh\ncat "%s/lines"\n' "$journal" > "$journal/journalctl"
chmod +x "$journal/journalctl"
: > "$journal/lines"
PATH="$journal:$PATH" deploy/alerts/alerts.sh
jq -cn '{time: (now - 10 | todate), status: 500, code: "ConfigurationError", upstream: 0}' > "$journal/lines"
if found="$(PATH="$journal:$PATH" deploy/alerts/alerts.sh)"; then
  echo 'error: alerts.sh succeeds while an alert fires' >&2
  exit 1
fi
[[ $found == KeyVaultGatewayMisconfigured* ]] || { printf 'error: alerts.sh prints "%s"\n' "$found" >&2; exit 1; }
printf '#!/bin/sh\nexit 1\n' > "$journal/journalctl"
if PATH="$journal:$PATH" deploy/alerts/alerts.sh; then
  echo 'error: alerts.sh succeeds while the journal cannot be read' >&2
  exit 1
fi

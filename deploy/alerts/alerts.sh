#!/usr/bin/env bash
# Prints the alerts that fire now, from the journal of the last 20 minutes, and fails if there is one, or if the journal cannot be
# read. keyvault-gateway-alerts.timer runs it every five minutes. It needs jq.
set -euo pipefail
rules="$(dirname "$0")/alerts.jq"
alerts="$(journalctl --unit keyvault-gateway --output cat --since -20min | jq -Rrn --argjson now "$(date +%s)" -f "$rules")"
[[ -z $alerts ]] || { printf '%s\n' "$alerts"; exit 1; }

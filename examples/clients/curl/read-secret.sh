#!/bin/sh
# Reads one secret from the gateway and prints it. Needs curl 7.66 or later, and jq.
#
# Usage: read-secret.sh NAME
# Environment: GATEWAY_URL, and GATEWAY_KEY (an API key) or GATEWAY_TOKEN (an access token).
set -eu

name=$1
url=${GATEWAY_URL%/}/api/GetKeyVaultSecret

# The credential goes through standard input: other processes can read a command line.
credential() {
    if [ -n "${GATEWAY_KEY:-}" ]; then
        printf 'x-functions-key: %s\n' "$GATEWAY_KEY"
    else
        printf 'Authorization: Bearer %s\n' "$GATEWAY_TOKEN"
    fi
}

# --retry repeats 408, 429, 500, 502, 503, 504 and timeouts, after Retry-After or 1, 2 and 4 seconds; it has no jitter.
# --max-time is for one try: longer than GATEWAY_DEADLINE_SECONDS, which is 10 by default.
# Without --location curl follows no redirect, which would send the credential to another address.
response=$(
    credential | curl --silent --show-error --fail --header @- --header 'Content-Type: application/json' \
        --data "$(jq --null-input --compact-output --arg name "$name" '{Secret: $name}')" \
        --retry 3 --retry-max-time 60 --max-time 15 "$url"
)
printf '%s' "$response" | jq --null-input --raw-output 'input.Value // error("an answer from another server")'

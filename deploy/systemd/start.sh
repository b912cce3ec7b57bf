#!/bin/sh
# Starts the gateway under systemd. A credential of the unit becomes the setting that it is named after, unless it is empty. A
# variable that is only named is passed on if it is there, and its value is in no command line.
set -eu

for credential in "${CREDENTIALS_DIRECTORY:-/nonexistent}"/*; do
    [ -f "$credential" ] || continue
    value=$(cat "$credential")
    [ -z "$value" ] || export "${credential##*/}=$value"
done

# The allocator has a part of the memory for each thread by itself, and keeps what was freed in each.
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"

cd "$(dirname "$0")"
exec wasmtime serve \
    --addr 127.0.0.1:8080 \
    --max-instance-reuse-count 1000000 \
    --max-instance-concurrent-reuse-count 128 \
    --idle-instance-timeout 3600s \
    --max-concurrent-requests 64 \
    --no-logging-prefix \
    -S cli \
    -W max-memory-size=67108864 -W timeout=30s \
    --env KeyVaultUri --env KEY_VAULT_URI \
    --env KEY_VAULT_RESOURCE --env KEY_VAULT_API_VERSION \
    --env IDENTITY_SOURCE --env IDENTITY_ENDPOINT \
    --env IDENTITY_HEADER --env MSI_ENDPOINT \
    --env MSI_SECRET --env DEFAULT_IDENTITY_CLIENT_ID \
    --env AZURE_TENANT_ID --env AZURE_CLIENT_SECRET \
    --env AZURE_AUTHORITY_HOST --env AZURE_POD_IDENTITY_AUTHORITY_HOST \
    --env AZURE_CLIENT_ID --env IDENTITY_OBJECT_ID \
    --env IDENTITY_RESOURCE_ID --env IDENTITY_SERVER_THUMBPRINT \
    --env IMDS_ENDPOINT --env AZURE_FEDERATED_TOKEN_FILE \
    --env GATEWAY_KEY --env GATEWAY_CALLERS \
    --env GATEWAY_ALLOW_ANONYMOUS --env GATEWAY_TRUST_FORWARDED \
    --env GATEWAY_ALLOWED_HOSTS --env GATEWAY_CALLER_CALLS_PER_SECOND \
    --env GATEWAY_JWT_TENANT --env GATEWAY_JWT_AUDIENCE \
    --env GATEWAY_DEADLINE_SECONDS --env GATEWAY_LOG \
    --env GATEWAY_CACHE_TTL_SECONDS --env GATEWAY_STALE_SECONDS \
    --env GATEWAY_NEGATIVE_TTL_SECONDS --env GATEWAY_CACHE_ENTRIES \
    --env GATEWAY_STORE --env GATEWAY_STORE_KEY \
    service.wasm

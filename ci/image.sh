#!/usr/bin/env bash
# Builds the container image of a release for the architecture of this machine, and runs it: ci/image.sh [FOLDER [IMAGE]]
# The folder of the release is target/dist without one. Needs Docker with BuildKit.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-target/dist}"
image="${2:-keyvault-gateway:local}"
docker build --file "$folder/deploy/container/Containerfile" --tag "$image" "$folder"
# The settings are right, so the host prints what they mean and ends with exit code 0. It makes no call.
docker run --rm --read-only --network none --env KeyVaultUri=https://my-vault.vault.azure.net --env GATEWAY_KEY=not-a-key \
  "$image" --check
# A setting is missing: exit code 2, and its name in the log.
code=0
problem="$(docker run --rm --read-only --network none "$image" --check 2>&1)" || code=$?
if [[ $code != 2 || $problem != *KeyVaultUri* ]]; then
  printf 'error: without settings the image ends with exit code %s:\n%s\n' "$code" "$problem" >&2
  exit 1
fi
echo "$image"

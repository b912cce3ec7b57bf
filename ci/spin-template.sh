#!/usr/bin/env bash
# Makes the application `my-app` of the Spin template in the new folder "$1", as `spin new` does with the defaults.
set -euo pipefail
cp -r "$(dirname "$0")/../templates/keyvault-gateway/content" "$1"
mv "$1/Cargo.toml.tmpl" "$1/Cargo.toml"
find "$1" -type f -exec sed -i \
  -e 's/{{project-name | snake_case}}/my_app/g' -e 's/{{project-name\( | kebab_case\)\?}}/my-app/g' \
  -e 's/{{project-description}}//g' -e 's|{{http-path}}|/...|g' -e 's/{{secret-name}}/db-password/g' \
  -e 's|{{key-vault-uri}}|https://my-vault.vault.azure.net|g' {} +
! grep -rn '{{' "$1"

#!/usr/bin/env bash
# Builds HEAD in two clean clones and compares the bytes of the components: ci/reproduce.sh [NAME ...]
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- proxy service token-file proxy-federated service-federated proxy-spin service-spin config-store
commit="$(git rev-parse HEAD)"
echo "building $commit in two clean clones, without uncommitted changes"
# The builds use no variables of Cargo and rustc, and no Cargo configuration of a parent directory.
unset CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR CARGO_ENCODED_RUSTFLAGS RUSTFLAGS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
folder="$(mktemp -d)"
# Paths of different lengths and depths, so that a path in a component makes a difference.
clones=("$folder/first" "$folder/the-second/in-another-folder")
for clone in "${clones[@]}"; do
  git clone --quiet --no-local . "$clone"
  git -C "$clone" checkout --quiet --detach "$commit"
  (cd "$clone" && exec cargo xtask build "$@")
done
diff --recursive "${clones[0]}/target/components" "${clones[1]}/target/components"
(cd "${clones[0]}/target/components" && sha256sum -- *.wasm)
rm -rf "$folder"

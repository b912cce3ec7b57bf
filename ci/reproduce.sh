#!/usr/bin/env bash
# Builds HEAD in two clean clones and compares the bytes of the components: ci/reproduce.sh [NAME ...]
set -euo pipefail
cd "$(dirname "$0")/.."
commit="$(git rev-parse HEAD)"
echo "building $commit in two clean clones; changes that are not committed are not in it"
# No variable tells these builds how to build, and no folder above them has settings of Cargo.
unset CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR CARGO_ENCODED_RUSTFLAGS RUSTFLAGS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
folder="$(mktemp -d)"
# Of different lengths and depths, so that a path in a component would show.
clones=("$folder/first" "$folder/the-second/in-another-folder")
for clone in "${clones[@]}"; do
  git clone --quiet --no-local . "$clone"
  git -C "$clone" checkout --quiet --detach "$commit"
  (cd "$clone" && exec cargo xtask build "$@")
done
diff --recursive "${clones[0]}/target/components" "${clones[1]}/target/components"
(cd "${clones[0]}/target/components" && sha256sum -- *.wasm)
rm -rf "$folder"

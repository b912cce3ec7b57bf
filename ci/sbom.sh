#!/usr/bin/env bash
# Writes target/sbom/NAME.cdx.json, the bill of materials of each component and of the gateway's own host.
# Needs `cargo install --locked cargo-cyclonedx@0.5.9`.
set -euo pipefail
cd "$(dirname "$0")/.."
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
root="$PWD"
mkdir -p target/sbom
# cargo-cyclonedx describes each member of a workspace, so it gets a workspace with one package.
workspace="$(mktemp -d)"
trap 'rm -rf "$workspace"' EXIT
cp Cargo.toml Cargo.lock "$workspace"
mkdir -p "$workspace/src" "$workspace"/crates/{config-store,token-file,host}/src
touch "$workspace/src/lib.rs" "$workspace"/crates/{config-store,token-file,host}/src/lib.rs "$workspace/crates/host/src/main.rs"
for package in config-store token-file host; do
  cp "crates/$package/Cargo.toml" "$workspace/crates/$package"
done
sed -i -e '/path = "crates\//d' -e '/^toml/d' "$workspace/Cargo.toml"
describe() {
  sed -i "s,^members = .*,members = [$3]," "$workspace/Cargo.toml"
  (cd "$workspace/$2" && cargo cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps \
    --target "${5:-wasm32-wasip2}" --no-default-features --features "$4" --override-filename bill)
  # The only local path in it is the directory of the package.
  sed "s,$workspace,/gateway,g" "$workspace/$2/bill.json" > "$root/target/sbom/$1.cdx.json"
}
describe proxy . '' proxy
describe service . '' service
describe token-file crates/token-file '"crates/token-file"' component
# Without the reader of token files that is composed with them.
describe proxy-federated . '' proxy,federated
describe service-federated . '' service,federated
describe proxy-spin . '' proxy,spin
describe service-spin . '' service,spin
describe config-store crates/config-store '"crates/config-store"' component
# Without the component that is embedded in it, which is `service-federated`.
describe linux-x64 crates/host '"crates/host"' '' x86_64-unknown-linux-gnu
describe linux-arm64 crates/host '"crates/host"' '' aarch64-unknown-linux-gnu

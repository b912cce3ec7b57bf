#!/usr/bin/env bash
# Writes target/sbom/NAME.cdx.json: the crates of each component, as cargo-cyclonedx lists them.
# Needs `cargo install --locked cargo-cyclonedx@0.5.9`.
set -euo pipefail
cd "$(dirname "$0")/.."
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
root="$PWD"
mkdir -p target/sbom
# cargo-cyclonedx describes every member of a workspace, so it gets one that has the described package only.
alone="$(mktemp -d)"
trap 'rm -rf "$alone"' EXIT
cp Cargo.toml Cargo.lock "$alone"
mkdir -p "$alone/src" "$alone/crates/config-store/src"
touch "$alone/src/lib.rs" "$alone/crates/config-store/src/lib.rs"
cp crates/config-store/Cargo.toml "$alone/crates/config-store"
sed -i -e '/path = "crates\//d' -e '/^toml/d' "$alone/Cargo.toml"
describe() {
  sed -i "s,^members = .*,members = [$3]," "$alone/Cargo.toml"
  (cd "$alone/$2" && cargo cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps \
    --target wasm32-wasip2 --no-default-features --features "$4" --override-filename bill)
  # The only place of the machine in it is the folder of the package.
  sed "s,$alone,/gateway,g" "$alone/$2/bill.json" > "$root/target/sbom/$1.cdx.json"
}
describe proxy . '' proxy
describe service . '' service
describe proxy-spin . '' proxy,spin
describe service-spin . '' service,spin
describe config-store crates/config-store '"crates/config-store"' component

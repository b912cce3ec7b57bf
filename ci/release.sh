#!/usr/bin/env bash
# Builds a release in target/dist, and an archive of it. docs/contributing/release.md lists the content.
# Needs `cargo install --locked cargo-cyclonedx@0.5.9 wkg@0.16.1`.
set -euo pipefail
cd "$(dirname "$0")/.."
version="$(cargo pkgid keyvault-gateway)"
version="${version##*[#@]}"
name="keyvault-gateway-$version"
dist=target/dist
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
# A filled-in template or another local file can contain secrets.
uncommitted="$(git status --porcelain --ignored --untracked-files=all -- deploy wit/gateway spin.toml LICENSE CHANGELOG.md)"
if [[ -n $uncommitted ]]; then
  printf 'error: a release would publish uncommitted files:\n%s\n' "$uncommitted" >&2
  exit 1
fi
rm -rf "$dist"
mkdir -p "$dist/wit"
components=(proxy service token-file proxy-federated service-federated proxy-spin service-spin config-store)
cargo xtask build "${components[@]}"
ci/sbom.sh
# The workflow brings the own host from a machine of each architecture.
[[ -d target/hosts ]] || ci/host.sh
for host in target/hosts/*; do
  install -m 0755 "$host" "$dist/$name-${host##*/}"
  cp "target/sbom/${host##*/}.cdx.json" "$dist/$name-${host##*/}.cdx.json"
done
for component in "${components[@]}"; do
  cp "target/components/$component.wasm" "$dist/$name-$component.wasm"
  cp "target/sbom/$component.cdx.json" "$dist/$name-$component.cdx.json"
done
cp -r deploy LICENSE CHANGELOG.md "$dist"
cp wit/gateway/*.wit "$dist/wit"
# In target/, because wkg writes a lock file.
(cd target && wkg wit build --wit-dir ../wit/gateway --output "dist/$name-wit.wasm")
# Without the build commands, and with the path of the component in the release.
sed -e '/^\[component\..*\.build\]$/,$d' -e "s,^source = .*,source = \"$name-proxy-spin.wasm\"," spin.toml > "$dist/spin.toml"
(cd "$dist" && find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum) > target/SHA256SUMS
mv target/SHA256SUMS "$dist"
# A reproducible archive.
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX \
  --transform="s,^dist,$name," -C target -c dist | gzip --no-name > "target/$name.tar.gz"
echo "$dist and target/$name.tar.gz"

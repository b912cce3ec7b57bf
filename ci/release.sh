#!/usr/bin/env bash
# Puts a release together in target/dist, and as one file beside it. docs/release.md says what is in it.
# Needs `cargo install --locked cargo-cyclonedx@0.5.9 wkg@0.16.1`.
set -euo pipefail
cd "$(dirname "$0")/.."
version="$(cargo pkgid keyvault-gateway)"
version="${version##*[#@]}"
name="keyvault-gateway-$version"
dist=target/dist
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
# A template that is filled in, or a file beside one, would be published with its secrets.
others="$(git status --porcelain --ignored --untracked-files=all -- deploy wit/gateway spin.toml LICENSE CHANGELOG.md)"
if [[ -n $others ]]; then
  printf 'error: a release would publish what is not committed:\n%s\n' "$others" >&2
  exit 1
fi
rm -rf "$dist"
mkdir -p "$dist/wit"
components=(proxy service proxy-spin service-spin config-store)
cargo xtask build "${components[@]}"
ci/sbom.sh
for component in "${components[@]}"; do
  cp "target/components/$component.wasm" "$dist/$name-$component.wasm"
  cp "target/sbom/$component.cdx.json" "$dist/$name-$component.cdx.json"
done
cp -r deploy LICENSE CHANGELOG.md "$dist"
cp wit/gateway/*.wit "$dist/wit"
# In another folder, as wkg leaves a lock file.
(cd target && wkg wit build --wit-dir ../wit/gateway --output "dist/$name-wit.wasm")
# The component is beside it, and there is nothing to build.
sed -e '/^\[component\..*\.build\]$/,$d' -e "s,^source = .*,source = \"$name-proxy-spin.wasm\"," spin.toml > "$dist/spin.toml"
(cd "$dist" && find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum) > target/SHA256SUMS
mv target/SHA256SUMS "$dist"
# One file, the same each time.
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX \
  --transform="s,^dist,$name," -C target -c dist | gzip --no-name > "target/$name.tar.gz"
echo "$dist and target/$name.tar.gz"

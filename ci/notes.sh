#!/usr/bin/env bash
# Prints what CHANGELOG.md says of the version that a tag names: ci/notes.sh v0.1.0
set -euo pipefail
cd "$(dirname "$0")/.."
version="$(cargo pkgid keyvault-gateway)"
version="${version##*[#@]}"
if [[ $1 != "v$version" ]]; then
  echo "error: $1 is not the tag of this version, which is v$version" >&2
  exit 1
fi
notes="$(awk -v version="$version" '/^## / { found = $2 == version; next } found' CHANGELOG.md)"
if [[ -z ${notes//[[:space:]]/} ]]; then
  echo "error: CHANGELOG.md has nothing under \"## $version\"" >&2
  exit 1
fi
echo "$notes"

#!/usr/bin/env bash
# Prints the section of CHANGELOG.md for a version tag: ci/notes.sh v0.1.0
set -euo pipefail
cd "$(dirname "$0")/.."
version="$(cargo pkgid keyvault-gateway)"
version="${version##*[#@]}"
if [[ $1 != "v$version" ]]; then
  echo "error: the tag is $1, but the version is v$version" >&2
  exit 1
fi
notes="$(awk -v version="$version" '/^## / { found = $2 == version; next } found' CHANGELOG.md)"
if [[ -z ${notes//[[:space:]]/} ]]; then
  echo "error: CHANGELOG.md has no text under \"## $version\"" >&2
  exit 1
fi
echo "$notes"

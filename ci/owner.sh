#!/usr/bin/env bash
# Puts the address of the repository on GitHub wherever a placeholder has its place: ci/owner.sh OWNER/REPOSITORY
# docs/contributing/release.md says when. The placeholders are OWNER/REPOSITORY, ghcr.io/OWNER and namespacePrefix = "OWNER/".
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ! ${1:-} =~ ^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$ || $1 == OWNER/* ]]; then
  echo "usage: ci/owner.sh OWNER/REPOSITORY" >&2
  exit 1
fi
# Names in a registry are in lower case.
owner="${1%%/*}"
owner="${owner,,}"
{ git grep --files-with-matches -z --extended-regexp 'OWNER/REPOSITORY|ghcr\.io/OWNER|"OWNER/"' -- . ':!ci/owner.sh' || [[ $? == 1 ]]; } |
  xargs -0 --no-run-if-empty sed -i -e "s,OWNER/REPOSITORY,$1,g" -e "s,ghcr\.io/OWNER,ghcr.io/$owner,g" -e "s,\"OWNER/\",\"$owner/\",g"
if ! grep --quiet '^repository = ' Cargo.toml; then
  sed -i "0,/^description = /{/^description = /a repository = \"https://github.com/$1\"
}" Cargo.toml
fi
git diff --stat

#!/usr/bin/env bash
# Builds the gateway's own host for the architecture of this machine into target/hosts, for a release.
set -euo pipefail
cd "$(dirname "$0")/.."
case "$(uname -m)" in
  x86_64) machine=x64 ;;
  aarch64) machine=arm64 ;;
  *) echo "error: there is no release for $(uname -m)" >&2; exit 1 ;;
esac
cargo xtask build host
program=target/gateway/keyvault-gateway
# docs/how-to/systemd.md promises that it runs with glibc 2.34.
newest="$(objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | sort --version-sort | tail -n 1)"
if [[ $newest != "$(printf '%s\nGLIBC_2.34\n' "$newest" | sort --version-sort | head -n 1)" ]]; then
  echo "error: $program needs $newest" >&2
  exit 1
fi
install -D -m 0755 "$program" "target/hosts/linux-$machine"

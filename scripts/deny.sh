#!/bin/sh
# Checks the dependencies by deny.toml, with cargo-deny: the one on the PATH, or one that is built into target/tools
# on first use (some minutes).
#
#   scripts/deny.sh [strict]      strict: fails where the database of known holes cannot be reached
set -eu
cd "$(dirname -- "$0")/.."

cargo=${CARGO:-cargo}
tools=${CARGO_TARGET_DIR:-target}/tools
PATH=$PATH:$tools/bin
command -v cargo-deny >/dev/null || "$cargo" install cargo-deny --version 0.20.2 --locked --root "$tools"

cargo-deny check licenses bans sources
if cargo-deny fetch db; then
    cargo-deny check advisories
elif [ "${1:-}" = strict ]; then
    echo "deny: error: the advisory database cannot be reached, so known holes were not looked for." >&2
    exit 1
else
    echo "deny: the advisory database cannot be reached: known holes were NOT looked for." >&2
fi

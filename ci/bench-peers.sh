#!/usr/bin/env bash
# Promise: the gateways that mmproxy is compared with are there: HAProxy, nginx and go-mmproxy as Debian packages,
# mmproxy-rs built from its crate into the target directory. Starts no service.
#
# Needs root, or sudo that asks no password, only when a Debian package is missing.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The last release, of May 2023.
MMPROXY_RS=0.2.2

# haproxy and nginx with its stream module; also forbids services to start while packages are installed.
ci/deps.sh --packages --with go-mmproxy

root="$TARGET_DIR/bench-peers"
if ! grep -qF "\"mmproxy $MMPROXY_RS " "$root/.crates.toml" 2>/dev/null; then
    say "building mmproxy-rs $MMPROXY_RS"
    # In a folder of its own: nothing of it is shared with this workspace.
    CARGO_TARGET_DIR="$root/build" cargo install --locked --root "$root" --version "$MMPROXY_RS" mmproxy
    rm -rf "$root/build"
fi
say "everything is here"

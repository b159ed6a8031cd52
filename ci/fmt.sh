#!/usr/bin/env bash
# Promise: every Rust file reads as `rustfmt.toml` says.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cargo fmt --all --check
# fuzz/ is outside the workspace, so `--all` does not see it.
[ ! -f fuzz/Cargo.toml ] || cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo fmt --manifest-path crates/mmproxy-forwarder/tests/loom/Cargo.toml --check

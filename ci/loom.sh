#!/usr/bin/env bash
# Promise: what the threads of a gateway share holds in every interleaving: loom tries them all.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# In a folder of its own: the flag would rebuild everything else.
RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" cargo run --locked --release --target-dir "$TARGET_DIR/loom" \
    --manifest-path crates/mmproxy-forwarder/tests/loom/Cargo.toml

#!/usr/bin/env bash
# Promise: the codec needs neither std nor an allocator. A program that has neither links it, and works.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

manifest=crates/mmproxy-codec/tests/no_std/Cargo.toml
cargo clippy --locked --package mmproxy-codec --no-default-features -- -D warnings
cargo build --locked --release --manifest-path "$manifest" --target-dir "$TARGET_DIR/no-std"
program=$TARGET_DIR/no-std/release/mmproxy-codec-no-std

status=0
"$program" || status=$?
[ "$status" -eq 0 ] || die "the program without std failed at its step $status, see ${manifest%Cargo.toml}src/main.rs"

# It linked without std; that nothing of it, nor of an allocator, came in by another way is in its symbols.
have nm || die "nm is missing: apt-get install binutils"
if symbols=$(nm --demangle "$program" | grep -E ' (_?_rust_(alloc|dealloc|realloc)|<?(std|alloc)::)'); then
    die "std or an allocator was linked: $symbols"
fi
say "linked and ran without std and without an allocator"

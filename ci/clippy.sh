#!/usr/bin/env bash
# Promise: no warning from clippy, in libraries, binaries, tests, benches and examples.
#
# Which lints, and why, stands in the root Cargo.toml ([workspace.lints]) and in clippy.toml.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

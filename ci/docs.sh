#!/usr/bin/env bash
# Promise: the API documentation builds without a warning: no dead link, no bad code block.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

#!/usr/bin/env bash
# Promise: the API documentation builds without a warning: no dead link, no bad code block.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# With what clippy looks at, so that dependencies are checked once for both: features of a dependency are those that all that
# is selected asks for together.
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --all-features --lib --bins --examples

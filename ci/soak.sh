#!/usr/bin/env bash
# Promise: minutes or hours of load and faults lose nothing, leak nothing, and leave every session accounted for.
#
#   ci/soak.sh [MINUTES [SEED]]   3 minutes, and a seed of the day's own, unless told otherwise
#
# Needs root or user namespaces. Touches nothing outside its own namespaces.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Optimised, as the demo has built it already.
release_build mmproxy
debug_build harness --bin soak
MMPROXY_BIN="$TARGET_DIR/release/mmproxy" "$TARGET_DIR/debug/soak" "$@"

#!/usr/bin/env bash
# Promise: under load, on every path that the bench measures, the target sees the right clients and every byte
# arrives. Says nothing about speed.
#
# Arguments go to the bench, e.g. `ci/bench-smoke.sh --only 'upload*'`.
# Needs root or user namespaces; HAProxy and nginx (ci/deps.sh). Touches nothing outside its own namespaces.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The program optimised, as the demo has built it already; the bench itself need not be fast for this.
release_build mmproxy
debug_build mmproxy-bench
"$TARGET_DIR/debug/mmproxy-bench" run --smoke --mmproxy "$TARGET_DIR/release/mmproxy" \
    --subject mmproxy --subject haproxy --subject nginx "$@"

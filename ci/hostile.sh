#!/usr/bin/env bash
# Promise: under slow, malformed and idle connections by the ten thousand, and floods over the limits, at least 90 of 100
# honest clients that are answered undisturbed are answered in time, and memory stays below its documented bound.
#
#   ci/hostile.sh [SECONDS [TURNS [ATTACK]]]   turns of 20 seconds, 3 with and 3 without each attack, unless told otherwise;
#                                              slow, malformed, idle or floods: that attack alone
#
# Needs root or user namespaces; root for a crowd of 20,000, where the limit on descriptors is lower. Touches nothing outside
# its own namespaces.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The program as it is shipped, and whoever attacks it, and asks it, no slower than they have to be.
release_build mmproxy
release_build harness --bin hostile
MMPROXY_BIN="$TARGET_DIR/release/mmproxy" "$TARGET_DIR/release/hostile" "$@"

#!/usr/bin/env bash
# Promise: what the README says of path-network/go-mmproxy (Debian's 2.1) and of mmproxy-rs is what these programs do, and so
# is what it says of this one.
#
#   ci/peers.sh          asks each program each question, prints a table, and ends with 1 if the README says otherwise
#   ci/peers.sh WORD…    only the questions with these words in them
#
# Needs root or user namespaces. Touches nothing outside network namespaces of its own.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ci/bench-peers.sh
debug_build mmproxy
CARGO_TARGET_DIR="$TARGET_DIR" python3 ci/peers.py "$@"

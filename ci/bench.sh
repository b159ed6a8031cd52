#!/usr/bin/env bash
# Question: how fast is mmproxy beside its peers and a direct connection, and at what cost?
#
#   ci/bench.sh            everything; at most 10 minutes on a quiet machine, plus compiling
#   ci/bench.sh --quick    one short round; at most 2 minutes
#   ci/bench.sh --help     what else there is
#
# Writes a record to docs/benchmarks/DATE; docs/benchmarks.md says how to read it. ci/bench-peers.sh installs the peers.
# Needs root or user namespaces; touches nothing outside its own namespaces.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cargo build --locked --release -p mmproxy -p mmproxy-bench
exec "$TARGET_DIR/release/mmproxy-bench" run "$@"

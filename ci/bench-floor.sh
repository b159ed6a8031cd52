#!/usr/bin/env bash
# Question: what does the kernel want for a datagram's way there and back, and how much is mmproxy's own?
#
#   ci/bench-floor.sh [ROUNDS]    8 rounds if not said; some three minutes, on a quiet machine, plus compiling
#
# Measures the least that such a gateway can do (harness/benches/floor/floor.c) beside mmproxy with one worker and with
# two, in alternation. docs/benchmarks/profile-udp.md has what came of it. Writes no record; needs a C compiler, and root
# or user namespaces.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

rounds=${1:-8}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || die "the number of rounds must be a number, not '$rounds'"
have cc || die "a C compiler is missing: apt-get install gcc"

cargo build --locked --release -p mmproxy -p mmproxy-bench
floor=$TARGET_DIR/bench-floor
cc -O2 -Wall -Wextra -Werror -o "$floor" harness/benches/floor/floor.c

mmproxy="$TARGET_DIR/release/mmproxy --quiet --listen {listen} -4 {target4} --allow 10.0.0.0/24 -p {protocol} --routing off"
exec "$TARGET_DIR/release/mmproxy-bench" run --only udp-64 --only udp-1200 --rounds "$rounds" --subject direct \
    --peer "mmproxy, 1 worker=$mmproxy --workers 1" \
    --peer "mmproxy, 2 workers=$mmproxy --workers 2" \
    --peer "floor=$floor {listen} {target4} {protocol}" \
    --peer "floor, two=$floor {listen} {target4} {protocol} two" \
    --peer "floor, calls=$floor {listen} {target4} {protocol} calls" \
    --peer "floor, connected=$floor {listen} {target4} {protocol} connected"

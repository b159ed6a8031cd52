#!/usr/bin/env bash
# Promise: end-to-end tests of the relay pass with the program under valgrind's memcheck, which finds nothing.
#
# Arguments select tests, as for ci/e2e.sh; without any, those of the relay and of what happens to its connections.
# Needs valgrind; everything is some twenty times slower.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ "$#" -gt 0 ] || set -- relay:: silence:: stop::
# One at a time: a test waits for its gateway no longer than it does without valgrind.
export NEXTEST_TEST_THREADS=${NEXTEST_TEST_THREADS:-1}
have valgrind || die "valgrind is missing: apt-get install valgrind"

cargo build --locked -p mmproxy

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
# The tests start one program; this one starts it under another. Quiet: what is logged is an error. Most tests kill
# their gateway, so leaks show only in those that stop it.
cat >"$logs/mmproxy" <<SCRIPT
#!/bin/sh
exec valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
    --log-file="$logs/memcheck.%p.%n" "$TARGET_DIR/debug/mmproxy" "\$@"
SCRIPT
chmod +x "$logs/mmproxy"
export MMPROXY_BIN=$logs/mmproxy
run_tests -p harness --test e2e -- "$@"

found=$(find "$logs" -name 'memcheck.*' -size +0)
if [ -n "$found" ]; then
    xargs cat <<<"$found"
    die "memcheck has found something, see above"
fi
say "memcheck has found nothing in $*: $(find "$logs" -name 'memcheck.*' | wc -l) programs"

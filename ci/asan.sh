#!/usr/bin/env bash
# Promise: end-to-end tests of the relay pass with the program under AddressSanitizer, which finds nothing.
#
# Arguments select tests, as for ci/e2e.sh; without any, those of the relay and of what happens to its connections.
# Needs a nightly toolchain, or takes the ordinary one with its unstable flags unlocked; some minutes of compiling.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ "$#" -gt 0 ] || set -- relay:: silence:: weather:: stop::

target=$(rustc -vV | sed -n 's/^host: //p')
toolchain=()
if rustup run nightly rustc --version >/dev/null 2>&1; then
    toolchain=(+nightly)
else
    export RUSTC_BOOTSTRAP=1
fi
# A target by name keeps build scripts and macros, which are not what is tested, free of the sanitizer.
RUSTFLAGS="${RUSTFLAGS:-} -Zsanitizer=address" \
    cargo "${toolchain[@]}" build --locked -p mmproxy --target "$target" --target-dir "$TARGET_DIR/asan"
unset RUSTC_BOOTSTRAP

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export MMPROXY_BIN=$TARGET_DIR/asan/$target/debug/mmproxy
export ASAN_OPTIONS=log_path=$logs/asan:detect_stack_use_after_return=1
# Tests are told apart by a part of their names: the runner wants them as separate filters.
run_tests -p harness --test e2e -- "$@"

if [ -n "$(ls -A "$logs")" ]; then
    cat "$logs"/*
    die "AddressSanitizer has found something, see above"
fi
say "AddressSanitizer has found nothing in $*"

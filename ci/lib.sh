# shellcheck shell=bash
# What every script in ci/ shares. Sourced, never run: `source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"`.
#
# Afterwards the working directory is the repository's root, whatever it was before, so that paths in the
# scripts read the same as paths in the tree.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

# `cargo install` puts its programs here; a shell that never sourced cargo's env file does not look there.
PATH="$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin"
# iproute2 and sshd live in sbin, which Debian leaves out of an ordinary user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export PATH

# Sorting, and what other programs print, must not depend on who calls.
export LC_ALL=C.UTF-8

# Where cargo builds: scripts that run the built executable look here.
export TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}

# One line about what happens next.
say() { printf '%s: %s\n' "${0##*/}" "$*"; }

# The reason and the cure on standard error, then out.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# Runs a command as root: directly, or through sudo if that asks nothing. Status 126 when neither works.
as_root() {
    if is_root; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 126
    fi
}

can_be_root() { as_root true; }

# Runs the tests that the arguments select (cargo's own: -p, --workspace, --exclude …) with the better of the
# two runners. Both end with a summary line; ci/test repeats those at its end.
run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --no-tests=fail "$@"
    else
        # --tests leaves the doc tests to ci/unit.sh, which runs them in either case.
        cargo test --locked --tests "$@"
    fi
}

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

# Cargo compiles a dependency once for each set of its features, and which those are depends on the packages that are
# selected together: for one package alone, most of the tree is compiled anew. Whoever needs all packages sooner or later
# (ci/test) sets MMPROXY_BUILD_ALL, and selects all of them each time.
builds_all() { [ -n "${MMPROXY_BUILD_ALL:-}" ]; }

# debug_build PACKAGE [WHAT…]: a package's programs, and cargo's words for what else (`--bin soak`, `--example ask`).
debug_build() {
    if builds_all; then
        cargo build --locked --workspace --all-targets
    else
        cargo build --locked -p "$@"
    fi
}

# release_build PACKAGE [WHAT…]: the same, optimised. In ci/test it is tried for what it does, not for how fast: that the whole
# program is optimised once more when it is linked, which takes minutes, is for packages and the bench.
release_build() {
    (
        quick_release
        cargo build --locked --release -p "$@"
    )
}
quick_release() {
    if builds_all; then
        export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=none
    fi
}

# test_packages [PACKAGE…] [-- ARGUMENTS…]: the tests of packages, or of all but the harness, with the better of the two
# runners. The arguments are the runner's own, to select tests by name for example. Both runners end with a summary line;
# ci/test repeats those at its end.
test_packages() {
    local packages=() package filter=''
    while [ "$#" -gt 0 ] && [ "$1" != -- ]; do
        packages+=("$1")
        shift
    done
    [ "$#" -eq 0 ] || shift
    if builds_all && cargo nextest --version >/dev/null 2>&1; then
        for package in "${packages[@]}"; do
            filter+="${filter:+ + }package($package)"
        done
        run_tests --workspace -E "${filter:-not package(harness)}" "$@"
    elif [ "${#packages[@]}" -eq 0 ]; then
        run_tests --workspace --exclude harness "$@"
    else
        run_tests "${packages[@]/#/--package=}" "$@"
    fi
}

# The tests that the arguments select (cargo's own: -p, --workspace, --exclude …).
run_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --no-tests=fail "$@"
    else
        # --tests leaves the doc tests to ci/unit.sh, which runs them in either case.
        cargo test --locked --tests "$@"
    fi
}

# build_package REVISION DIRECTORY: a Debian package of a release build; says where it is.
build_package() {
    have dpkg-shlibdeps || die 'dpkg-shlibdeps is missing: apt-get install dpkg-dev'
    # What is substituted for a command does not stop at its first error.
    cargo build --locked --release -p mmproxy >&2 || die 'there is no release build'
    deploy/debian/build.sh "$TARGET_DIR/release/mmproxy" "$1" "$2"
}

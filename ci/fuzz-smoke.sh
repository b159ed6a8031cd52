#!/usr/bin/env bash
# Promise: every fuzz target survives some seconds from its corpus.
#
# Usage: ci/fuzz-smoke.sh [SECONDS], per target; 10 if not said. What a target finds is in fuzz/artifacts/.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source fuzz/lib.sh

seconds=${1:-10}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "seconds per target must be a number, not '$seconds'"

# The disagreements with other crates are listed in fuzz/README.md, and still true.
cargo test --locked --manifest-path fuzz/Cargo.toml --lib --no-default-features
fuzz_build
for target in $(fuzz_targets); do
    say "$target for $seconds s"
    # New inputs go to a folder of their own: a smoke run leaves the corpus as it is.
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    fuzz_run "$target" "$scratch" "fuzz/corpus/$target" -max_total_time="$seconds" -print_final_stats=1 \
        >"$scratch.log" 2>&1 || {
        tail -n 40 "$scratch.log" >&2
        die "$target broke a promise; the input is in fuzz/artifacts/$target/, see fuzz/README.md"
    }
    grep -E 'stat::number_of_executed_units|^#.*DONE' "$scratch.log"
    rm -rf "$scratch" "$scratch.log"
done

#!/usr/bin/env bash
# Promise: the crates' own tests pass: unit, property, conformance and corpus replay, and every doc example.
#
# Arguments go to the test runner, e.g. `ci/unit.sh -p mmproxy-codec`. Without any: all crates.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "$#" -gt 0 ]; then
    run_tests "$@"
else
    test_packages --
    # Doc examples are no business of nextest; cargo runs them.
    cargo test --locked --workspace --doc
fi

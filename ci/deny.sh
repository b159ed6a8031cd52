#!/usr/bin/env bash
# Promise: dependencies are what deny.toml allows: licences, sources, no duplicates without a reason.
#
#   ci/deny.sh               what needs no network
#   ci/deny.sh --advisories  known vulnerabilities too; fetches the RustSec database
#
# Advisories are asked for, not part of every run: the database lives on a host that not every machine may
# reach, and an advisory published tonight says nothing about the change under test. A scheduled job should ask.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

checks=(bans licenses sources)
case "${1:-}" in
    '') say "advisories are not checked: ci/deny.sh --advisories does, where the RustSec database can be fetched" ;;
    --advisories) checks+=(advisories) ;;
    *) die "unknown argument $1; only --advisories is known" ;;
esac

cargo deny --locked --all-features check "${checks[@]}"
# fuzz/ has a lock file of its own. What it holds twice is nobody's burden but the fuzzer's.
cargo deny --locked --manifest-path fuzz/Cargo.toml --config deny.toml --all-features check licenses sources

#!/usr/bin/env bash
# Promise: the real executable does what the end-to-end and interop tests claim, in network namespaces.
#
# Arguments go to the test runner, e.g. `ci/e2e.sh relay::`. Without any: all of them.
# Needs root or user namespaces; HAProxy, OpenSSH, nginx, PostgreSQL, Redis and others (ci/deps.sh). Touches nothing outside its own namespaces.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The harness links none of our crates and runs the program as a process, so cargo does not know that it needs it.
debug_build mmproxy
# In ci/test it is there already.
builds_all || debug_build mmproxy-forwarder --example embed
test_packages harness -- "$@"

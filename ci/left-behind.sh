#!/usr/bin/env bash
# Promise: after a run the machine is as it was: no rule, route, sysctl, namespace, link or process is left.
#
#   ci/left-behind.sh record FILE         write down how it is now
#   ci/left-behind.sh compare FILE [RUN]  exit 1, with the differences, unless it is the same again
#
# Looks with ip, sysctl and /proc, not with our own code, so that one bug cannot hide on both sides.
# With RUN, every process must be gone that was started with MMPROXY_CI_RUN=RUN in its environment (ci/test sets
# it). Other people's processes come and go and are none of our business.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Lines that say "what: value", in an order that does not depend on luck.
record() {
    local family
    for family in -4 -6; do
        ip "$family" rule show | sed "s/^/ip $family rule: /"
        # `expires` counts down by itself.
        ip "$family" route show table all | sed -E "s/ expires -?[0-9]+sec//; s/^/ip $family route: /" | sort
    done
    ip netns list 2>/dev/null | sed 's/^/ip netns: /' | sort
    # Names only: the state of a link and its counters change by themselves. What Docker makes while we run
    # (veth…) lives in its own bridge; ours are named by the harness.
    ip -o link show | awk -F': ' '{ sub(/@.*/, "", $2); print "ip link: " $2 }' | grep -vE ': (veth[0-9a-f]{7}|br-[0-9a-f]+|docker[0-9]+)$' | sort
    sysctl -a 2>/dev/null |
        grep -E '^net\.ipv[46]\.(tcp_fwmark_accept|fwmark_reflect|ip_nonlocal_bind|ip_forward|ip_unprivileged_port_start|tcp_syncookies|conf\.[^.]+\.(route_localnet|rp_filter|src_valid_mark|accept_local|forwarding|disable_ipv6)) ' |
        grep -vE '\.(veth[0-9a-f]{7}|br-[0-9a-f]+|docker[0-9]+)\.' | sed 's/^/sysctl: /'
    if is_root; then
        # Counters change by themselves.
        nft list ruleset 2>/dev/null | sed -E 's/counter packets [0-9]+ bytes [0-9]+/counter/; s/^/nft: /'
    fi
}

# Processes that carry the run's mark: "PID command line".
survivors() {
    local file directory
    # -z: the environment is a list of zero-terminated strings. Processes that end while we look are no error.
    grep -lzxF "MMPROXY_CI_RUN=$1" /proc/[0-9]*/environ 2>/dev/null | while read -r file; do
        directory=${file%/environ}
        printf '%s %s\n' "${directory#/proc/}" "$(tr '\0' ' ' 2>/dev/null <"$directory/cmdline" || true)"
    done || true
}

USAGE="usage: ci/left-behind.sh record FILE | compare FILE [RUN]"
[ "$#" -ge 2 ] || die "$USAGE"
case "$1" in
    record) record >"$2" ;;
    compare)
        differences=$(diff "$2" <(record)) || {
            printf '%s\n' "$differences" | grep '^[<>]' >&2
            die "the machine is not as it was ('<' is missing now, '>' is new; see above)"
        }
        if [ "$#" -eq 3 ]; then
            # Whoever was told to stop a moment ago may still be on its way out.
            deadline=$((SECONDS + 10))
            while left=$(survivors "$3") && [ -n "$left" ] && [ "$SECONDS" -lt "$deadline" ]; do
                sleep 0.2
            done
            [ -z "$left" ] || die "processes of this run are still there:"$'\n'"$left"
        fi
        say "rules, routes, sysctls, links, namespaces and processes are as they were"
        ;;
    *) die "$USAGE" ;;
esac

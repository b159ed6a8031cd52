#!/usr/bin/env bash
# Promise: what deploy/ has for Prometheus and Grafana is sound, and asks for metrics that the program has.
#
# Needs promtool (Debian's prometheus; ci/deps.sh).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RULES=deploy/prometheus/rules.yml
DASHBOARD=deploy/grafana/mmproxy.json
# Every metric of the program stands here under its full name.
METRICS=crates/mmproxy/src/metrics/render.rs

promtool check rules "$RULES"
python3 -m json.tool "$DASHBOARD" >/dev/null || die "$DASHBOARD is no JSON"

# A histogram is asked for by its parts.
used() { grep -ohE '\bmmproxy_[a-z_]+' "$@" | sed -E 's/_(bucket|sum|count)$//' | sort -u; }
there=$(sed '/^#\[cfg(test)\]/,$d' "$METRICS" | grep -oE '"mmproxy_[a-z_]+"' | tr -d '"' | sort -u)
[ -n "$there" ] || die "no metrics found in $METRICS"
unknown=$(comm -23 <(used "$RULES" "$DASHBOARD") <(printf '%s\n' "$there"))
[ -z "$unknown" ] || die "asked for, but not there: ${unknown//$'\n'/ }"
unseen=$(comm -13 <(used "$DASHBOARD") <(printf '%s\n' "$there"))
[ -z "$unseen" ] || die "$DASHBOARD does not show: ${unseen//$'\n'/ }"
say "$(wc -l <<<"$there") metrics, each on the dashboard; the alerts know no others"

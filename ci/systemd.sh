#!/usr/bin/env bash
# Promise: the systemd units are sound, and what is left to the service is little: `systemd-analyze security` says 1.5
# or less.
#
# Needs systemd's own program, but no running systemd; starts no service.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

have systemd-analyze || die 'systemd-analyze is missing: ci/deps.sh'

# Ten times the exposure.
THRESHOLD=15

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
version=$(systemctl --version | sed -nE '1s/^systemd ([0-9]+).*/\1/p')

# What is verified is the unit as it would be installed, with an executable that is there, and before systemd 253
# with what such a system needs.
cp deploy/systemd/mmproxy.socket "$scratch"
sed -E "s#^(ExecStart|ExecReload)=/usr/sbin/mmproxy#\1=$(command -v true)#" deploy/systemd/mmproxy.service >"$scratch/mmproxy.service"
grep -q "^ExecStart=$(command -v true) run --config " "$scratch/mmproxy.service" || die 'mmproxy.service does not start /usr/sbin/mmproxy'
if [ "$version" -lt 253 ]; then
    sed -i '/^Type=notify-reload$/d; /^ReloadSignal=/d' "$scratch/mmproxy.service"
    mkdir "$scratch/mmproxy.service.d"
    cp deploy/systemd/before-253.conf "$scratch/mmproxy.service.d"
fi
complaints=$(SYSTEMD_UNIT_PATH="$scratch:" systemd-analyze verify --man=no --recursive-errors=no \
    "$scratch/mmproxy.service" "$scratch/mmproxy.socket" 2>&1) || die "systemd does not take the units:"$'\n'"$complaints"
# A line that systemd does not understand is ignored, with a warning and status 0.
[ -z "$complaints" ] || die "systemd has something to say about the units:"$'\n'"$complaints"

report=$(systemd-analyze security --no-pager --offline=true --threshold=$THRESHOLD deploy/systemd/mmproxy.service 2>/dev/null) ||
    die "the service is exposed more than promised:"$'\n'"$(grep -E '^✗|→' <<<"$report")"
say "${report##*→ }"

#!/usr/bin/env bash
# Promise: the Debian package and its units do what they say under a real systemd, as the first process of a machine.
#
#   ci/boot.sh [SUITE…]     Debian releases; bookworm and trixie unless told otherwise
#
# For each release, debootstrap makes the files of a small machine once, from the mirror that apt uses here, and keeps them
# in cargo's target directory. The machine then boots on a copy in memory, in namespaces of its own with this kernel, and the
# package that `deploy/debian/build.sh` builds is installed, run, upgraded, removed and purged there. All of it vanishes
# with this script, also if that is killed. Needs root, debootstrap, and a mounted cgroup2.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PORT=2222
GATEWAY=("10.0.0.1:$PORT" "[fd00::1]:$PORT")

# --- the machine -----------------------------------------------------------------------------------------

# Where apt gets Debian itself from.
mirror() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1
}

# make_files SUITE: a release's files, made once.
make_files() {
    local files=$TARGET_DIR/boot/$1
    [ ! -e "$files/complete" ] || return 0
    say "debootstrap makes the files of $1, which takes some minutes the first time"
    rm -rf "$files"
    mkdir -p "$files"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,iproute2,nftables,python3-minimal \
        "$1" "$files/root" "$(mirror)" >"$files/log" 2>&1 || { tail -n 20 "$files/log" >&2; die "debootstrap $1 failed"; }
    touch "$files/complete"
}

# A cgroup for the machine below this process's own, and somebody who removes it when nobody is left, whatever
# becomes of this script.
make_cgroup() {
    local hierarchy own
    hierarchy=$(findmnt --first-only --noheadings --output TARGET --types cgroup2) || die 'no cgroup2 is mounted here'
    own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    cgroup=${hierarchy%/}${own%/}/mmproxy-boot.$$
    mkdir "$cgroup" || die "cannot make cgroups in $hierarchy"
    # The pipe ends with the last process that was started from here.
    # shellcheck disable=SC2034
    exec {alive}> >(
        trap '' INT TERM HUP
        cat >/dev/null
        for _ in {1..100}; do
            find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
            [ -e "$cgroup" ] || break
            sleep 0.1
        done
    )
}

# boot SUITE: `init` is the number of its first process afterwards.
boot() {
    mkdir "$scratch/$1"
    # The kernel ends the namespaces' first process with unshare, and unshare with this script.
    setpriv --pdeathsig KILL bash -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$cgroup" \
        unshare --mount --pid --net --ipc --uts --cgroup --fork --kill-child --propagation private -- \
        bash ci/boot-root.sh "$TARGET_DIR/boot/$1/root" "$scratch/$1" 2>"$scratch/machine" &
    machine=$!
    await 'the first process' first_process
    await 'the machine to be up' booted
    in_it ip link set lo up
    in_it ip netns add balancer
    in_it ip link add gateway type veth peer name balancer netns balancer
    # Without link-local addresses, which come when they like.
    in_it ip link set gateway addrgenmode none
    in_it ip -n balancer link set balancer addrgenmode none
    in_it ip address add 10.0.0.1/24 dev gateway
    in_it ip address add fd00::1/64 dev gateway nodad
    in_it ip link set gateway up
    in_it ip -n balancer address add 10.0.0.2/24 dev balancer
    in_it ip -n balancer address add fd00::2/64 dev balancer nodad
    in_it ip -n balancer link set balancer up
    in_it mkdir /run/test
    for file in "$first" "$second" ci/package-load.py; do
        in_it cp /dev/stdin "/run/test/${file##*/}" <"$file"
    done
    in_it python3 /run/test/package-load.py serve 22 </dev/null 2>>"$scratch/machine" &
    server=$!
    await 'the server listens' in_it bash -c 'exec 3<>/dev/tcp/127.0.0.1/22' 2>/dev/null
}

first_process() {
    init=$(ps -o pid= --ppid "$machine" | tr -d ' ')
    [ -n "$init" ] && [ "$(cat "/proc/$init/comm")" = systemd ]
}

booted() { [[ $(in_it systemctl is-system-running 2>/dev/null || true) =~ ^(running|degraded)$ ]]; }

in_it() { nsenter --target "$init" --all -- "$@"; }

switch_off() {
    kill -KILL "$init"
    wait "$server" "$machine" 2>/dev/null || true
}

# --- looking ---------------------------------------------------------------------------------------------

# await WHAT COMMAND…: until the command succeeds; 60 seconds are too long.
await() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || wrong "never happened: $what"
        sleep 0.1
    done
}

# What went wrong, and what the machine says of it.
wrong() {
    cat "$scratch/machine" >&2
    in_it systemctl --no-pager --lines 0 status mmproxy.service mmproxy.socket >&2 || true
    in_it journalctl --no-pager --lines 2000 --output short-monotonic | grep -v "session closed" | tail -n 60 >&2 || true
    die "$suite: $*"
}

# property NAME [UNIT]
property() { in_it systemctl show --property "$1" --value "${2:-mmproxy.service}"; }
is() { [ "$(property "$1" "${3:-}")" = "$2" ]; }
expect() { is "$@" || wrong "$1 is $(property "$1" "${3:-}"), not $2"; }
systemd_version() { in_it systemctl --version | sed -nE '1s/^systemd ([0-9]+) .*/\1/p'; }

# The journal of the service and of systemd about it, since the last `forget`.
forget() { cursor=$(in_it journalctl --lines 1 --show-cursor --quiet | sed -n 's/^-- cursor: //p'); }
journal() { in_it journalctl --quiet --no-pager --output cat --after-cursor "$cursor" --unit mmproxy.service; }
told() { journal | grep -qF -- "$1"; }

keeper() { property MainPID; }
workers() { in_it bash -c 'grep -lszE "^worker$" /proc/[0-9]*/cmdline | cut -d / -f 3 | sort -n' || true; }
# of PROCESS NAME: a line of its status, all of it behind the name.
of() { in_it sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | tr '\t' ' '; }
signal() { in_it bash -c 'kill -s "$1" "$2"' - "$@"; }
gone() { ! in_it grep -qs '^State:.[^Z]' "/proc/$1/status"; }

served() { in_it ip netns exec balancer python3 /run/test/package-load.py once "${GATEWAY[@]}"; }
expect_served() { local saw; saw=$(served) || wrong "clients are not served: $saw"; }

# start_load COMING STAYING
start_load() {
    in_it rm -f /run/test/stop
    in_it ip netns exec balancer python3 /run/test/package-load.py load /run/test/stop "$@" "${GATEWAY[@]}" >"$scratch/load" &
    load=$!
    # What comes is about clients in the middle of something.
    sleep 1
}
expect_nothing_lost() {
    local status=0
    sleep 1
    in_it touch /run/test/stop
    wait "$load" || status=$?
    [ "$status" -eq 0 ] || wrong "$1: $(<"$scratch/load")"
    say "$suite: $1: $(head -n 1 "$scratch/load")"
}

# Which states systemd sees the service in until the load ends.
watch_states() {
    in_it bash -c 'until [ -e /run/test/stop ]; do systemctl show --property SubState --value mmproxy.service; done' >"$scratch/states" &
}
expect_states() {
    say "$suite: states: $(sort -u "$scratch/states" | paste -sd ' ')"
    grep -q "$1" "$scratch/states" || wrong "systemd never saw it in a state $1"
}

# drop_in [LINES]: for this boot, and in force; none without.
drop_in() {
    local folder=/run/systemd/system/mmproxy.service.d
    in_it rm -rf "$folder"
    if [ "$#" -gt 0 ]; then
        in_it mkdir -p "$folder"
        in_it tee "$folder/test.conf" <<<"[Service]"$'\n'"$1" >/dev/null
    fi
    in_it systemctl daemon-reload
}

break_configuration() {
    in_it cp /etc/mmproxy/mmproxy.toml /run/test/good.toml
    in_it sed -i 's|^allow = .*|allow = ["10.0.0.2/33"]|' /etc/mmproxy/mmproxy.toml
}
mend_configuration() { in_it cp /run/test/good.toml /etc/mmproxy/mmproxy.toml; }

network() {
    in_it bash -c 'ip rule show; ip -6 rule show; ip route show table all | sort; ip -6 route show table all | sort; nft list ruleset
        cd /proc/sys/net && grep -H . ipv4/*fwmark* ipv6/*fwmark* ipv[46]/conf/{all,default,lo,gateway}/* 2>/dev/null || true' | grep -v 'mc_forwarding\|expires'
}

# What the machine is beside its network. What systemd, dpkg and ldconfig note of themselves is theirs.
state() {
    in_it bash -c '
        find / -xdev ! -type d ! -path "/var/log/*" ! -path "/var/lib/dpkg/*" ! -path "/var/lib/systemd/*" ! -path "/var/cache/*" \
            -printf "%p %M %u %g %l\n" | sort
        find / -xdev -type d ! -path "/var/lib/systemd/*" -printf "%p %M %u %g\n" | sort
        find /etc /usr /opt /root /home /srv /boot -xdev -type f -exec sha1sum {} + | sort -k 2
        ls -A /run /run/systemd/system 2>/dev/null || true
        dpkg-query -W -f "\${Package} \${Version} \${Status}\n"
        systemctl --no-legend --no-pager list-unit-files
        systemctl --no-legend --no-pager --all --plain list-units "*mmproxy*"'
}

# --- what is promised ------------------------------------------------------------------------------------

installs_and_refuses_to_start_until_it_knows_who_may_connect() {
    in_it dpkg -i "/run/test/${first##*/}" >"$scratch/dpkg" 2>&1 || wrong "dpkg -i: $(<"$scratch/dpkg")"
    expect ActiveState inactive
    expect UnitFileState disabled
    forget
    ! in_it systemctl enable --now mmproxy.service 2>/dev/null || wrong 'it starts although nobody may connect'
    expect ActiveState failed
    expect ExecMainStatus 78
    expect NRestarts 0
    told 'nobody may connect' || wrong 'the journal does not say why it does not start'
    in_it sed -i 's|^#allow = .*|allow = ["10.0.0.2", "fd00::2"]|; s|^#drain = .*|drain = "5m"|' /etc/mmproxy/mmproxy.toml
    in_it systemctl start mmproxy.service || wrong 'it does not start with an allow-list'
}

runs_with_little() {
    local keeper worker
    keeper=$(keeper)
    expect ActiveState active
    expect DynamicUser yes
    if [ "$(systemd_version)" -ge 253 ]; then expect Type notify-reload; else expect Type notify; fi
    [[ $(property StatusText) == 'serving on 1 addresses'* ]] || wrong "its status is: $(property StatusText)"
    [ "$(workers | wc -l)" -eq 1 ] || wrong "workers: $(workers)"
    worker=$(workers)
    for process in "$keeper" "$worker"; do
        [ "$(of "$process" Uid | cut -d ' ' -f 1)" -ge 61184 ] || wrong "process $process is user $(of "$process" Uid)"
        [ "$(of "$process" NoNewPrivs)/$(of "$process" Seccomp)" = 1/2 ] || wrong "process $process has no filter"
        say "$suite: $(of "$process" Name) $process: Uid $(of "$process" Uid); CapEff $(of "$process" CapEff); CapBnd $(of "$process" CapBnd); Seccomp filters $(of "$process" Seccomp_filters)"
    done
    # CAP_NET_ADMIN and CAP_NET_RAW; the latter alone.
    [ "$(of "$keeper" CapEff)/$(of "$keeper" CapBnd)" = 0000000000003000/0000000000003000 ] || wrong "the keeper may do more"
    [ "$(of "$worker" CapEff)/$(of "$worker" CapAmb)" = 0000000000002000/0000000000000000 ] || wrong "the worker may do more"
    expect_served
}

is_reloaded_without_losing_a_connection() {
    local before after
    before=$(workers)
    start_load 8 8
    watch_states
    for number in 1 2 3 4 5; do
        forget
        in_it systemctl reload mmproxy.service || wrong "reload $number failed"
        told reloaded || wrong "systemctl came back before reload $number was done"
    done
    after=$(workers)
    [ "$(grep -cxF "$before" <<<"$after")" -eq 1 ] || wrong 'the worker before did not stay for its sessions'
    expect_nothing_lost 'reloaded five times'
    expect_states '^reload'
    await 'the old workers to end' bash -c '[ "$(wc -w <<<"$1")" -eq 1 ]' - "$(workers)"
}

# The unit's command aside, as a unit of the operator's own may have it.
is_reloaded_by_systemds_own_signal() {
    [ "$(systemd_version)" -ge 253 ] || { say "$suite: NOT SHOWN: this systemd sends none"; return 0; }
    drop_in $'ExecReload=\nReloadSignal=SIGHUP'
    start_load 8 8
    watch_states
    for number in 1 2 3; do
        forget
        in_it systemctl reload mmproxy.service || wrong "reload $number failed"
        # It has waited.
        told reloaded || wrong "systemctl came back before reload $number was done"
    done
    expect_nothing_lost 'reloaded three times by SIGHUP'
    expect_states '^reload-'
    drop_in
}

keeps_what_it_has_when_a_reload_is_refused() {
    local before
    before=$(workers)
    break_configuration
    forget
    start_load 8 8
    ! in_it systemctl reload mmproxy.service 2>/dev/null || wrong 'systemctl reload takes a broken file'
    await 'the mistake to be told' told '10.0.0.2/33'
    await 'the refusal to be told' told 'not reloaded: what was served before is served on'
    expect_nothing_lost 'a reload was refused'
    expect ActiveState active
    [ "$(workers)" = "$before" ] || wrong 'the workers are others'
    mend_configuration
    in_it systemctl reload mmproxy.service || wrong 'the corrected file is not taken'
}

is_upgraded_without_losing_a_connection() {
    start_load 8 8
    forget
    in_it dpkg -i "/run/test/${second##*/}" >"$scratch/dpkg" 2>&1 || wrong "the upgrade: $(<"$scratch/dpkg")"
    told 'reloaded' || wrong "it was not reloaded: $(<"$scratch/dpkg")"
    await 'the new executable to serve' newest_worker_is_new
    expect_nothing_lost 'upgraded'
    [ "$(in_it dpkg-query -W -f '${Version}' mmproxy)" != "$(dpkg-deb --field "$first" Version)" ] || wrong 'it is the old version'
}

newest_worker_is_new() { in_it test "/proc/$(workers | tail -n 1)/exe" -ef /usr/sbin/mmproxy; }

is_upgraded_as_well_as_it_can_be_where_it_cannot_be_reloaded() {
    local keeper
    keeper=$(keeper)
    break_configuration
    in_it dpkg -i "/run/test/${second##*/}" >"$scratch/dpkg" 2>&1 || wrong "the upgrade: $(<"$scratch/dpkg")"
    grep -qF 'the configuration has mistakes' "$scratch/dpkg" || wrong "it does not say that it was not reloaded: $(<"$scratch/dpkg")"
    [ "$(keeper)" = "$keeper" ] || wrong 'it was restarted with a broken configuration'
    expect_served
    mend_configuration
    drop_in $'ExecReload=\nExecReload=false'
    in_it dpkg -i "/run/test/${second##*/}" >"$scratch/dpkg" 2>&1 || wrong "the upgrade: $(<"$scratch/dpkg")"
    grep -qF 'it is restarted' "$scratch/dpkg" || wrong "it does not say that it was restarted: $(<"$scratch/dpkg")"
    [ "$(keeper)" != "$keeper" ] || wrong 'it was not restarted'
    expect_served
    drop_in
}

comes_back_after_its_keeper_was_killed() {
    local before keeper restarts
    before=$(workers) keeper=$(keeper) restarts=$(property NRestarts)
    forget
    signal KILL "$keeper"
    await 'another start' is NRestarts $((restarts + 1))
    await 'it to serve' is ActiveState active
    for worker in $before; do
        await "worker $worker to end" gone "$worker"
    done
    expect_served
}

comes_back_after_its_keeper_hung() {
    local before keeper restarts
    drop_in WatchdogSec=3
    in_it systemctl restart mmproxy.service
    before=$(workers) keeper=$(keeper) restarts=$(property NRestarts)
    forget
    signal STOP "$keeper"
    # They do not need it to serve.
    expect_served
    await 'systemd to lose patience' told 'Watchdog timeout'
    await 'another start' is NRestarts $((restarts + 1))
    await 'it to serve' is ActiveState active
    for process in $keeper $before; do
        await "process $process to end" gone "$process"
    done
    expect_served
    drop_in
}

lets_sessions_finish_when_it_stops_and_leaves_nothing_in_the_network() {
    local stopping
    # Less than the sessions take, and than `drain`.
    drop_in TimeoutStopSec=2
    start_load 0 8
    in_it systemctl stop mmproxy.service &
    stopping=$!
    sleep 5
    expect ActiveState deactivating
    expect_nothing_lost 'stopped'
    wait "$stopping" || wrong 'systemctl stop failed'
    drop_in
    expect ActiveState inactive
    expect Result success
    [ -z "$(workers)" ] || wrong 'workers are left'
    in_it test ! -e /run/mmproxy || wrong '/run/mmproxy is left'
    diff "$scratch/network" <(network) >&2 || wrong "the network is not as it was ('>' is new)"
}

is_started_by_the_first_connection_to_a_socket_that_outlives_it() {
    local keeper
    in_it systemctl start mmproxy.socket || wrong 'the socket unit does not start'
    expect ActiveState inactive
    expect_served
    expect ActiveState active
    keeper=$(keeper)
    start_load 8 0
    in_it systemctl restart mmproxy.service || wrong 'it does not restart'
    [ "$(keeper)" != "$keeper" ] || wrong 'it is the same process'
    expect_nothing_lost 'restarted behind its socket'
    # Who comes while nobody is there waits; systemd starts it for them.
    in_it systemctl stop mmproxy.service 2>/dev/null
    expect_served
    in_it systemctl reload mmproxy.service || wrong 'a reload fails behind a socket'
    expect_served
    in_it systemctl stop mmproxy.socket mmproxy.service
}

is_removed_without_its_configuration() {
    in_it systemctl enable --now --quiet mmproxy.service
    expect_served
    in_it dpkg -r mmproxy >"$scratch/dpkg" 2>&1 || wrong "dpkg -r: $(<"$scratch/dpkg")"
    [ -z "$(workers)" ] || wrong 'it runs on'
    in_it test ! -e /usr/sbin/mmproxy -a -e /etc/mmproxy/mmproxy.toml || wrong 'it left its program, or its configuration is gone'
    diff "$scratch/network" <(network) >&2 || wrong "the network is not as it was ('>' is new)"
}

is_purged_without_a_trace() {
    in_it dpkg -P mmproxy >"$scratch/dpkg" 2>&1 || wrong "dpkg -P: $(<"$scratch/dpkg")"
    diff "$scratch/state" <(state) >&2 || wrong "the machine is not as it was ('>' is new)"
}

try_all() {
    suite=$1
    boot "$suite"
    say "$suite: $(in_it systemctl --version | head -n 1), kernel $(uname -r)"
    network >"$scratch/network"
    state >"$scratch/state"
    for shown in installs_and_refuses_to_start_until_it_knows_who_may_connect runs_with_little \
        is_reloaded_without_losing_a_connection is_reloaded_by_systemds_own_signal keeps_what_it_has_when_a_reload_is_refused \
        is_upgraded_without_losing_a_connection is_upgraded_as_well_as_it_can_be_where_it_cannot_be_reloaded \
        comes_back_after_its_keeper_was_killed comes_back_after_its_keeper_hung \
        lets_sessions_finish_when_it_stops_and_leaves_nothing_in_the_network \
        is_started_by_the_first_connection_to_a_socket_that_outlives_it \
        is_removed_without_its_configuration is_purged_without_a_trace; do
        say "$suite: ${shown//_/ }"
        "$shown"
    done
    switch_off
}

# --- in order --------------------------------------------------------------------------------------------

is_root || die 'a machine can only be booted as root'
have debootstrap || die 'debootstrap is missing: apt-get install debootstrap'
[ "$#" -gt 0 ] || set -- bookworm trixie

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
first=$(build_package 1 "$scratch")
second=$(build_package 2 "$scratch")
for suite; do make_files "$suite"; done
make_cgroup
for suite; do try_all "$suite"; done
say 'all of it held'

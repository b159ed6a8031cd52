#!/usr/bin/env bash
# Promise: the Debian package installs, refuses to start before it knows who may connect, is upgraded under load without
# losing a connection, and is removed and purged without a trace.
#
# `deploy/debian/build.sh` builds it; without a release build of the program there is one first.
#
# What is tried happens on a copy of this machine's files that vanishes (an overlay in memory), in namespaces of its own
# for mounts, processes and the network. There is no systemd in there: a program in the place of systemctl records what
# the package asks of it, and starts, reloads and stops the gateway as the unit says. Needs root.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PORT=2222

# --- what is in it ---------------------------------------------------------------------------------------

# Both kinds of text are read by programs that say nothing of what they do not understand, unless they are asked.
check_files() {
    local page complaints
    dpkg-deb --extract "$first" "$scratch/files"
    for page in "$scratch"/files/usr/share/man/man*/*.gz; do
        complaints=$(man --warnings=w -l "$page" 2>&1 >/dev/null)
        [ -z "$complaints" ] || die "$page does not render without warnings:"$'\n'"$complaints"
    done
    bash -euc 'source "$1"; complete -p mmproxy' - "$scratch/files/usr/share/bash-completion/completions/mmproxy" >/dev/null ||
        die 'bash does not take its completions'
}

# --- trying: in the namespaces ---------------------------------------------------------------------------

in_root() { chroot "$root" "$@"; }

# await WHAT COMMAND…: until the command succeeds; 60 seconds are too long.
await() {
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || { grep -hv "session closed" "$root"/run/*.log >&2; die "never happened: $what"; }
        sleep 0.1
    done
}

# A root to break: everything that is written goes to `up`, which says what was changed.
make_root() {
    mount -t tmpfs tmpfs "$1"
    mkdir "$1/up" "$1/work" "$1/root"
    root=$1/root up=$1/up
    mount -t overlay overlay -o "lowerdir=/,upperdir=$up,workdir=$1/work" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    mkdir -p "$root/run/systemd/system"
    touch "$root/run/mmproxy.log"
    ip link set lo up
}

# The program in systemctl's place. It is bound over the real one, or over nothing that stays.
make_systemctl() {
    cat >"$root/run/systemctl" <<'END'
#!/bin/sh
[ "$*" != --version ] || { echo 'systemd 252 (252.39-1~deb12u1)'; exit; }
echo "$*" >>/run/asked
pid=$(cat /run/mmproxy.pid 2>/dev/null)
running() { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
start() {
    mkdir -p /run/mmproxy
    $(sed -n 's/^ExecStart=//p' /lib/systemd/system/mmproxy.service) >>/run/mmproxy.log 2>&1 &
    echo $! >/run/mmproxy.pid
}
stop() {
    ! running || { kill "$pid" && tail --pid="$pid" -f /dev/null; }
    rm -rf /run/mmproxy /run/mmproxy.pid
}
now=false
for word; do
    case "$word" in
        --now) now=true ;;
        -*) ;;
        *) verb=${verb:-$word} ;;
    esac
done
case "$verb" in
    is-active) running ;;
    start) start ;;
    stop) stop ;;
    reload) running && MAINPID=$pid sh -c "$(sed -n 's/^ExecReload=//p' /lib/systemd/system/mmproxy.service)" ;;
    restart) stop; start ;;
    enable) ! $now || start ;;
    disable) ! $now || stop ;;
esac
END
    chmod +x "$root/run/systemctl"
    mount --bind "$root/run/systemctl" "$root/usr/bin/systemctl"
    # dpkg's trigger has it read all pages of the machine again, which takes minutes and is not ours.
    [ ! -e "$root/usr/bin/mandb" ] || mount --bind "$root/usr/bin/true" "$root/usr/bin/mandb"
}

asked() { grep -qxF -- "$1" "$root/run/asked" || { cat "$root/run/asked" >&2; die "the package never asked: systemctl $1"; }; }
not_asked() { ! grep -q -- "$1" "$root/run/asked" || die "the package asked: systemctl $(grep -m 1 -- "$1" "$root/run/asked")"; }

logged() { [ "$(grep -cF -- "$1" "$root/run/mmproxy.log")" -ge "$2" ]; }
sessions() { grep -cF 'session closed' "$root/run/mmproxy.log" || true; }

workers() { grep -lszE '^worker$' /proc/[0-9]*/cmdline | cut -d / -f 3 | sort -n || true; }
newest_worker_is_new() {
    local newest
    newest=$(workers | tail -n 1)
    [ -n "$newest" ] && [ "/proc/$newest/exe" -ef "$root/usr/sbin/mmproxy" ]
}

network() {
    ip rule show
    ip -6 rule show
    ip route show table all | sort
    ip -6 route show table all | sort
    sysctl -a 2>/dev/null | grep -E '^net\.ipv[46]\.(.*fwmark|conf\.(all|default|lo)\.(rp_filter|route_localnet|accept_local|src_valid_mark))'
}

packages() { in_root dpkg-query -W -f '${Package} ${Version} ${Status}\n' | sort; }

# What differs from the machine's own files, but for dpkg's and man's own records.
changed_files() {
    local file
    (cd "$up" && find . -mindepth 1 -printf '%P\n') | sort | while read -r file; do
        if [ -d "$up/$file" ] && [ -d "/$file" ]; then continue; fi
        if [ -f "$up/$file" ] && cmp -s "$up/$file" "/$file"; then continue; fi
        printf '%s\n' "$file"
    done | grep -vE '^var/(lib/dpkg/(status|status-old|available|available-old|lock|lock-frontend|triggers/.*|diversions-old|statoverride-old)|log/dpkg\.log|(log|cache|lib)/apt/.*|cache/man/.*|cache/ldconfig/.*|lib/systemd/deb-systemd-.*)$' || true
}

installs_and_refuses_to_start_until_it_knows_who_may_connect() {
    in_root dpkg -i "/run/$(basename "$first")" >"$root/run/dpkg.log" 2>&1 || { cat "$root/run/dpkg.log" >&2; die 'dpkg -i failed'; }
    grep -qF 'systemctl enable --now mmproxy' "$root/run/dpkg.log" || die 'the package does not say what comes next'
    asked daemon-reload
    not_asked '^\(enable\|start\|restart\|reload\)'
    local status=0
    in_root mmproxy run >"$root/run/refused.log" 2>&1 || status=$?
    if [ "$status" -ne 78 ] || ! grep -qF 'nobody may connect' "$root/run/refused.log"; then
        cat "$root/run/refused.log" >&2
        die "a configuration as installed ends with status $status instead of 78 and the reason"
    fi
}

starts_once_it_knows() {
    sed -i 's|^#allow = .*|allow = ["127.0.0.1", "::1"]|; s|^#drain = .*|drain = "5m"|' "$root/etc/mmproxy/mmproxy.toml"
    # The stand-in says that it is an old one.
    [ -L "$root/etc/systemd/system/mmproxy.service.d/before-253.conf" ] || die 'an old systemd does not get its drop-in'
    python3 ci/package-load.py serve 22 &
    # A connection that ends at once is what the server gets here; it is no session.
    await 'the server listens' bash -c 'exec 3<>/dev/tcp/127.0.0.1/22' 2>/dev/null
    in_root systemctl start mmproxy.service
    await 'the gateway listens' logged 'Listening on' 1
    # The default configuration has the socket that this asks.
    in_root mmproxy status >"$root/run/status.log" 2>&1 || { cat "$root/run/status.log" >&2; die 'mmproxy status gets no answer'; }
}

is_upgraded_under_load_without_losing_a_connection() {
    local load status=0 before
    python3 ci/package-load.py load "$root/run/stop" 8 8 "127.0.0.1:$PORT" "[::1]:$PORT" >"$root/run/load.log" 2>&1 &
    load=$!
    await 'clients are served' logged 'session closed' 100
    : >"$root/run/asked"
    in_root dpkg -i "/run/$(basename "$second")" >"$root/run/dpkg.log" 2>&1 || { cat "$root/run/dpkg.log" >&2; die 'the upgrade failed'; }
    asked 'reload mmproxy.service'
    not_asked '^\(--quiet \)\?\(stop\|restart\|disable\)'
    # The old ones stay for their sessions.
    await 'the newest worker is of the new executable' newest_worker_is_new
    before=$(sessions)
    await 'the new workers serve' logged 'session closed' $((before + 100))
    touch "$root/run/stop"
    wait "$load" || status=$?
    say "upgraded under load: $(head -n 1 "$root/run/load.log")"
    [ "$status" -eq 0 ] || { cat "$root/run/load.log" >&2; die 'connections were lost'; }
    grep -qxF 'allow = ["127.0.0.1", "::1"]' "$root/etc/mmproxy/mmproxy.toml" || die "the operator's configuration was overwritten"
}

is_removed_without_its_configuration() {
    : >"$root/run/asked"
    in_root dpkg -r mmproxy >"$root/run/dpkg.log" 2>&1 || { cat "$root/run/dpkg.log" >&2; die 'dpkg -r failed'; }
    asked '--quiet disable --now mmproxy.socket mmproxy.service'
    [ -z "$(workers)" ] || die 'the gateway runs on'
    [ ! -e "$root/usr/sbin/mmproxy" ] || die 'the executable is still there'
    [ -e "$root/etc/mmproxy/mmproxy.toml" ] || die "the operator's configuration is gone"
    diff "$scratch/network" <(network) || die "the network is not as it was ('>' is new)"
}

is_purged_without_a_trace() {
    local left
    mkdir -p "$root/etc/mmproxy/conf.d" "$root/var/lib/private/mmproxy"
    echo 10.0.0.2 >"$root/etc/mmproxy/balancers.txt"
    in_root dpkg -P mmproxy >"$root/run/dpkg.log" 2>&1 || { cat "$root/run/dpkg.log" >&2; die 'dpkg -P failed'; }
    left=$(changed_files)
    [ -z "$left" ] || die "files are not as they were:"$'\n'"$left"
    diff "$scratch/packages" <(packages) || die 'dpkg knows other packages than before'
}

# block NUMBER: what the README tells to type, without sudo, and with a balancer that is there.
block() {
    awk -v wanted="$1" '/^```sh package$/ { number++; inside = 1; next } /^```/ { inside = 0 } inside && number == wanted' README.md |
        sed 's/^sudo //; s/10\.0\.0\.2/127.0.0.1/' >"$root/run/block.sh"
    [ -s "$root/run/block.sh" ] || die "README.md has no block of commands number $1"
    in_root env -C /run DEBIAN_FRONTEND=noninteractive bash -eux block.sh >"$root/run/block.log" 2>&1 || die "the README's commands failed: $(<"$root/run/block.log")"
}

what_the_readme_says_installs_it_and_gets_rid_of_it() {
    rm -f "$root/run/$(basename "$first")"
    : >"$root/run/mmproxy.log"
    block 1
    await 'the gateway listens' logged 'Listening on' 1
    in_root mmproxy probe --via "127.0.0.1:$PORT" --source 192.0.2.7:4711 --send 'hello\n' --wait 5s >"$root/run/probe.log" 2>&1
    grep -qF '192.0.2.7 4711 hello' "$root/run/probe.log" || die "the server saw somebody else: $(<"$root/run/probe.log")"
    block 2
    diff "$scratch/network" <(network) || die "the network is not as it was ('>' is new)"
    [ -z "$(changed_files)" ] || die "files are not as they were:"$'\n'"$(changed_files)"
    diff "$scratch/packages" <(packages) || die 'dpkg knows other packages than before'
}

inside() {
    first=$1 second=$2 scratch=$3
    mkdir "$scratch/overlay"
    make_root "$scratch/overlay"
    [ ! -e /usr/sbin/mmproxy ] || die 'mmproxy is installed here: the test would not see what the package brings'
    network >"$scratch/network"
    packages >"$scratch/packages"
    make_systemctl
    cp "$first" "$second" "$root/run/"
    for shown in installs_and_refuses_to_start_until_it_knows_who_may_connect starts_once_it_knows \
        is_upgraded_under_load_without_losing_a_connection is_removed_without_its_configuration \
        is_purged_without_a_trace what_the_readme_says_installs_it_and_gets_rid_of_it; do
        say "${shown//_/ }"
        "$shown"
    done
}

# --- in order --------------------------------------------------------------------------------------------

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
    exit
fi
[ "$#" -eq 0 ] || die 'takes no arguments'
is_root || die 'what the package does can only be tried as root'
have man || die 'man is missing: apt-get install man-db'

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
first=$(build_package 1 "$scratch")
second=$(build_package 2 "$scratch")
dpkg-deb --info "$first" | sed -n '/^ Package/,$p'
check_files
# The pid namespace ends every process in it together with its first; the mounts end with the last.
unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private -- \
    bash ci/package.sh --inside "$first" "$second" "$scratch"
say "all of it held, with $(dpkg --version | head -n 1)"

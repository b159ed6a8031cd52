#!/usr/bin/env bash
# Promise: on a Debian or Ubuntu machine with Rust, whatever the other scripts need is there afterwards.
#
#   ci/deps.sh            install what is missing
#   ci/deps.sh --dry-run  only say what is missing; exit 1 if something is
#   ci/deps.sh --with PACKAGE   install this Debian package too, which has a program of its own name
#   ci/deps.sh --packages       Debian packages alone, no cargo tools
#
# Needs root, or sudo that asks no password, only when a Debian package is missing. Starts no service.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

dry_run=false
cargo_tools=true
extra=()
while [ "$#" -gt 0 ]; do
    case "$1" in
        --dry-run) dry_run=true ;;
        --packages) cargo_tools=false ;;
        --with)
            [ "$#" -gt 1 ] || die '--with needs the name of a package'
            extra+=("$2 $2")
            shift
            ;;
        *) die "unknown argument $1; --dry-run, --packages and --with PACKAGE are known" ;;
    esac
    shift
done

# Pinned, because a new cargo-deny may know new checks and turn an unchanged tree red.
CARGO_DENY=0.20.2
CARGO_FUZZ=0.13.2

# program or file → Debian package. What is there counts, not the package: a hand-built haproxy in PATH is as good.
PROGRAMS=(
    'cc gcc'                    # linker for Rust, C parts of libFuzzer
    'c++ g++'                   # libFuzzer's runtime is C++
    'git git'                   # ci/tidy.sh asks git which files are ours
    'nm binutils'               # ci/no-std.sh reads symbols
    'haproxy haproxy'           # interop: the balancer
    'sshd openssh-server'       # interop and README: the target that logs its client
    'nginx nginx'               # interop: reads the headers that the codec writes; logs its client
    'dnsmasq dnsmasq-base'      # datagrams: the DNS server that logs its client
    '/usr/lib/nginx/modules/ngx_stream_module.so libnginx-mod-stream' # interop: nginx as a balancer; the bench: as a gateway
    'curl curl'                 # interop: a client that announces itself
    'redis-server redis-server' # interop: the target that lists its clients
    '/usr/share/doc/postgresql postgresql' # interop: the target that lets clients in by their network
    'aiosmtpd python3-aiosmtpd' # interop: the mail server that notes its client
    'postfix postfix'           # the recipe for mail: SMTP and submission
    'dovecot dovecot-core'      # the same: IMAP, whose service is a package of its own
    '/usr/lib/dovecot/imap dovecot-imapd' # the same
    'fail2ban-server fail2ban'  # interop: who reads sshd's log and bans at the gateway
    'ssh openssh-client'        # interop and README: host keys, a real client
    'ip iproute2'               # ci/left-behind.sh looks with other eyes than ours
    '/etc/protocols netbase'    # `ip rule … ipproto udp` knows the names from there
    'iptables-nft iptables'     # rules that an operator of the original made, in test namespaces
    'iptables-legacy iptables'  # the same with the older kind
    'nft nftables'              # packet loss and drops in test namespaces
    'ps procps'                 # ci/left-behind.sh
    'unshare util-linux'        # ci/readme.sh runs the README's blocks in a namespace
    'promtool prometheus'       # ci/dashboards.sh, ci/status-page.sh; its service is not started
    'chromium chromium'         # ci/status-page.sh: the page as a browser shows it
    'python3 python3'           # the same: a target, and a look at pixels
    '/usr/share/doc/python3-venv python3-venv' # ci/manifests.sh installs its checker there
    'openssl openssl'           # the same: the hash of the style sheet; interop: certificates
    'runuser util-linux'        # the demo as an ordinary user
    'setpriv util-linux'        # tests without a capability
    '/usr/lib/python3/dist-packages/jsonschema python3-jsonschema' # the schema of configuration files
    'systemd-analyze systemd'   # ci/systemd.sh; nothing is started
    'shellcheck shellcheck'     # ci/scripts.sh
)

missing_packages() {
    local line program package
    for line in "${PROGRAMS[@]}" "${extra[@]}"; do
        read -r program package <<<"$line"
        have "$program" || [ -e "$program" ] || printf '%s\n' "$package"
    done | sort -u
}

# --- Rust itself -----------------------------------------------------------------------------------------

# Not installed from here: which toolchain to use, and from where, is the machine owner's decision.
rust_needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
rust_cure="install Rust $rust_needed or newer with rustfmt and clippy (https://rustup.rs, or Debian's rustup package)"
have cargo || die "cargo is missing: $rust_cure"
rust_here=$(cargo --version | awk '{print $2}')
[ "$(printf '%s\n' "$rust_needed" "$rust_here" | sort -V | head -n 1)" = "$rust_needed" ] ||
    die "cargo $rust_here is too old: $rust_cure"
for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || die "cargo $component is missing: rustup component add rustfmt clippy"
done

# --- Debian packages -------------------------------------------------------------------------------------

# Packages bring services that start by themselves; a test command must not open port 22 on anybody's machine.
# policy-rc.d is Debian's way to say no; what was there before comes back, also when apt-get fails.
POLICY=/usr/sbin/policy-rc.d
SAVED=$POLICY.before-mmproxy-ci

restore_policy() {
    if [ -e "$SAVED" ]; then
        as_root mv -f "$SAVED" "$POLICY"
    else
        as_root rm -f "$POLICY"
    fi
}

forbid_service_starts() {
    # A copy from a run that was killed half way is the original: it must not be overwritten with our own file.
    if [ -e "$POLICY" ] && [ ! -e "$SAVED" ]; then
        as_root cp -p "$POLICY" "$SAVED"
    fi
    trap restore_policy EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
    as_root chmod 755 "$POLICY"
}

# policy-rc.d is about now; this is about the next boot. Only for what this run brought in.
keep_disabled_at_boot() {
    local unit
    have systemctl || return 0
    for unit in "$@"; do
        # A unit that this release does not have (ssh.socket on Debian) is no reason to stop.
        as_root systemctl --quiet disable "$unit" >/dev/null 2>&1 || true
    done
}

mapfile -t packages < <(missing_packages)
if [ "${#packages[@]}" -gt 0 ]; then
    if $dry_run; then
        say "missing: ${packages[*]}"
    else
        have apt-get || die "missing: ${packages[*]}. This is no Debian or Ubuntu: install what provides these by hand"
        can_be_root || die "missing: ${packages[*]}. Neither root nor password-less sudo here; run: sudo apt-get install --no-install-recommends ${packages[*]}"
        say "installing ${packages[*]}"
        forbid_service_starts
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
        # Unattended upgrades hold the lock for minutes.
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y \
            --no-install-recommends "${packages[@]}"
        for package in "${packages[@]}"; do
            case "$package" in
                haproxy) keep_disabled_at_boot haproxy.service ;;
                fail2ban) keep_disabled_at_boot fail2ban.service ;;
                nginx) keep_disabled_at_boot nginx.service ;;
                postgresql) keep_disabled_at_boot postgresql.service ;;
                redis-server) keep_disabled_at_boot redis-server.service ;;
                postfix) keep_disabled_at_boot postfix.service ;;
                dovecot-core) keep_disabled_at_boot dovecot.service dovecot.socket ;;
                prometheus) keep_disabled_at_boot prometheus.service ;;
                openssh-server) keep_disabled_at_boot ssh.service ssh.socket ;;
            esac
        done
        restore_policy
        trap - EXIT
        mapfile -t packages < <(missing_packages)
        [ "${#packages[@]}" -eq 0 ] || die "still missing after the installation: ${packages[*]}"
    fi
fi

# --- cargo's tools ---------------------------------------------------------------------------------------

tools=()
if $cargo_tools; then
    [ "$(cargo deny --version 2>/dev/null)" = "cargo-deny $CARGO_DENY" ] || tools+=("cargo-deny@$CARGO_DENY")
    [ "$(cargo fuzz --version 2>/dev/null)" = "cargo-fuzz $CARGO_FUZZ" ] || tools+=("cargo-fuzz@$CARGO_FUZZ")
fi
for tool in "${tools[@]}"; do
    if $dry_run; then
        say "missing: $tool (cargo install --locked $tool)"
    else
        say "installing $tool, which takes some minutes the first time"
        # In cargo's temporary target directory, not in this workspace's: nothing there can be shared.
        env -u CARGO_TARGET_DIR cargo install --locked "$tool"
    fi
done

if $dry_run; then
    [ "${#packages[@]}" -eq 0 ] && [ "${#tools[@]}" -eq 0 ] || exit 1
fi
say "everything is here"

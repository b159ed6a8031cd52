#!/usr/bin/env bash
# Promise: `mmproxy demo` shows the main job on this machine, as root and as an ordinary user, and leaves nothing.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

release_build mmproxy

# The program's own verdict is its exit status; the line guards against a demo that shows nothing.
show() {
    local output
    output=$("$@" 2>&1) || { printf '%s\n' "$output" >&2 && die "failed: $*"; }
    printf '%s\n' "$output"
    grep -qx '4 of 4 clients were seen by the target with their own address.' <<<"$output" ||
        die "no '4 of 4 clients' in the output above"
}

say "as $(id -un)"
show "$TARGET_DIR/release/mmproxy" demo

is_root || exit 0

# As nobody. The build lies where only root may look, perhaps, so a copy in a place for everybody.
public=$(mktemp -d)
trap 'rm -rf "$public"' EXIT
chmod 755 "$public"
cp "$TARGET_DIR/release/mmproxy" "$public/mmproxy"
if runuser -u nobody -- unshare --user --map-root-user --net true 2>/dev/null; then
    say 'as nobody, without root'
    show runuser -u nobody -- "$public/mmproxy" demo
else
    say 'user namespaces are disabled for ordinary users here: the demo must say so, and how to run it'
    status=0
    output=$(runuser -u nobody -- "$public/mmproxy" demo 2>&1) || status=$?
    printf '%s\n' "$output"
    [ "$status" -eq 77 ] || die "exit status $status instead of 77"
    grep -q 'sudo' <<<"$output" || die 'the output above does not say how to run it with sudo'
fi

#!/usr/bin/env bash
# Promise: a browser shows the status page as it is meant, light and dark, and Prometheus reads the metrics.
#
#   ci/status-page.sh              check
#   ci/status-page.sh --picture    also write docs/status-page.png anew
#
# Needs root or user namespaces, chromium and promtool (ci/deps.sh). Everything happens in a network namespace.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

picture=''
case "${1:-}" in
    '') ;;
    --picture) picture=$ROOT/docs/status-page.png ;;
    *) die "unknown argument $1; --picture is known" ;;
esac

# The browser applies the style sheet only if the page's policy names its hash.
hash=$(openssl dgst -sha256 -binary crates/mmproxy/src/admin/page.css | base64)
[ "$hash" = "$(<crates/mmproxy/src/admin/page.css.sha256)" ] ||
    die "crates/mmproxy/src/admin/page.css.sha256 is of another page.css; write into it, without a line feed: $hash"

debug_build mmproxy
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mmproxy="$TARGET_DIR/debug/mmproxy" scratch=$scratch picture=$picture \
    unshare --user --map-root-user --net --pid --fork --kill-child --mount --mount-proc bash -euo pipefail <<'INSIDE'
fail() { printf 'status-page.sh: %s\n' "$*" >&2; exit 1; }
# until_so WHAT COMMAND…: asks again and again, for half a minute.
until_so() {
    local what=$1 deadline=$((SECONDS + 30))
    shift
    until "$@" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited half a minute for $what"
        sleep 0.1
    done
}
get() {
    exec 3<>/dev/tcp/127.0.0.1/9100
    printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3
    sed '1,/^\r$/d' <&3
    exec 3>&-
}
# Not -q: whoever writes must not be cut off.
has() { get "$1" | grep -F -- "$2" >/dev/null; }
points() { get / | grep -o '<polyline[^>]*' | sed -n 1p | tr ' ' '\n' | grep -c ,; }
more_points_than() { [ "$(points)" -gt "$1" ]; }

mount -t tmpfs tmpfs /run
ip link set lo up
export HOME=$scratch

# A target that says something and then waits for the client to end.
python3 -c '
import socketserver
class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            self.request.sendall(b"hello " * 2000)
            while self.request.recv(65536): pass
        except ConnectionResetError: pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128
Server(("127.0.0.1", 8022), Answer).serve_forever()
' &
answers() { exec 5<>/dev/tcp/127.0.0.1/"$1" && exec 5>&-; }
until_so 'the target' answers 8022
"$mmproxy" --allow 127.0.0.0/8 --allow-source loopback -l 127.0.0.1:2222 -4 127.0.0.1:8022 --admin 127.0.0.1:9100 >"$scratch/log" 2>&1 &
until_so 'the gateway' answers 9100
until_so 'the target to be seen' has /readyz 'ok: target 127.0.0.1:8022'

# Clients, some of which stay, and strangers without a header; for as long as the charts need two points and more.
for round in 1 2 3; do
    for client in $(seq 12); do
        exec {held}<>/dev/tcp/127.0.0.1/2222
        printf 'PROXY TCP4 192.0.2.%d 198.51.100.1 %d 22\r\nhello' $((round * 20 + client)) $((40000 + client)) >&"$held"
        [ $((client % 4)) -eq 0 ] || exec {held}>&-
    done
    exec 4<>/dev/tcp/127.0.0.1/2222
    printf 'GET / HTTP/1.0\r\n\r\n' >&4
    exec 4>&-
    until_so 'the next point of the charts' more_points_than "$(points || true)"
done
until_so 'the refusals' has / 'header_missing'

get /metrics >"$scratch/metrics"
promtool check metrics <"$scratch/metrics"

# browse ARGUMENT…: what a browser without a screen makes of the page.
browse() {
    timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
        --user-data-dir="$scratch/browser" --window-size=1280,1000 "$@" http://127.0.0.1:9100/ 2>"$scratch/browser.log" ||
        { cat "$scratch/browser.log" >&2; fail 'chromium failed'; }
}
# Scripts are refused by the page's own policy; --dump-dom shows what the browser understood.
browse --enable-logging=stderr --v=0 --dump-dom >"$scratch/dom"
grep -qi 'content security policy' "$scratch/browser.log" && { cat "$scratch/browser.log" >&2; fail 'the policy refuses something of the page'; }
for part in '<td>192.0.2.' '<td>header_missing</td>' '<polyline' 'id="state" class="good"' '<td>finished</td>' '<td>relay</td>'; do
    grep -qF -- "$part" "$scratch/dom" || { cat "$scratch/dom" >&2; fail "the browser sees no $part"; }
done
browse --screenshot="$scratch/light.png" >/dev/null
browse --force-dark-mode --blink-settings=preferredColorScheme=0 --screenshot="$scratch/dark.png" >/dev/null
# Pixels: the style was applied, and there are two of them.
python3 - "$scratch/light.png" "$scratch/dark.png" <<'PIXELS'
import struct, sys, zlib
def corner(path):
    data = open(path, "rb").read()
    at, width, body = 8, None, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IHDR": width, _, depth, colour = struct.unpack(">IIBB", data[at + 8:at + 18])
        if kind == b"IDAT": body += data[at + 8:at + 8 + size]
        at += 12 + size
    assert depth == 8 and colour in (2, 6), (depth, colour)
    # The first pixel of the first line is as it is, whatever the filter.
    return tuple(zlib.decompress(body)[1:4])
light, dark = corner(sys.argv[1]), corner(sys.argv[2])
sys.exit(None if light == (0xf6, 0xf7, 0xf9) and dark == (0x12, 0x17, 0x1d) else f"the background is {light} and {dark}")
PIXELS
[ -z "$picture" ] || { cp "$scratch/light.png" "$picture"; [ -z "${dark:-}" ] || cp "$scratch/dark.png" "$dark"; }
INSIDE
say 'the page is what it is meant to be, and Prometheus reads the metrics'

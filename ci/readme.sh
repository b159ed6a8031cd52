#!/usr/bin/env bash
# Promise: what the documents tell a reader to type works, and prints what the documents show.
#
#   ci/readme.sh [FILE…]   without FILE: README.md and all of docs/
#
# A fenced block is executed when the words behind its three back-quotes say so:
#
#   sh run                 from the repository's root; must end with status 0
#   sh run netns           the same inside a network namespace, one for the whole document
#   sh run netns retry     there too, again and again until it ends with status 0: for what a log says a moment later
#   sh run netns serve     there too, but left running; the next block starts once it says `Listening on`
#   text output            not executed: each of its lines must appear, in this order, in what the block before it
#                          printed; `…` stands for anything
#
# The namespace has loopback, a real sshd on port 22 that logs to /var/log/auth.log, an empty working directory,
# and the release build of mmproxy in its PATH. All of it ends with the document. Blocks without these words are
# for reading only. Needs root or user namespaces, and sshd (ci/deps.sh).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Splits a document into numbered files: NN.sh with the commands, NN.kind with the words, NN.expect with the
# output that the next block promises.
extract() {
    awk -v to="$2" '
        /^```/ {
            if (inside) { inside = 0; file = ""; next }
            inside = 1
            words = substr($0, 4)
            if (words ~ /^sh run/) {
                number++
                sub(/^sh run ?/, "", words)
                stem = sprintf("%s/%02d", to, number)
                print words >(stem ".kind")
                file = stem ".sh"
            } else if (words == "text output" && number) {
                file = stem ".expect"
            }
            next
        }
        inside && file != "" { print >file }
    ' "$1"
}

# Fails, with the line, unless the expected lines are in the output in their order.
matches() {
    local expected actual=$2 line pattern
    exec 3<"$actual"
    while IFS= read -r expected; do
        [ -n "${expected//[[:space:]]/}" ] || continue
        # Literal text, apart from the ellipsis.
        pattern=${expected//…/$'\001'}
        pattern=$(printf '%s' "$pattern" | sed 's/[][\\*?]/\\&/g; s/[[:space:]]*$//' | tr '\001' '*')
        while :; do
            IFS= read -r line <&3 || {
                exec 3<&-
                printf 'this line of the document was not printed (or not in this order):\n    %s\nprinted was:\n' "$expected" >&2
                sed 's/^/    /' "$actual" >&2
                return 1
            }
            line=$(printf '%s' "$line" | sed 's/[[:space:]]*$//')
            # shellcheck disable=SC2053  # the right side is a pattern on purpose
            [[ $line == $pattern ]] && break
        done
    done <"$1"
    exec 3<&-
}

# Runs one block, shows what it prints, and compares.
block() {
    local stem=$1 kind status=0
    kind=$(<"$stem.kind")
    printf -- '--- %s %s\n' "${kind:-run}" "$(sed 's/^/    /' "$stem.sh")"
    case "$kind" in
        '' | netns)
            bash -euo pipefail "$stem.sh" </dev/null >"$stem.out" 2>&1 || status=$?
            sed 's/^/    /' "$stem.out"
            [ "$status" -eq 0 ] || die "the block above ended with status $status"
            ;;
        'netns retry')
            until bash -euo pipefail "$stem.sh" </dev/null >"$stem.out" 2>&1; do
                [ "$SECONDS" -lt "$DEADLINE" ] || { cat "$stem.out" >&2 && die 'the block above never ended with status 0'; }
                sleep 0.2
            done
            sed 's/^/    /' "$stem.out"
            ;;
        'netns serve')
            : >"$stem.out"
            bash -euo pipefail "$stem.sh" </dev/null >"$stem.out" 2>&1 &
            until grep -q 'Listening on' "$stem.out"; do
                kill -0 $! 2>/dev/null || { cat "$stem.out" >&2 && die 'the block above ended instead of serving'; }
                [ "$SECONDS" -lt "$DEADLINE" ] || { cat "$stem.out" >&2 && die 'the block above never said that it listens'; }
                sleep 0.1
            done
            sed 's/^/    /' "$stem.out"
            ;;
        *) die "no such kind of block: 'sh run $kind'" ;;
    esac
    [ ! -f "$stem.expect" ] || matches "$stem.expect" "$stem.out" || die 'the document and the program disagree'
}

# Inside the namespace: what a server has (loopback, sshd, a log), then the document's blocks.
inside() {
    local directory=$1 stem
    DEADLINE=$((SECONDS + 60))
    ip link set lo up
    # Private to this mount namespace: sshd's log and run directory are not the machine's.
    mount -t tmpfs tmpfs /var/log
    mount -t tmpfs tmpfs /run
    mkdir -p /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$directory/host_key"
    printf '%s\n' 'ListenAddress 127.0.0.1:22' 'ListenAddress [::1]:22' "HostKey $directory/host_key" \
        'PidFile none' 'UseDNS no' >"$directory/sshd_config"
    "$(command -v sshd)" -f "$directory/sshd_config" -E /var/log/auth.log
    until grep -q 'listening on 127.0.0.1' /var/log/auth.log && grep -q 'listening on ::1' /var/log/auth.log; do
        [ "$SECONDS" -lt "$DEADLINE" ] || { cat /var/log/auth.log >&2 && die 'sshd did not start'; }
        sleep 0.1
    done
    mkdir "$directory/cwd"
    cd "$directory/cwd"
    for stem in "$directory"/*.kind; do
        stem=${stem%.kind}
        if grep -q '^netns' "$stem.kind"; then block "$stem"; fi
    done
}

if [ "${1:-}" = --inside ]; then
    inside "$2"
    exit
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

documents=("$@")
[ "$#" -gt 0 ] || documents=(README.md docs/*.md)
release_build mmproxy
# What a reader is told to type runs cargo, too.
quick_release
PATH="$TARGET_DIR/release:$PATH"

# The pid namespace ends every process in it together with its first; so nothing survives, whatever happens.
private=(unshare --net --mount --pid --fork --kill-child --mount-proc)
is_root || private=(unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc)

blocks=0
for document in "${documents[@]}"; do
    directory="$scratch/${document//\//-}"
    mkdir "$directory"
    extract "$document" "$directory"
    found=$(find "$directory" -name '*.kind' | wc -l)
    [ "$found" -gt 0 ] || continue
    say "$document: $found blocks"
    blocks=$((blocks + found))
    for stem in "$directory"/*.kind; do
        stem=${stem%.kind}
        if ! grep -q '^netns' "$stem.kind"; then block "$stem"; fi
    done
    if grep -qs '^netns' "$directory"/*.kind; then
        "${private[@]}" bash "ci/readme.sh" --inside "$directory"
    fi
done
# A renamed word would otherwise turn this script into one that always passes.
[ "$blocks" -gt 0 ] || die 'no runnable block in any document'
say "$blocks blocks did what the documents say"

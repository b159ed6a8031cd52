#!/usr/bin/env bash
# Promise: facts that stand twice are the same: flags, commands, close reasons, exit statuses and messages in the
# documents are those of the program, and ci/README.md, justfile and ci/ name the same scripts.
#
# A table in a document is compared when this comment stands right above it:
#
#   <!-- checked: flags of mmproxy probe -->     first column: the flags that --help prints
#   <!-- checked: commands -->                   first column: the subcommands that --help prints
#   <!-- checked: commands of mmproxy config -->  the same for `mmproxy config`
#   <!-- checked: close reasons -->              first column: the labels of CloseReason
#   <!-- checked: drop reasons -->               first column: the labels of DropReason
#   <!-- checked: flow ends -->                  first column: the labels of FlowEnd
#   <!-- checked: exit statuses -->              first column: the values of Exit
#   <!-- checked: system calls … -->             first column: those on the lists of a worker's filter
#   <!-- checked: dependencies -->               first column: what any manifest of the tree depends on
#   <!-- checked: messages -->                   first column: text of the sources; `…` stands for what varies.
#                                                All warnings and all `[!]` lines of the program must be there
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

documents=(README.md docs/*.md)
failed=false
complain() {
    say "$*" >&2
    failed=true
}

# First cells of all tables under `<!-- checked: $1 -->`, without their heading.
cells() {
    cat "${documents[@]}" | awk -v mark="<!-- checked: $1 -->" '
        $0 == mark { table = 1; row = 0; next }
        table && /^\|/ {
            row++
            if (row > 2) { gsub(/\\\|/, "\001"); split($0, cell, "|"); gsub("\001", "|", cell[2]); print cell[2] }
            next
        }
        # A blank line may stand between the comment and its table.
        table && row { table = 0 }
    '
}

# same WHAT DOCUMENTED REAL: two sorted lists, one item a line.
same() {
    local what=$1 documented=$2 real=$3 item
    # An empty list means that this script no longer finds what it looks for.
    [ -n "$documented" ] || { complain "no table of $what in the documents"; return; }
    [ -n "$real" ] || { complain "no $what found in the program"; return; }
    while read -r item; do
        [ -z "$item" ] || complain "$what: $item is documented, but not there"
    done < <(comm -23 <(printf '%s\n' "$documented") <(printf '%s\n' "$real"))
    while read -r item; do
        [ -z "$item" ] || complain "$what: $item is there, but not documented"
    done < <(comm -13 <(printf '%s\n' "$documented") <(printf '%s\n' "$real"))
}

# --- flags and commands ----------------------------------------------------------------------------------

debug_build mmproxy
mmproxy="$TARGET_DIR/debug/mmproxy"

# Names in the option lines of clap's help, e.g. `  -l, --listen <ADDR:PORT>`; every command has -h and -V.
flags_of() {
    # shellcheck disable=SC2086  # "mmproxy probe" is two words
    "$mmproxy" ${1#mmproxy} --help | sed -nE 's/^ {2,6}(-[^ ].*)$/\1/p' | sed -E 's/ {2,}.*//' |
        grep -oE '(^|[ ,])--?[a-zA-Z0-9][a-z0-9-]*' | tr -d ' ,' | grep -vxE -- '-h|--help|-V|--version' | sort -u
}

commands() {
    "$mmproxy" --help | sed -nE '/^Commands:/,/^$/ s/^  ([a-z]+).*/\1/p' | grep -vx help | sort -u
}

documented_flags() {
    cells "flags of $1" | grep -oE '`--?[a-zA-Z0-9][a-z0-9-]*' | tr -d '`' | sort -u
}

same 'flags of mmproxy' "$(documented_flags mmproxy)" "$(flags_of mmproxy)"
same 'commands' "$(cells commands | grep -oE '`(mmproxy )?[a-z]+' | sed -E 's/`(mmproxy )?//' | sort -u)" "$(commands)"
same 'commands of mmproxy config' \
    "$(cells 'commands of mmproxy config' | grep -oE '`mmproxy config [a-z-]+' | sed 's/.* //' | sort -u)" \
    "$("$mmproxy" config --help | sed -nE '/^Commands:/,/^$/ s/^  ([a-z-]+).*/\1/p' | grep -vx help | sort -u)"
for command in $(commands); do
    flags=$(flags_of "mmproxy $command" || true)
    [ -z "$flags" ] || same "flags of mmproxy $command" "$(documented_flags "mmproxy $command")" "$flags"
done
for command in $("$mmproxy" deny --help | sed -nE '/^Commands:/,/^$/ s/^  ([a-z-]+).*/\1/p' | grep -vx help); do
    same "flags of mmproxy deny $command" "$(documented_flags "mmproxy deny $command")" "$(flags_of "mmproxy deny $command")"
done

# --- reasons, statuses, messages --------------------------------------------------------------------------

# First `fn label` in a file of the forwarder.
labels() {
    awk '/fn label\(/ { inside = 1 } inside { print } inside && /^    }/ { exit }' "crates/mmproxy-forwarder/src/$1" |
        grep -oE '"[a-z_]+"' | tr -d '"' | sort -u
}
same_labels() {
    same "$1" "$(cells "$1" | cut -d '|' -f 1 | grep -oE '`[a-z_]+`' | tr -d '`' | sort -u)" "$(labels "$2")"
}
same_labels 'close reasons' report.rs
same_labels 'drop reasons' udp/drops.rs
same_labels 'flow ends' udp/report.rs

# On other architectures some are not there. The command is the tests': `mmproxy jail-probe`.
if [ "$(uname -m)" = x86_64 ]; then
    same_calls() {
        same "$1" "$(cells "$1" | grep -oE '`[a-z0-9_]+`' | tr -d '`' | sort -u)" \
            "$("$mmproxy" jail-probe list | sed -n "s/^$2: //p" | sort -u)"
    }
    same_calls 'system calls' allowed
    same_calls 'system calls by their arguments' 'some arguments'
    same_calls 'system calls that fail' fails
fi
metrics() {
    sed '/^#\[cfg(test)\]/,$d' crates/mmproxy/src/metrics/render.rs | grep -oE '"mmproxy_[a-z_]+"' | tr -d '"' | sort -u
}
same 'metrics' "$(cells metrics | grep -oE '`[a-z_]+`' | tr -d '`' | sort -u)" "$(metrics)"

statuses() {
    sed -nE 's/^    [A-Z][A-Za-z]+ = ([0-9]+),$/\1/p' crates/mmproxy/src/exit.rs | sort -u
}
same 'exit statuses' "$(cells 'exit statuses' | grep -oE '[0-9]+' | sort -u)" "$(statuses)"

# Our sources on one line, string literals put together again where a backslash continues them.
sources=$(git ls-files --cached --others --exclude-standard -- 'crates/*/src/*.rs' | xargs cat |
    sed -e ':again' -e '/\\$/ { N; s/\\\n *//; b again' -e '}' | tr '\n' ' ')
# A message that has back-quotes in it stands between two of them.
documented=$(cells messages | sed -nE 's/^ *`+ ?(.*[^ `]) ?`+ *$/\1/p')
[ -n "$documented" ] || complain 'no table of messages in the documents'

# What varies is filled in at run time: the text around it must be there.
while read -r message; do
    while read -r piece; do
        [ "${#piece}" -lt 4 ] || grep -qF -- "${piece//\"/\\\"}" <<<"$sources" ||
            complain "messages: no source says \"$piece\" (of \"$message\")"
    done <<<"${message//…/$'\n'}"
done <<<"$documented"

# The other way round: warnings, and lines for the operator that begin with [!], up to what varies in them.
warnings() {
    grep -oP '\b(?:warn|error)!\((?:[^"]|"(?=[^"]*",))*"\K[^"]+' <<<"$sources"
}
wanted() {
    warnings | grep -v '^{' | sed 's/{.*//'
    # A warning's text that is put together elsewhere: what workers are less confined with than they could be.
    grep -oP '\bgaps\.push\((?:format!\(\s*)?"\K[^"{]+' <<<"$sources"
    grep -oP '"(?:\{\w*\} )?\K\[!\] [^"{]*' <<<"$sources"
}
# None may be overlooked because it is written in another way: each call has a text, and each text that is put together
# elsewhere is one of these. A line of `error!("{line}")` is the reason why there was no reload, as at the start.
calls=$(grep -oE '\b(warn|error)!\(' <<<"$sources" | wc -l)
[ "$calls" -eq "$(warnings | wc -l)" ] || complain "messages: $calls warnings are in the sources, $(warnings | wc -l) have a text that this script sees"
same 'warnings whose text is put together elsewhere' $'{gap}\n{line}' "$(warnings | grep '^{' | sort -u)"
while read -r message; do
    grep -qF -- "$message" <<<"$documented" || complain "messages: \"$message\" is in the sources, but not documented"
done < <(wanted | sed -E 's/[[:space:]]+$//' | sort -u)

# --- dependencies -----------------------------------------------------------------------------------------

# Of every manifest, also of those outside the workspace.
dependencies() {
    local manifest
    while read -r manifest; do
        cargo metadata --locked --offline --no-deps --format-version 1 --manifest-path "$manifest" |
            python3 -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    for dependency in package["dependencies"]:
        print(dependency["name"])'
    done < <(git ls-files --cached --others --exclude-standard -- 'Cargo.toml' '*/Cargo.toml') | sort -u
}
same 'dependencies' "$(cells dependencies | grep -oE '`[a-z0-9_-]+`' | tr -d '`' | sort -u)" "$(dependencies)"

# --- the scripts themselves -------------------------------------------------------------------------------

scripts=$(git ls-files --cached --others --exclude-standard -- ci | grep -E '\.sh$|/(test|docker)$' | grep -v '/lib\.sh$' | sort)
same 'scripts in ci/README.md' "$(grep -oE '`ci/[a-z0-9-]+(\.sh)?' ci/README.md | tr -d '`' | grep -v '/lib\.sh$' | sort -u)" "$scripts"
while read -r script; do
    [ -x "$script" ] || complain "justfile calls $script, which is not there"
done < <(grep -oE 'ci/[a-z0-9-]+(\.sh)?' justfile | sort -u)

# --- versions ---------------------------------------------------------------------------------------------

rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
for file in README.md CONTRIBUTING.md; do
    ! grep -qE 'Rust [0-9]+\.[0-9]+' "$file" || grep -qF "Rust $rust" "$file" ||
        complain "$file names another Rust version than Cargo.toml ($rust)"
done

$failed && exit 1
say "$(wc -l <<<"$documented") messages and all tables agree with the program"

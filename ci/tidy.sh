#!/usr/bin/env bash
# Promise: the tree is the project's alone: no path of one machine in it, and its documents link to and name
# only files that are there.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

failed=false
complain() {
    say "$*" >&2
    failed=true
}

# Files as committed or about to be; `git grep` would skip those not yet added.
mapfile -t files < <(git ls-files --cached --others --exclude-standard)

# Home directories and the like. The brackets keep this line from finding itself; paths in a .gitignore begin at
# the folder it lies in.
if found=$(grep -nIE --exclude=.gitignore '(^|[^A-Za-z0-9_.-])/([w]ork|[r]oot|[h]ome)/' -- "${files[@]}"); then
    complain "paths of one machine:"$'\n'"$found"
fi
# Where this checkout lies, unless that is a plain word such as /src.
if [[ $ROOT == /*/* ]] && found=$(grep -nIF "$ROOT/" -- "${files[@]}"); then
    complain "the path of this checkout:"$'\n'"$found"
fi

# [text](target) in Markdown, without addresses on the web and without the #anchor.
for file in "${files[@]}"; do
    [[ $file == *.md ]] || continue
    while read -r target; do
        [ -e "$(dirname "$file")/$target" ] || complain "$file links to $target, which is not there"
    done < <(grep -oE '\]\([^)#[:space:]]+' "$file" | sed 's/^](//' | grep -vE '^[a-z]+:' || true)
done

# `crates/…/session.rs` and the like in running text.
for file in "${files[@]}"; do
    [[ $file == *.md ]] || continue
    while read -r path; do
        [ -e "$path" ] || complain "$file names $path, which is not there"
    done < <(grep -oE '`(crates|docs|ci|harness|fuzz)/[A-Za-z0-9_./-]+' "$file" | tr -d '`' || true)
done

# The map of the code names modules short, as `keeper/crew.rs`, or `udp/table` in its drawings.
map=docs/architecture.md
while read -r module; do
    grep -qE "(^|/)${module%.rs}\.rs$" < <(printf '%s\n' "${files[@]}") || complain "$map names $module, which is not there"
done < <(grep -oE '\b([a-z_-]+/)*[a-z_]+\.rs\b|\b(tcp|udp|session|limits|sys|keeper|config|metrics)/[a-z_]+' "$map" | sort -u)

$failed && exit 1
say "${#files[@]} files are tidy"

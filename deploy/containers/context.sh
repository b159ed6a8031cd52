#!/usr/bin/env bash
# Lays out what an image FROM scratch needs to run one executable: it, its libraries, its loader, and /etc/passwd.
#
#   deploy/containers/context.sh EXECUTABLE PATH DIRECTORY
#
# PATH is where the executable is in the image. The result is DIRECTORY/root and DIRECTORY/Containerfile:
#
#   deploy/containers/context.sh target/release/mmproxy usr/sbin/mmproxy target/container
#   docker build --tag mmproxy --file target/container/Containerfile target/container
set -euo pipefail

[ "$#" -eq 3 ] || { echo "usage: ${0##*/} EXECUTABLE PATH DIRECTORY" >&2; exit 64; }
executable=$1 path=$2 directory=$3
root=$directory/root

rm -rf "$root"
mkdir -p "$root/etc" "$root/tmp"
install -D -m 755 "$executable" "$root/$path"
# `lib => /path (address)`, and the loader's line, which has no arrow. Without the kernel's own object, which is no file.
ldd "$executable" | grep -oE '/[^ ]+' | while read -r library; do
    install -D -m 755 "$library" "$root$library"
done
printf 'root:x:0:0::/:\nnobody:x:65534:65534::/:\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
cp "$(dirname "$0")/Containerfile" "$directory/Containerfile"

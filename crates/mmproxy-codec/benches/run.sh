#!/usr/bin/env bash
# Prints nanoseconds and instructions per header for this crate and the others, from one build.
#
# Instructions come from callgrind: two runs of different length, so that the rest of the program cancels out. They
# do not depend on how busy the machine is; nanoseconds do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

command -v valgrind >/dev/null || { echo "run.sh: valgrind is missing: apt-get install valgrind" >&2; exit 1; }

program=$(cargo bench --locked --no-run --bench instructions --message-format json |
    sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p')

count() { valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 | sed -n 's/.*Collected : //p'; }

rustc --version
grep -m1 'model name' /proc/cpuinfo || true
echo
cargo bench --locked --quiet --bench decode
echo
printf '%-18s %-22s %12s\n' header crate instructions
"$program" --list | while read -r row crate; do
    short=$(count "$row" "$crate" 1000)
    long=$(count "$row" "$crate" 3000)
    printf '%-18s %-22s %12d\n' "$row" "$crate" $(((long - short) / 2000))
done

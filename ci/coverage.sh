#!/usr/bin/env bash
# Question: which lines of the codec does no test reach? Prints them, and fails below 95 % of lines or regions.
#
# Counts what the codec's own tests reach: unit, property, conformance and corpus replay. llvm-cov and llvm-profdata
# must be of the LLVM that rustc is built with; LLVM_COV and LLVM_PROFDATA may name them.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

least=95
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
cov=${LLVM_COV:-llvm-cov-$llvm}
profdata=${LLVM_PROFDATA:-llvm-profdata-$llvm}
for tool in "$cov" "$profdata"; do
    have "$tool" || die "$tool is missing: apt-get install llvm-$llvm, or name another with LLVM_COV and LLVM_PROFDATA"
done

work=$TARGET_DIR/coverage
rm -rf "$work/profiles"
mkdir -p "$work/profiles"

say "building and running the codec's tests with counters"
# Paths in the report shall not depend on where the tree lies.
export RUSTFLAGS="-C instrument-coverage --remap-path-prefix=$ROOT/="
mapfile -t programs < <(
    LLVM_PROFILE_FILE=/dev/null cargo test --locked --quiet --package mmproxy-codec --tests --no-run \
        --target-dir "$work" --message-format json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
)
[ "${#programs[@]}" -gt 0 ] || die "cargo built no tests"
objects=()
for program in "${programs[@]}"; do
    (cd crates/mmproxy-codec && LLVM_PROFILE_FILE="$work/profiles/%p-%m.profraw" "$program" --quiet >"$work/tests.log" 2>&1) ||
        { tail -n 30 "$work/tests.log" >&2; die "a test failed"; }
    objects+=(--object "$program")
done
"$profdata" merge --sparse --output "$work/merged.profdata" "$work/profiles"/*.profraw

# Tests, fuzz bodies and other crates are not what is asked for.
ignore='(/tests\.rs|fuzzing\.rs|(^|/)tests/|/registry/|/rustc/|/toolchains/)'
arguments=(--instr-profile "$work/merged.profdata" --ignore-filename-regex "$ignore" "${objects[@]}")

# Columns of llvm-cov: file; regions, missed, %; functions, missed, %; lines, missed, %.
"$cov" report "${arguments[@]}" | awk '
    BEGIN { printf "%-20s %8s %7s %8s %8s %7s %8s\n", "file", "regions", "missed", "", "lines", "missed", "" }
    NF >= 10 && $1 != "Filename" { printf "%-20s %8d %7d %8s %8d %7d %8s\n", $1, $2, $3, $4, $8, $9, $10 }
' | tee "$work/report.txt"

say "lines that no test reaches:"
"$cov" export --format lcov "${arguments[@]}" | awk -F'[:,]' '
    /^SF:/ { file = substr($0, 4) }
    /^DA:/ && $3 == 0 { print file ":" $2 }
' | while IFS=: read -r file line; do
    printf '  %s:%s: %s\n' "$file" "$line" "$(sed -n "${line}p" "$file" | sed 's/^ *//')"
done

read -r regions lines < <(awk '$1 == "TOTAL" { print $4, $7 }' "$work/report.txt")
say "$lines of lines, $regions of regions"
for figure in "$lines" "$regions"; do
    [ "${figure%%.*}" -ge "$least" ] || die "below $least %"
done

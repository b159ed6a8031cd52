#!/usr/bin/env bash
# Question: does anything break after a long time of fuzzing, and what is the smallest corpus that reaches as much?
#
# Usage: ci/fuzz-campaign.sh [SECONDS [TARGET…]]; 900 seconds per target and all targets if not said.
#
# Targets run side by side, as many as there are processors (or $FUZZ_JOBS). What they find on the way is kept in
# fuzz/work/, so a campaign that was interrupted goes on where it was. At the end each corpus is minimised into
# fuzz/corpus/, and its figures go in front of those in fuzz/summary.md: executions, coverage and findings. Both belong
# into version control.
# Status 1 if there are findings.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source fuzz/lib.sh

seconds=${1:-900}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "seconds per target must be a number, not '$seconds'"
shift || true
mapfile -t targets < <(if [ "$#" -gt 0 ]; then printf '%s\n' "$@"; else fuzz_targets; fi)
for target in "${targets[@]}"; do
    fuzz_targets | grep -qx -- "$target" || die "there is no target '$target'; there are: $(fuzz_targets | tr '\n' ' ')"
done
jobs=${FUZZ_JOBS:-$(nproc)}

# One target: its time, then its corpus. Runs in a process of its own.
campaign() {
    local target=$1 log=fuzz/work/$1.log
    mkdir -p "fuzz/work/$target"
    say "$target for $seconds s"
    # -fork goes on after a finding, so that one does not hide the others.
    fuzz_run "$target" "fuzz/work/$target" "fuzz/corpus/$target" -fork=1 -ignore_crashes=1 \
        -max_total_time="$seconds" >"$log" 2>&1 || true
    rm -rf "fuzz/work/$target.min"
    mkdir "fuzz/work/$target.min"
    fuzz_run "$target" -merge=1 "fuzz/work/$target.min" "fuzz/corpus/$target" "fuzz/work/$target" >>"$log" 2>&1
    keep "$target"
}

# Replaces a corpus by the minimised one. Seeds with a name stay, whatever they reach: they say what they are.
keep() {
    local target=$1 input
    rm -rf "fuzz/work/$target.new"
    mkdir "fuzz/work/$target.new"
    cp "fuzz/work/$target.min"/* "fuzz/work/$target.new/"
    for input in "fuzz/corpus/$target"/*; do
        # libFuzzer names inputs by their SHA-1, and seeds among them by that of the same bytes.
        [[ ${input##*/} =~ ^[0-9a-f]{40}$ ]] && continue
        rm -f "fuzz/work/$target.new/$(sha1sum <"$input" | cut -d ' ' -f 1)"
        cp "$input" "fuzz/work/$target.new/"
    done
    rm -rf "fuzz/corpus/$target"
    mv "fuzz/work/$target.new" "fuzz/corpus/$target"
    rm -rf "fuzz/work/$target.min"
}

# The figures of all targets, from their logs.
summary() {
    printf '## %s\n\n' "$(date -u +%Y-%m-%d)"
    printf '%s seconds per target, %s at a time; %s; %s.\n\n' "$seconds" "$jobs" "$(rustc --version)" \
        "$(grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //')"
    printf '| target | executions | coverage (edges) | features | corpus after minimising | findings |\n'
    printf '| --- | ---: | ---: | ---: | ---: | ---: |\n'
    local target last
    for target in "${targets[@]}"; do
        # The last line of the fuzzing itself: "#1234: cov: 56 ft: 78 corp: 9 exec/s 10 …".
        last=$(grep -E '^#[0-9]+: cov: ' "fuzz/work/$target.log" | tail -n 1)
        printf '| \x60%s\x60 | %s | %s | %s | %s | %s |\n' "$target" \
            "$(sed -n 's/^#\([0-9]*\):.*/\1/p' <<<"$last")" \
            "$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' <<<"$last")" \
            "$(sed -n 's/.* ft: \([0-9]*\).*/\1/p' <<<"$last")" \
            "$(find "fuzz/corpus/$target" -type f | wc -l)" \
            "$(findings "$target")"
    done
}

findings() { find "fuzz/artifacts/$1" -type f 2>/dev/null | wc -l; }

fuzz_build
mkdir -p fuzz/work
running=0
for target in "${targets[@]}"; do
    if [ "$running" -ge "$jobs" ]; then
        wait -n || die "a target could not be minimised, see fuzz/work/*.log"
        running=$((running - 1))
    fi
    campaign "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || die "a target could not be minimised, see fuzz/work/*.log"
    running=$((running - 1))
done

figures=$(summary)
printf '%s\n' "$figures"
{
    sed '/^## /,$d' fuzz/summary.md
    printf '%s\n\n' "$figures"
    sed -n '/^## /,$p' fuzz/summary.md
} >fuzz/work/summary.md
mv fuzz/work/summary.md fuzz/summary.md
found=0
for target in "${targets[@]}"; do found=$((found + $(findings "$target"))); done
[ "$found" -eq 0 ] || die "$found findings in fuzz/artifacts/; fuzz/README.md says what to do with them"

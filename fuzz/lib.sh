# shellcheck shell=bash
# What ci/fuzz-smoke.sh and ci/fuzz-campaign.sh share. Sourced after ci/lib.sh.
#
# cargo-fuzz wants sanitizer flags, which rustc keeps for nightly; RUSTC_BOOTSTRAP allows them to the ordinary
# compiler, so that what is fuzzed is what is shipped.

FUZZ_HOST=$(rustc -vV | sed -n 's/^host: //p')
FUZZ_TARGET_DIR=$TARGET_DIR/fuzz

fuzz_targets() { sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml; }

# Builds all targets. They are then run without cargo: it would check its lock for each.
fuzz_build() {
    cargo fuzz --version >/dev/null 2>&1 || die "cargo-fuzz is missing: cargo install cargo-fuzz"
    have c++ || die "a C++ compiler is missing: apt-get install g++"
    RUSTC_BOOTSTRAP=1 cargo fuzz build --fuzz-dir fuzz --target-dir "$FUZZ_TARGET_DIR"
}

# fuzz_run TARGET ARGUMENTS…: libFuzzer with the dictionary, and findings in fuzz/artifacts/TARGET/.
fuzz_run() {
    local target=$1
    shift
    mkdir -p "fuzz/artifacts/$target"
    "$FUZZ_TARGET_DIR/$FUZZ_HOST/release/$target" -dict=fuzz/proxy.dict -artifact_prefix="fuzz/artifacts/$target/" \
        -max_len=4096 -timeout=10 -rss_limit_mb=2048 "$@"
}

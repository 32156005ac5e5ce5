#!/bin/bash
# Runs fuzz targets, each for some seconds.
#
#   scripts/fuzz.sh SECONDS [TARGET]...      without a target, all of fuzz/targets/
#
# The inputs of fuzz/seeds/TARGET/ come first. New inputs are kept in fuzz/corpus/ for the
# next run. An input that breaks something ends its target, stays in fuzz/artifacts/, and
# makes this script fail.
#
# With MHA_FUZZ_SEED=1 every run takes the same way.
#
# Everything runs under AddressSanitizer. With MHA_SANITIZER=thread it is ThreadSanitizer,
# with a standard library that is built for it, by a nightly toolchain with rust-src.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo_fuzz=0.13.2

say() { printf 'fuzz: %s\n' "$*"; }
die() { printf 'fuzz: error: %s\n' "$*" >&2; exit 1; }

seconds=${1:-}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "usage: $0 SECONDS [TARGET]..."
shift
targets=("$@")
[[ $# != 0 ]] || targets=(fuzz/targets/*.rs)
targets=("${targets[@]##*/}")
targets=("${targets[@]%.rs}")
for target in "${targets[@]}"; do
    [[ -e fuzz/targets/$target.rs ]] || die "there is no fuzz/targets/$target.rs."
done

scripts/setup.sh fuzz
# Several targets compare results with those of the brokers.
scripts/brokers.sh all

work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
unset CARGO_TARGET_DIR
if [[ $("$work/tools/bin/cargo-fuzz" --version 2>/dev/null || true) != "cargo-fuzz $cargo_fuzz" ]]; then
    say "building cargo-fuzz $cargo_fuzz into $work/tools (once, about a minute)"
    cargo install --quiet cargo-fuzz --version "$cargo_fuzz" --locked --root "$work/tools" --target-dir "$work/tools/build" ||
        die "cargo-fuzz cannot be built (the lines above say why), so nothing was fuzzed."
    rm -rf "$work/tools/build"
fi
export PATH=$work/tools/bin:$PATH
if [[ ${MHA_SANITIZER:-address} == thread ]]; then
    cargo=(cargo +nightly fuzz)
    options=(--sanitizer thread --build-std --target-dir "$work/build-thread")
else
    cargo=(cargo fuzz)
    options=(--target-dir "$work/build")
    # cargo-fuzz uses unstable flags, which a stable compiler takes with this variable.
    export RUSTC_BOOTSTRAP=1
fi

say "building (minutes at first)"
build() {
    "${cargo[@]}" build "${options[@]}" "$@" 2>"$work/build.log" ||
        { tail -n 40 "$work/build.log" >&2; die "what is to run does not build."; }
}
if [[ $# == 0 ]]; then build; else for target in "$@"; do build "$target"; done; fi

broken=()
printf '%-14s %12s %9s %8s\n' target executions coverage inputs
for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    log=$work/$target.log
    if ! "${cargo[@]}" run "${options[@]}" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=25 -print_final_stats=1 ${MHA_FUZZ_SEED:+-seed="$MHA_FUZZ_SEED"} >"$log" 2>&1; then
        broken+=("$target")
        grep -vE '^ *[0-9]+:|^ +at |^#|^"' "$log" | tail -n 30 >&2
        continue
    fi
    # The last line with figures: "#1234 DONE cov: 56 ft: 78 corp: 9/10b ...".
    awk -v target="$target" '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
        /^stat::number_of_executed_units/ { runs = $2 }
        END { sub(/\/.*/, "", corp); printf "%-14s %12s %9s %8s\n", target, runs, cov, corp }' "$log"
done
[[ ${#broken[@]} == 0 ]] || die "something broke in: ${broken[*]}. The inputs are in fuzz/artifacts/, the logs in $work."

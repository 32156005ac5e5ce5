#!/bin/bash
# Runs the main scenarios of the integration tests with the brokers under a memory
# checker, and fails if a report has the plugin in its stack.
#
#   scripts/sanitize.sh memcheck | asan [TEST]...
#
#   memcheck   valgrind, on 2.0.11: it needs the symbols of the C library that the
#              broker runs with, and the other brokers bring libraries without any
#   asan       AddressSanitizer and LeakSanitizer, on every broker; only the plugin
#              is instrumented, and other code is watched through its malloc
#
# Under valgrind a broker is some thirty times slower, which is too slow for the limits
# of many tests. Only memory matters here, so a test that fails is printed, and no more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scenarios=(authenticates authorises caches config_files delayed fails_closed fans_out
    http_api local_users looks_ahead malformed prefetches rechecks shuts_down tls)

say() { printf 'sanitize: %s\n' "$*"; }
die() { printf 'sanitize: error: %s\n' "$*" >&2; exit 1; }

tool=${1:-}
[[ $tool == memcheck || $tool == asan ]] || die "usage: $0 memcheck | asan [TEST]..."
shift
[[ $# == 0 ]] || scenarios=("$@")

scripts/setup.sh "$tool"
scripts/setup.sh tests
scripts/brokers.sh all

work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/$tool
reports=$work/reports
rm -rf "$reports"
mkdir -p "$reports"
host=$(rustc -vV | sed -n 's/^host: //p')

# Symbols, but no line numbers: then every frame of a report names its library.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_STRIP=none
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
build() { cargo rustc -p mosquitto-http-auth --release --lib --crate-type cdylib --target "$host" --target-dir "$work"; }

case $tool in
memcheck)
    build
    # "Possibly lost" blocks are not lost: Rust's Arcs are kept by pointers into their middle.
    cat >"$work/under" <<UNDER
#!/bin/sh
case "\$*" in
*/.brokers/2.0.11/*) exec valgrind --quiet --trace-children=yes --num-callers=40 --leak-check=full \\
    --show-leak-kinds=definite,indirect --suppressions='$PWD/scripts/memcheck.supp' --log-file='$reports/%p' "\$@" ;;
*) exec "\$@" ;;
esac
UNDER
    ;;
asan)
    # The flag is unstable, but the stable compiler has it with this variable, and the runtime, too.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address -Cforce-frame-pointers=yes' build
    # The runtime is an archive for Rust's own programs. A broker is none of them, so a library is preloaded into it: the
    # archive without the part that only programs may have.
    archive=("$(rustc --print sysroot)/lib/rustlib/$host/lib/"librustc-*_rt.asan.a)
    [[ -e ${archive[0]} ]] || die "this Rust toolchain has no runtime of AddressSanitizer (librustc-*_rt.asan.a)."
    cp "${archive[0]}" "$work/runtime.a"
    ar d "$work/runtime.a" asan_preinit.cpp.o
    cc -shared -o "$work/runtime.so" -Wl,--whole-archive "$work/runtime.a" -Wl,--no-whole-archive -lpthread -ldl -lrt -lm
    cat >"$work/under" <<UNDER
#!/bin/sh
export LD_PRELOAD='$work/runtime.so'
export ASAN_OPTIONS='detect_leaks=1:log_path=$reports/report:exitcode=0:detect_stack_use_after_return=1'
# With the library in every frame, for the search below.
export ASAN_OPTIONS="\$ASAN_OPTIONS:stack_trace_format='    #%n %f in %m'"
exec "\$@"
UNDER
    ;;
esac
chmod +x "$work/under"

tests=()
for scenario in "${scenarios[@]}"; do tests+=(--test "$scenario"); done
plugin=$work/$host/release/libmosquitto_http_auth.so
say "running ${scenarios[*]}"
passed=true
# Few tests at once, since a checker makes each of them slow.
MHA_PLUGIN=$plugin MHA_BROKER_UNDER=$work/under scripts/test.sh "${tests[@]}" -- --test-threads=2 || passed=false

# A report is a paragraph. One about the plugin names its library.
findings=$(cat "$reports"/* 2>/dev/null | sed -E 's/^==[0-9]+== ?//' |
    awk -v RS= '/libmosquitto_http_auth\.so/ { print $0 "\n" }')
brokers=$(find "$reports" -type f | wc -l)
[[ $brokers != 0 ]] || die "no broker left a report, so nothing was checked."
say "$brokers brokers left a report"
if [[ $findings ]]; then
    printf '%s\n' "$findings" >&2
    die "the plugin has to do with what is above (all reports: $reports)."
fi
say "nothing was found in the plugin"
$passed || [[ $tool == memcheck ]] || die "but not all tests passed."
$passed || say "not all tests passed (see above): valgrind is slow"

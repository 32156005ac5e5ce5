#!/bin/bash
# Runs `cargo test` with the arguments given here. A test that fails is run once more,
# alone: these tests watch real brokers on a machine that may be busy. A test that passes
# then is unsteady, and the run fails nevertheless, unless tests/unsteady.txt names the
# test. target/unsteady.txt lists the unsteady tests of the run afterwards.
#
# The brokers are those of MHA_BROKERS, if that is set. Ones that scripts/brokers.sh could not bring are left out. The end says which, and
# how many tests could not run at all without them.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
known=tests/unsteady.txt
# Tests wait for brokers more than they compute: two for each core (the default is one).
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
report=${CARGO_TARGET_DIR:-target}/unsteady.txt

# The lines of the list, without its comments: "TARGET NAME  REASON".
entries() { grep -Ev '^[[:space:]]*(#|$)' "$known"; }
is_known() { entries | awk -v target="$1" -v name="$2" '$1 == target && $2 == name { found = 1 } END { exit !found }'; }
# Prints cargo's option for a target: "lib", or the name of a file or folder in tests/.
flag() { if [ "$1" = lib ]; then echo --lib; else echo "--test=$1"; fi; }

absent=()
for version in 2.0.11 2.0.21 2.1; do
    [ -e "${MHA_BROKERS:-.brokers}/$version/version" ] || absent+=("$version")
done
export MHA_ABSENT="${absent[*]}"

cargo test --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

# Prints lines "TARGET NAME" from cargo's "Running tests/TARGET.rs" (or tests/TARGET/main.rs) and
# "test NAME ... FAILED".
failures=$(awk '
    /^ +Running unittests/ { target = "lib" }
    /^ +Running tests\// { target = $2; sub(/^tests\//, "", target); sub(/(\/main)?\.rs$/, "", target) }
    /^test .* \.\.\. FAILED$/ { print target, $2 }
' "$log")
# Of these, the ones that need a broker that is not here. (Their output says so, and nothing else can.)
not_run=0
if [ ${#absent[@]} != 0 ] && [ -n "$failures" ]; then
    needing=$(awk '
        /^ +Running tests\// { target = $2; sub(/^tests\//, "", target); sub(/(\/main)?\.rs$/, "", target) }
        /^---- .* stdout ----$/ { name = $2 }
        /^not run: mosquitto .* is missing$/ { print target, name }
    ' "$log" | sort -u)
    before=$(printf '%s' "$failures" | grep -c .)
    failures=$(grep -vxF -- "${needing:-none}" <<<"$failures")
    not_run=$((before - $(printf '%s' "$failures" | grep -c .)))
    [ -n "$failures" ] || status=0
fi
passed=$(awk '/^test result: / { sum += $4 } END { print sum + 0 }' "$log")
failed=$(printf '%s' "$failures" | grep -c .)

unsteady=()
if [ "$status" != 0 ] && [ "$failed" -gt 0 ] && [ "$failed" -le 8 ]; then
    printf '\n%s tests failed. Once more, each alone:\n' "$failed"
    unexcused=0
    while read -r target name; do
        if ! cargo test "$(flag "$target")" -- --exact "$name" </dev/null; then
            unexcused=$((unexcused + 1))
        elif is_known "$target" "$name"; then
            unsteady+=("$target $name  (in $known)")
            passed=$((passed + 1))
        else
            unsteady+=("$target $name")
            unexcused=$((unexcused + 1))
        fi
    done <<<"$failures"
    failed=$unexcused
    [ "$failed" = 0 ] && status=0
fi
mkdir -p "$(dirname "$report")"
: >"$report"
if [ ${#unsteady[@]} != 0 ]; then
    printf '%s\n' "${unsteady[@]}" >"$report"
    printf 'Unsteady, since they passed only alone (also in %s):\n' "$report"
    printf '  %s\n' "${unsteady[@]}"
    echo "Whichever is not in $known has failed."
fi

# An entry of the list must name a test, and give a reason.
while read -r target name reason; do
    listed=$(cargo test --quiet "$(flag "$target")" -- --list 2>/dev/null </dev/null)
    if ! grep -qFx -- "$name: test" <<<"$listed"; then
        problem="there is no such test"
    elif [ -z "$reason" ]; then
        problem="there is no reason"
    else
        continue
    fi
    printf '%s: %s %s: %s\n' "$known" "$target" "$name" "$problem"
    failed=$((failed + 1))
    status=1
done < <(entries)

# After a compiler's error no test has run, which must not read as "0 failed".
[ "$status" != 0 ] && [ "$failed" = 0 ] && failed=1
if [ ${#absent[@]} != 0 ]; then
    echo
    for version in "${absent[@]}"; do
        reason=$(sed -n 's/^brokers: error: //p' ".brokers/$version.missing" 2>/dev/null | tail -n 1)
        echo "NOT TESTED: mosquitto $version, which is not here (${reason:-scripts/brokers.sh was not run})"
    done
    printf '\n%s passed, %s failed, %s not run; NOT TESTED: mosquitto %s\n' "$passed" "$failed" "$not_run" "${absent[*]}"
else
    printf '\n%s passed, %s failed\n' "$passed" "$failed"
fi
exit "$status"

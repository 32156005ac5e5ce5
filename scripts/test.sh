#!/bin/bash
# Runs `cargo test` with the arguments given here. A test that fails is run once more,
# alone: these tests watch real brokers on a machine that may be busy with others. What
# passes then is named at the end; what fails twice has failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo test --no-fail-fast "$@" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

# Lines "TARGET NAME", where cargo says "Running tests/TARGET.rs" and then "test NAME ... FAILED".
failures=$(awk '
    /^ +Running unittests/ { target = "--lib" }
    /^ +Running tests\// { target = $2; sub(/^tests\//, "", target); sub(/\.rs$/, "", target); target = "--test=" target }
    /^test .* \.\.\. FAILED$/ { print target, $2 }
' "$log")
passed=$(awk '/^test result: / { sum += $4 } END { print sum + 0 }' "$log")
failed=$(printf '%s' "$failures" | grep -c .)

if [ "$status" != 0 ] && [ "$failed" -gt 0 ] && [ "$failed" -le 8 ]; then
    printf '\n%s tests failed. Once more, each alone:\n' "$failed"
    unsteady=()
    while read -r target name; do
        if cargo test "$target" -- --exact "$name"; then
            unsteady+=("$target $name")
        fi
    done <<<"$failures"
    passed=$((passed + ${#unsteady[@]}))
    failed=$((failed - ${#unsteady[@]}))
    [ "$failed" = 0 ] && status=0
    printf 'passed only when alone: %s\n' "${unsteady[@]}"
fi

# Not to be cut short by a compiler's error: then nothing has run and nothing is "0 failed".
[ "$status" != 0 ] && [ "$failed" = 0 ] && failed=1
printf '\n%s passed, %s failed\n' "$passed" "$failed"
exit "$status"

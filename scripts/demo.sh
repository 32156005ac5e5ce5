#!/bin/bash
# Shows the plugin at its main job: real brokers, the real mosquitto_pub and
# mosquitto_sub, and an API that prints what it is asked.
#
#   scripts/demo.sh [2.0.11 | 2.0.21 | 2.1]...      (default: every unpacked broker)
#
# `make demo` builds and unpacks what it needs first. Every step says what is
# expected and what happened; the script fails if one step differs. All of it
# runs on free loopback ports and in a temporary folder, both gone afterwards.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
plugin=$(realpath -m "${MHA_PLUGIN:-$root/target/release/libmosquitto_http_auth.so}")
mock_api=$(realpath -m "${MOCK_API:-$root/target/debug/mock-api}")
rules=$root/examples/api-rules.txt

# The longest time that any step may take, in seconds. All take far less.
patience=15

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' plain=''
fi

die() { printf 'demo: error: %s\n' "$*" >&2; exit 1; }

# --- Processes. Every process that is started is listed here, and stopped by its number.

declare -A running=() # name -> pid

# Asks a process to stop, and kills one that does not; sets `exit_code`.
stop() {
    local pid=${running[$1]:-} deadline=$((SECONDS + patience))
    [[ $pid ]] || return 0
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do
        ((SECONDS < deadline)) || kill -KILL "$pid" 2>/dev/null || true
        sleep 0.02
    done
    wait "$pid" 2>/dev/null && exit_code=0 || exit_code=$?
    unset "running[$1]"
}

clean_up() {
    local name
    for name in "${!running[@]}"; do stop "$name"; done
    rm -rf "$work"
}

# Prints how many lines of the file $1 match $2. (A file may not be there yet.)
count() { grep -sc -- "$2" "$1" || [[ -e $1 ]] || echo 0; }

# Waits until $2 lines of the file $1 match $3; gives up when process $4 has ended.
wait_for() {
    local deadline=$((SECONDS + patience))
    until (($(count "$1" "$3") >= $2)); do
        ((SECONDS < deadline)) && kill -0 "$4" 2>/dev/null || return 1
        sleep 0.02
    done
}

start_api() {
    "$mock_api" --listen 127.0.0.1:0 --rules "$rules" >"$work/api.log" 2>"$work/api.err" &
    running[api]=$!
    wait_for "$work/api.log" 1 '^listening on ' "$!" || die "the mock API does not start: $(<"$work/api.err")"
    api_url=$(sed -n 's/^listening on //p' "$work/api.log")
    api_lines=1
}

# Sets `port` to a port on which nothing listens. It is below the kernel's range for
# outgoing connections, so that none of them can take it meanwhile.
choose_port() {
    while port=$((16000 + RANDOM % 16000)); do
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || return 0
    done
}

start_broker() {

    # The only local user, with a hash made by the broker's own tool.
    "$bin/mosquitto_passwd" -c -b "$work/users" operator secret-0 >/dev/null
    for _ in 1 2 3; do
        choose_port
        cat >"$work/mosquitto.conf" <<CONF
# Started by root, the broker would become a user that may be unable to read this checkout.
user root
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
# A log line for each granted subscription, for which subscribe() waits.
log_type subscribe
allow_anonymous false
listener $port 127.0.0.1
plugin $plugin
plugin_opt_auth_url $api_url/auth
plugin_opt_acl_url $api_url/acl
plugin_opt_password_file $work/users
# Long enough for the whole demo, also on a slow machine.
plugin_opt_auth_cache_ttl 10m
plugin_opt_acl_cache_ttl 10m
CONF
        "$bin/mosquitto" -c "$work/mosquitto.conf" >"$work/broker.log" 2>&1 &
        running[broker]=$!
        wait_for "$work/broker.log" 1 'mosquitto version .* running' "$!" && return
        stop broker
        # Another process may have taken the port. No other failure deserves a second try.
        grep -q 'Address already in use' "$work/broker.log" || break
    done
    cat "$work/broker.log" >&2
    die "mosquitto $version does not start (its log is above)."
}

# --- Clients. They speak MQTT 5, which tells a client why it is refused.

show() { printf '  %s$ %s%s\n' "$dim" "$*" "$plain"; }

# publish USER PASSWORD TOPIC MESSAGE: sets `outcome`.
publish() {
    local said
    show mosquitto_pub -u "$1" -P "$2" -t "$3" -m "$4"
    if said=$(timeout "$patience" "$bin/mosquitto_pub" -h 127.0.0.1 -p "$port" -V 5 -q 1 \
        -i "$1-pub" -u "$1" -P "$2" -t "$3" -m "$4" 2>&1); then
        outcome=published
        # A refused PUBLISH is acknowledged, too, with a reason.
        [[ $said != *'Publish '*' failed: Not authorized'* ]] || outcome='publish refused'
    elif [[ $said == *'Connection error: Server '* || $said == *'The connection was lost'* ]]; then
        # Without an answer nobody is told that it is not authorised.
        outcome='turned away'
    elif [[ $said == *'Connection error: '* ]]; then
        outcome='not let in'
    else
        outcome="mosquitto_pub failed: $said"
    fi
}

# subscribe USER PASSWORD FILTER: sets `outcome`; if it is `subscribed`, `receive` does the rest.
subscribe() {
    local granted="$1-sub [012] $3" before
    before=$(count "$work/broker.log" "$granted")
    show mosquitto_sub -u "$1" -P "$2" -t "$3"
    # It ends after one message, or when the time is up.
    "$bin/mosquitto_sub" -h 127.0.0.1 -p "$port" -V 5 -q 1 -C 1 -W "$patience" -F 'received %p' \
        -i "$1-sub" -u "$1" -P "$2" -t "$3" >"$work/sub.log" 2>&1 &
    running[sub]=$!
    if wait_for "$work/broker.log" $((before + 1)) "$granted" "$!"; then
        outcome=subscribed
        return
    fi
    stop sub
    if grep -q 'All subscription requests were denied' "$work/sub.log"; then
        outcome='subscription refused'
    elif grep -q 'Connection error: ' "$work/sub.log"; then
        outcome='not let in'
    else
        outcome="mosquitto_sub failed: $(tail -n 1 "$work/sub.log")"
    fi
}

# Sets `outcome` to the first message that the subscriber gets.
receive() {
    [[ ! ${running[sub]:-} ]] || wait "${running[sub]}" || true
    unset 'running[sub]'
    outcome=$(head -n 1 "$work/sub.log")
    [[ $outcome == received* ]] || outcome='received nothing'
}

# --- Steps

outcomes=0 differing=0

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# Counts an outcome, and prints the start of its line.
verdict() {
    outcomes=$((outcomes + 1))
    if [[ $1 == "$2" ]]; then
        printf '  %sok%s    ' "$green" "$plain"
    else
        differing=$((differing + 1)) differs_here=yes
        printf '  %sFAIL%s  ' "$red$bold" "$plain"
    fi
}

# expect OUTCOME: compares it with the last outcome.
expect() {
    verdict "$1" "$outcome"
    printf 'expected: %-22s actual: %s\n' "$1" "$outcome"
}

# asked [QUESTION -> STATUS]...: compares these, in any order, with the API's
# requests since the last call.
asked() {
    local expected seen line requests=()
    # The API prints a request after its answer, when the client may be done already.
    sleep 0.2
    mapfile -t -s "$api_lines" requests <"$work/api.log"
    api_lines=$((api_lines + ${#requests[@]}))
    expected=$(sorted "$@")
    seen=$(sorted "${requests[@]}" | sed -E \
        -e 's|^POST /auth \{"username":"([^"]*)".*\}( -> .*)|login \1\2|' \
        -e 's|^POST /acl \{"username":"([^"]*)".*"topic":"([^"]*)","acc":([0-9]+)\}( -> .*)|acc=\3 \1 \2\4|' \
        -e 's|^acc=1|read|; s|^acc=2|write|; s|^acc=4|subscribe|' | sort)
    verdict "$expected" "$seen"
    printf 'expected: %-22s actual: %s\n' "$(count_requests $#)" "$(count_requests ${#requests[@]})"
    for line in "${requests[@]}"; do
        printf '          %s%s%s\n' "$dim" "$line" "$plain"
    done
    if [[ $expected != "$seen" ]]; then
        printf '        these were expected:\n'
        printf '          %s\n' "${@:-none}"
    fi
}

sorted() { (($# == 0)) || printf '%s\n' "$@" | sort; }

count_requests() {
    case $1 in
        0) echo "API asked nothing" ;;
        1) echo "API asked once" ;;
        *) echo "API asked $1 times" ;;
    esac
}

play() {
    step "1. A device that may connect and publish, and another that receives"
    subscribe dashboard secret-2 'sensors/#'
    expect subscribed
    publish sensor-1 secret-1 sensors/sensor-1/temperature 21.5
    expect published
    receive
    expect 'received 21.5'
    asked 'login dashboard -> 200' 'subscribe dashboard sensors/# -> 200' \
        'login sensor-1 -> 200' 'write sensor-1 sensors/sensor-1/temperature -> 200' \
        'read dashboard sensors/sensor-1/temperature -> 200'

    step "2. The same again: answered from the cache"
    subscribe dashboard secret-2 'sensors/#'
    expect subscribed
    publish sensor-1 secret-1 sensors/sensor-1/temperature 22.0
    expect published
    receive
    expect 'received 22.0'
    asked

    step "3. A device that may not connect"
    publish sensor-1 wrong-password sensors/sensor-1/temperature 0
    expect 'not let in'
    asked 'login sensor-1 -> 403'

    step "4. A topic that is refused: nothing is delivered (the message after it is)"
    subscribe dashboard secret-2 'sensors/#'
    expect subscribed
    publish sensor-1 secret-1 sensors/sensor-2/temperature 99
    expect 'publish refused'
    publish sensor-1 secret-1 sensors/sensor-1/temperature 22.5
    expect published
    receive
    expect 'received 22.5'
    # The subscribers are not asked about: the message is the publisher's first on this topic, and refused.
    asked 'write sensor-1 sensors/sensor-2/temperature -> 403'

    step "5. A subscription that is refused"
    subscribe sensor-1 secret-1 'sensors/#'
    expect 'subscription refused'
    asked 'subscribe sensor-1 sensors/# -> 403'

    step "6. The API is stopped: local users and remembered clients go on,"
    printf '%s   and no other client gets in%s\n' "$bold" "$plain"
    stop api
    subscribe operator secret-0 'plant/#'
    expect subscribed
    publish operator secret-0 plant/valve open
    expect published
    receive
    expect 'received open'
    publish operator wrong-password plant/valve shut
    expect 'not let in'
    publish sensor-1 secret-1 sensors/sensor-1/temperature 23.0
    expect published
    publish admin secret-3 plant/valve shut
    expect 'turned away'
    asked
}

# --- The whole demo

for file in "$plugin" "$mock_api"; do
    [[ -e $file ]] || die "$file is missing: 'make demo' builds it first."
done
if (($# == 0)); then
    for version in "$root"/.brokers/*/version; do
        [[ -e $version ]] || die "there is no broker in .brokers: 'make demo' unpacks some first."
        version=${version%/version}
        set -- "$@" "${version##*/}"
    done
fi

work=$(mktemp -d --tmpdir mosquitto-http-auth-demo.XXXXXX)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

releases=()
for version in "$@"; do
    bin=$root/.brokers/$version/bin
    [[ -x $bin/mosquitto ]] || die "there is no broker .brokers/$version: try scripts/brokers.sh $version."
    release=$(<"$root/.brokers/$version/version")
    releases+=("$release")
    differs_here=''
    rm -rf "${work:?}"/*
    start_api
    start_broker
    printf '\n%s=== mosquitto %s on port %s, API at %s%s\n' "$bold" "$release" "$port" "$api_url" "$plain"
    play
    step "7. The broker is asked to stop"
    stop broker
    outcome="exit code $exit_code"
    expect 'exit code 0'
    if [[ $differs_here ]]; then
        printf '\n--- the log of mosquitto %s\n' "$release"
        cat "$work/broker.log"
    fi
done

if ((differing)); then
    printf '\n%sdemo: %d of %d outcomes differ (mosquitto %s)%s\n' "$red$bold" "$differing" "$outcomes" "${releases[*]}" "$plain"
    exit 1
fi
printf '\n%sdemo: all %d outcomes as expected (mosquitto %s)%s\n' "$green$bold" "$outcomes" "${releases[*]}" "$plain"

#!/bin/bash
# Brings real Mosquitto brokers into .brokers/, each with its own C library,
# loader and dependencies, so that one machine can test against all of them.
#
#   scripts/brokers.sh [all | 2.0.11 | 2.0.21 | 2.1]...      (default: all)
#
# Afterwards .brokers/VERSION/bin/ holds mosquitto, mosquitto_passwd,
# mosquitto_pub and mosquitto_sub, .brokers/VERSION/include/ the headers, and
# .brokers/VERSION/version says which release exactly that is.
#
# What cannot be had, because its suite cannot be read say, is left out with a
# line that says why; .brokers/VERSION.missing has the details. Only if none of
# those asked for is there does this fail.
#
# Nothing is installed: the machine's apt downloads and verifies the packages
# with a package state of its own, and dpkg-deb unpacks them. The mirror and the
# trusted keys are those of the machine's own sources. Signatures are checked and
# dates are not: a mirror may be a snapshot, and an old broker is good enough.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
brokers=$root/.brokers

# Each folder's Debian suite. The folder's name is also the start of its release's number.
declare -A suites=([2.0.11]=bookworm [2.0.21]=trixie [2.1]=sid)
order=(2.0.11 2.0.21 2.1)
packages=(mosquitto mosquitto-clients mosquitto-dev libmosquitto-dev)

say() { printf 'brokers: %s\n' "$*"; }
die() { printf 'brokers: error: %s\n' "$*" >&2; exit 1; }

. "$root/scripts/apt.sh"

# Tells whether a broker is there and runs. It is started for that, so that a damaged one is found.
# (`mosquitto -h` ends with an error code in some versions, hence the `|| true`.)
present() {
    local dir=$brokers/$1
    [[ -s $dir/version && -x $dir/bin/mosquitto ]] || return 1
    [[ $("$dir/bin/mosquitto" -h 2>/dev/null || true) == "mosquitto version $(<"$dir/version")"* ]]
}

# Prints the libraries of the program $2 as the loader of the broker $1 finds
# them, like `ldd` (the loader's own --list stops at the first missing one).
libraries() {
    LD_TRACE_LOADED_OBJECTS=1 "$1/$loader" --inhibit-cache --library-path "$1/lib" "$2"
}

# Lays the unpacked packages $1 out as a broker in $2.
assemble() {
    local unpacked=$1 dir=$2 libdir program so file list loader
    mkdir -p "$dir"/{bin,exec,lib}
    mv "$unpacked/usr/include" "$dir/"
    # The libraries' folder has the architecture's name; the C library's is
    # below /lib in older releases.
    for libdir in "$unpacked"{/usr,}/lib/*-linux-gnu*; do
        [[ ! -d $libdir ]] || cp -a "$libdir/." "$dir/lib/"
    done
    for loader in "$dir"/lib/ld-linux*; do
        loader=lib/${loader##*/}
    done
    for program in "$unpacked"/usr/{bin,sbin}/mosquitto*; do
        mv "$program" "$dir/exec/"
        write_wrapper "$dir/bin/${program##*/}" "$loader"
    done

    for program in "$dir"/exec/*; do
        # Unstable's picohttpparser package lacks the link from libX.so.1 to libX.so.1.2.
        while read -r so; do
            for file in "$dir/lib/$so".*; do
                [[ ! -e $file ]] || ln -sf "${file##*/}" "$dir/lib/$so"
            done
        done < <(libraries "$dir" "$program" | sed -nE 's/^\s*(\S+) => not found$/\1/p')
        # A library from elsewhere would be the machine's, and not this broker's.
        list=$(libraries "$dir" "$program" | grep -vF -e "$dir/lib/" -e linux-vdso || true)
        [[ ! $list ]] || die "${program##*/} lacks libraries of its own: $list"
    done
}

# Writes the wrapper $1, which starts the program of its name with the loader $2.
# The wrapper replaces itself (exec), so that its process id is the broker's. It
# finds its folder at run time, so that the checkout can be moved. The path is
# made absolute, since a broker that turns into a daemon changes to /.
write_wrapper() {
    cat >"$1" <<WRAPPER
#!/bin/sh
dir=\$(CDPATH='' cd -- "\${0%/*}/.." && pwd) || exit 127
exec "\$dir/$2" --inhibit-cache --library-path "\$dir/lib" --argv0 "\$0" "\$dir/exec/\${0##*/}" "\$@"
WRAPPER
    chmod +x "$1"
}

# Starts the broker in $1 on a socket file (no port is needed) and sends a
# message through it with its own clients.
try() {
    local dir=$1 work=$2 pid got tries
    printf 'listener 0 %s\nallow_anonymous true\nuser root\n' "$work/socket" >"$work/conf"
    "$dir/bin/mosquitto" -c "$work/conf" >"$work/broker.log" 2>&1 &
    pid=$!
    # (This runs in a subshell, so the trap does not replace the script's.)
    trap 'kill "$pid" 2>/dev/null || true' EXIT
    for ((tries = 0; tries < 100; tries++)); do
        [[ -S $work/socket ]] && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    "$dir/bin/mosquitto_pub" --unix "$work/socket" -r -t try -m works >>"$work/broker.log" 2>&1 || true
    got=$("$dir/bin/mosquitto_sub" --unix "$work/socket" -W 5 -C 1 -t try 2>>"$work/broker.log" || true)
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    trap - EXIT
    [[ $got == works ]] && return
    cat "$work/broker.log" >&2
    die "the unpacked broker does not work: $(tail -n 1 "$work/broker.log")"
}

bring() {
    local name=$1 suite=${suites[$1]} state work=$temp/$1 deb count release
    state=$work/state
    say "$name: reading the package list of Debian '$suite'"
    mkdir -p "$work"
    prepare_apt "$state" "$suite"
    apt update
    release=$(apt-cache show --no-all-versions mosquitto | sed -nE 's/^Version: ([0-9]+:)?([0-9.]+).*/\2/p')
    [[ $release == "$name" || $release == "$name".* ]] ||
        die "Debian '$suite' has mosquitto ${release:-nowhere}, where $name was expected."

    count=$(apt-get -qq -y install --print-uris "${packages[@]}" | wc -l)
    say "$name: downloading mosquitto $release and its libraries ($count packages)"
    apt install --download-only "${packages[@]}"

    say "$name: unpacking"
    for deb in "$state"/archives/*.deb; do
        dpkg-deb --extract "$deb" "$work/unpacked"
    done
    assemble "$work/unpacked" "$work/broker"
    try "$work/broker" "$work"
    echo "$release" >"$work/broker/version"

    # Only a complete broker gets this name.
    rm -rf "${brokers:?}/$name"
    mv -T "$work/broker" "$brokers/$name"
    rm -rf "$work"
    say "$name: mosquitto $release is ready"
}

wanted=()
for name in "${@:-all}"; do
    if [[ $name == all ]]; then
        wanted=("${order[@]}")
    elif [[ ${suites[$name]:-} ]]; then
        wanted+=("$name")
    else
        die "there is no '$name': choose from all ${order[*]}."
    fi
done

# Says why the broker $1 is not there.
leave_out() {
    local reason
    reason=$(sed -n 's/^brokers: error: //p' "$brokers/$1.missing" | tail -n 1)
    [[ $reason ]] || reason=$(tail -n 1 "$brokers/$1.missing")
    printf 'brokers: %s is left out: %s\n' "$1" "${reason:-no reason is known.}" >&2
}

lacking=()
for name in "${wanted[@]}"; do
    if present "$name"; then rm -f "$brokers/$name.missing"; else lacking+=("$name"); fi
done
if ((${#lacking[@]})); then
    for tool in apt-get dpkg-deb flock; do
        command -v "$tool" >/dev/null || lacks=$tool
    done
    mkdir -p "$brokers"
    if [[ ${lacks:-} ]]; then
        for name in "${lacking[@]}"; do
            echo "brokers: error: this script needs Debian's $lacks." >"$brokers/$name.missing"
        done
    else
        # A second run at the same time waits, and then finds the work done.
        exec {lock}>"$brokers/.lock"
        flock "$lock"
        rm -rf "$brokers"/.tmp.*  # of a run that was killed
        temp=$(mktemp -d "$brokers/.tmp.XXXXXX")
        trap 'rm -rf "$temp"' EXIT
        for name in "${lacking[@]}"; do
            if present "$name"; then continue; fi
            # In a subshell, so that one apt's settings do not reach the next, and
            # without the lock, so that no child keeps it. (Not `if ! (bring)`, where
            # bash would ignore errors inside.)
            set +e
            (set -e; bring "$name") {lock}>&- 2>"$brokers/$name.missing"
            set -e
            ! present "$name" || rm -f "$brokers/$name.missing"
        done
    fi
fi
found=()
for name in "${wanted[@]}"; do
    if present "$name"; then found+=("$(<"$brokers/$name/version")"); else leave_out "$name"; fi
done
((${#found[@]})) || die "there is no broker to work with (the lines above say why)."
say "${found[*]} present"

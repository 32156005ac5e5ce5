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

# Tells whether a broker is there and runs. It is started for that, so that a damaged one is found.
# (`mosquitto -h` ends with an error code in some versions, hence the `|| true`.)
present() {
    local dir=$brokers/$1
    [[ -s $dir/version && -x $dir/bin/mosquitto ]] || return 1
    [[ $("$dir/bin/mosquitto" -h 2>/dev/null || true) == "mosquitto version $(<"$dir/version")"* ]]
}

# Prints "URI KEYRINGS" of the Debian mirror that this machine uses. apt itself
# reads its sources, which have one of two formats.
mirror() {
    local targets entry uri file number keyring
    # shellcheck disable=SC2016
    local format='$(RELEASE) $(REPO_URI) $(SOURCESENTRY)'
    # `Origin` is known only once apt has fetched its lists. Without it, the
    # first source is taken that is not for -updates or -security.
    targets=$(apt-get indextargets --format "$format" \
        'Identifier: Packages' 'Component: main' 'Origin: Debian' 2>/dev/null)
    [[ $targets ]] ||
        targets=$(apt-get indextargets -o APT::Get::IndexTargets::ReleaseInfo=false \
            --format "$format" 'Identifier: Packages' 'Component: main' 2>/dev/null)
    entry=$(awk '$1 !~ /-/ { print; exit }' <<<"$targets")
    [[ $entry ]] || die "apt on this machine has no source for Debian (see /etc/apt/sources.list.d)."
    read -r _ uri entry <<<"$entry"
    file=${entry%:*} number=${entry##*:}

    # The entry's number counts stanzas in a .sources file, and lines in a .list.
    if [[ $file == *.sources ]]; then
        keyring=$(awk -v RS= -v n="$number" 'NR == n' "$file" | sed -nE 's|^signed-by:[[:space:]]*(/.*)|\1|Ip')
    else
        keyring=$(sed -nE "${number}s|.*[[ ]signed-by=([^] ]+).*|\1|Ip" "$file")
    fi
    if [[ ! $keyring ]]; then
        keyring=/usr/share/keyrings/debian-archive-keyring.gpg
        [[ -r $keyring ]] || die "no key to verify Debian's packages with: install debian-archive-keyring."
    fi
    printf '%s %s\n' "$uri" "${keyring// /,}"
}

# Makes an apt state of its own in $1, for the suite $2, and points APT_CONFIG at it.
prepare_apt() {
    local state=$1 suite=$2 uri keyrings
    read -r uri keyrings < <(mirror) && [[ $uri ]] || exit 1
    mkdir -p "$state"/{lists,archives}/partial
    # An empty status file says that nothing is installed: every dependency, the
    # C library included, is then downloaded.
    : >"$state/status"
    printf 'deb [arch=%s signed-by=%s] %s %s main\n' \
        "$(dpkg --print-architecture)" "$keyrings" "$uri" "$suite" >"$state/sources.list"
    {
        # The machine's settings for reaching the mirror (proxies, time-outs) are kept.
        # Its extra indexes are not, nor its hooks, which would change the system.
        apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets'
        cat <<CONF
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$state";
Dir::State::status "$state/status";
Dir::State::lists "$state/lists";
Dir::Cache "$state";
Dir::Cache::archives "$state/archives";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
APT::Update::Error-Mode "any";
APT::Install-Recommends "false";
// The user _apt may not be able to enter the checkout.
APT::Sandbox::User "root";
CONF
    } >"$state/apt.conf"
    export APT_CONFIG=$state/apt.conf
}

# Runs apt-get quietly, and explains a failure in plain words.
apt() {
    local log=$state/log
    apt-get -q -y "$@" >"$log" 2>&1 && return
    grep -E '^(E|W|Err):' "$log" >&2 || tail -n 5 "$log" >&2
    if grep -qE 'resolve|[Cc]ould not connect|[Uu]nable to connect|[Uu]nreachable|timed out|Connection failed' "$log"; then
        die "the package mirror cannot be reached. Is there a network?"
    elif grep -qE 'does not have a Release file|404 +Not Found' "$log"; then
        die "the package mirror of this machine has no suite '$suite'."
    elif grep -qE 'NO_PUBKEY|not signed|signatures' "$log"; then
        die "the suite '$suite' could not be verified: is debian-archive-keyring up to date?"
    fi
    die "apt-get $1 failed for the suite '$suite': $(grep -m 1 -E '^(E|Err):' "$log" || tail -n 1 "$log")"
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

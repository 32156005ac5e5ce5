# shellcheck shell=bash
# Reads packages of other Debian releases with the machine's own apt, and changes nothing of the machine: sourced by
# scripts that define `die`. The mirror and the trusted keys are those of the machine's sources. Signatures are checked
# and dates are not: a mirror may be a snapshot, and what is old is good enough.

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

# Makes an apt state of its own in $1, for the suite $2, and points APT_CONFIG at it. `deb-src` as $3: of sources.
prepare_apt() {
    local state=$1 suite=$2 kind=${3:-deb} uri keyrings
    read -r uri keyrings < <(mirror) && [[ $uri ]] || exit 1
    mkdir -p "$state"/{lists,archives}/partial
    # An empty status file says that nothing is installed: every dependency, the
    # C library included, is then downloaded.
    : >"$state/status"
    printf '%s [arch=%s signed-by=%s] %s %s main\n' "$kind" \
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

# Runs apt-get quietly, and explains a failure in plain words. Its caller has set `state` and `suite`.
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

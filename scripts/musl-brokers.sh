#!/bin/bash
# Builds real Mosquitto brokers for musl, as in Alpine Linux, from Debian's source packages into .brokers/musl/.
#
#   scripts/musl-brokers.sh [2.0.11 | 2.1]...      (default: both)
#
# Afterwards .brokers/musl/VERSION/bin/mosquitto is the broker. The programs beside it are those that scripts/brokers.sh
# unpacked, for glibc. `MHA_BROKERS=.brokers/musl` has the tests take these brokers.
#
# The brokers have no TLS and no websockets, whose libraries there are for glibc alone. What is Alpine's own stays
# untried by that: its patches, its compiler's options and its newer musl.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
brokers=$root/.brokers/musl

# 2.0.21 does not compile without TLS.
declare -A suites=([2.0.11]=bookworm [2.1]=sid)
order=(2.0.11 2.1)
off=(WITH_{TLS,TLS_PSK,WEBSOCKETS,SYSTEMD,SRV,ADNS,DOCS,STRIP,SQLITE,EDITLINE,HTTP_API,ARGON2,CJSON,STATIC_LIBRARIES})

say() { printf 'musl-brokers: %s\n' "$*"; }
die() { printf 'musl-brokers: error: %s\n' "$*" >&2; exit 1; }

. "$root/scripts/apt.sh"

present() {
    [[ -s $brokers/$1/version && $("$brokers/$1/bin/mosquitto" -h 2>/dev/null || true) == "mosquitto version $(<"$brokers/$1/version")"* ]]
}

# Downloads the newest source packages of a suite, and unpacks them with Debian's patches: $work/mosquitto and $work/cjson.
unpack() {
    local name=$1 suite=${suites[$1]} state=$work/state source
    say "$name: reading the source packages of Debian '$suite'"
    prepare_apt "$state" "$suite" deb-src
    apt update
    for source in mosquitto cjson; do
        (cd "$work" && apt source --download-only --only-source "$source")
        dpkg-source --no-check -x "$work/$source"_*.dsc "$work/$source" >>"$work/log" 2>&1
    done
}

# Runs make in a folder of the broker's sources, for musl, with everything left out that the tests do not need.
build() {
    local folder=$1
    shift
    make -C "$folder" -j2 CC="$work/cc" "${off[@]/%/=no}" "$@" >>"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; die "mosquitto cannot be built for musl (the lines above say why)."; }
}

bring() {
    local name=$1 release sources
    work=$temp/$name
    mkdir -p "$work/include" "$work/broker/bin"
    unpack "$name"
    sources=$work/mosquitto
    release=$(sed -nE 's/^VERSION ?= ?([0-9.]+)$/\1/p' "$sources/config.mk")
    [[ $release == "$name" || $release == "$name".* ]] ||
        die "Debian '${suites[$name]}' has mosquitto ${release:-nowhere}, where $name was expected."

    # It has no other source of random numbers without TLS. The kernel's headers are of no C library, but lie among glibc's.
    ln -s /usr/include/linux /usr/include/asm-generic "/usr/include/$(gcc -print-multiarch)/asm" "$work/include/"
    ln -s "$work/cjson" "$work/include/cjson"
    printf '#!/bin/sh\nexec musl-gcc "$@" -DHAVE_GETRANDOM -include sys/random.h -idirafter "%s" -L"%s"\n' "$work/include" "$work" >"$work/cc"
    chmod +x "$work/cc"
    say "$name: building mosquitto $release"
    "$work/cc" -O2 -fPIC -c "$work/cjson/cJSON.c" -o "$work/cJSON.o"
    ar cr "$work/libcjson.a" "$work/cJSON.o"
    # What 2.1 has in a library of its own, 2.0 has in the broker.
    [[ ! -d $sources/libcommon ]] || build "$sources/libcommon" libmosquitto_common.a
    build "$sources/src" mosquitto
    install "$sources/src/mosquitto" "$work/broker/bin/mosquitto"
    for program in "$root/.brokers/$name"/bin/*; do
        [[ $program == */mosquitto ]] && continue
        printf '#!/bin/sh\nexec "$(dirname -- "$0")/../../../%s/bin/%s" "$@"\n' "$name" "${program##*/}" \
            >"$work/broker/bin/${program##*/}"
        chmod +x "$work/broker/bin/${program##*/}"
    done
    readelf -d "$work/broker/bin/mosquitto" | grep -q 'NEEDED.*libc\.so\]' || die "$name: the broker is not for musl."
    echo "$release" >"$work/broker/version"
    rm -rf "${brokers:?}/$name"
    mkdir -p "$brokers"
    mv -T "$work/broker" "$brokers/$name"
    say "$name: mosquitto $release is ready"
}

(($#)) || set -- "${order[@]}"
temp=$(mktemp -d --tmpdir mosquitto-musl.XXXXXX)
trap 'rm -rf "$temp"' EXIT
for name in "$@"; do
    [[ ${suites[$name]:-} ]] || die "there is no '$name': choose from ${order[*]}."
    present "$name" && continue
    [[ -x $root/.brokers/$name/bin/mosquitto_sub ]] || "$root/scripts/brokers.sh" "$name"
    (bring "$name") # apt is pointed elsewhere in there
done
say "$* present"

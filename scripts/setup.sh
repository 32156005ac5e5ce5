#!/bin/sh
# Installs the packages that building and the demo need on a Debian machine, and no
# others. If none is missing, it changes nothing.
#
#   scripts/setup.sh [tests | fuzz | memcheck | asan | musl | packages | roots]      with the packages for these
#
# Mosquitto's own packages are left out on purpose. Even mosquitto-dev, which has
# the headers, depends on the broker, and installing that starts a service on
# port 1883. scripts/brokers.sh unpacks brokers, clients and headers instead.
set -eu

# libclang-dev      bindgen loads libclang, and needs clang's own stddef.h and friends
# gcc, libc6-dev    the linker behind rustc, and the C parts of the crate `ring`
# make              for the Makefile
# ca-certificates   for cargo to trust its registry
packages="libclang-dev gcc libc6-dev make ca-certificates"

# What the tests call beside them. These servers are Debian's, since they belong to its own Python.
case ${1:-} in
    tests) packages="$packages uwsgi-core uwsgi-plugin-python3 gunicorn uvicorn python3-fastapi" ;;
    # A C compiler and a C library for musl beside the machine's own; dpkg-dev unpacks the brokers' sources.
    musl) packages="$packages musl-tools dpkg-dev xz-utils" ;;
esac

# Programs that the tests call, and their packages: certificates, the symbols of
# the plugin, and the two API servers of docs/contract.md. Any version will do, from
# wherever it was installed.
case ${1:-} in
    '') tools='' ;;
    tests) tools='openssl:openssl readelf:binutils python3:python3 node:nodejs ip:iproute2' ;;
    fuzz) tools='g++:g++' ;;
    memcheck) tools='valgrind:valgrind' ;;
    asan) tools='ar:binutils' ;;
    musl) tools='readelf:binutils' ;;
    packages) tools='dpkg-shlibdeps:dpkg-dev python3:python3' ;;
    roots) tools='debootstrap:debootstrap' ;;
    *) echo "usage: $0 [tests | fuzz | memcheck | asan | musl | packages | roots]" >&2; exit 2 ;;
esac

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# Tells whether the version $1 is $2 or later.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

check_rust() {
    command -v cargo >/dev/null || die "cargo is not on the PATH. Install Rust (with rustup, say), then run this again."
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/Cargo.toml")
    # From inside the checkout, where a toolchain override would apply.
    found=$(cd "$here" && cargo --version) || die "cargo is on the PATH, but does not run."
    found=${found#cargo }
    found=${found%% *}
    at_least "$found" "$wanted" || die "cargo is $found, and this needs $wanted or newer (Debian's own is too old: use rustup)."
}

# Prints the packages that are missing, one a line.
missing() {
    # dpkg-query fails if it does not know one of them, which then is missing.
    # shellcheck disable=SC2016,SC2086  # the $'s are dpkg's, and $packages is several words
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $packages 2>/dev/null || true)
    for package in $packages; do
        echo "$installed" | grep -qx "$package installed" || echo "$package"
    done
    for tool in $tools; do
        command -v "${tool%:*}" >/dev/null || echo "${tool#*:}"
    done
}

install() {
    # (No advice to use sudo for all of this: root may well have no cargo.)
    [ "$(id -u)" = 0 ] || die "packages are missing, and only root can install them:" \
        "apt-get install --no-install-recommends $*"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    say "refreshing the package lists"
    # A source that cannot be reached may not matter. If it does, installing fails.
    apt-get -q update >"$log" 2>&1 || true
    # No recommended packages: one of them might bring a service along.
    say "installing $* (this can take a minute)"
    if ! apt-get -q -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$@" >>"$log" 2>&1; then
        cat "$log" >&2
        die "apt-get could not install what is missing (the lines above say why). Is there a network?"
    fi
}

# Installing these would start services, so they are unpacked beside the brokers. Without one, its tests are skipped.
unpack() {
    package=$1 program=$2
    unpacked=$here/.brokers/$package
    if [ -x "$unpacked/$program" ] || command -v "${program##*/}" >/dev/null; then return; fi
    say "unpacking $package"
    mkdir -p "$here/.brokers"
    temp=$(mktemp -d "$here/.brokers/.$package.XXXXXX")
    if { (cd "$temp" && apt-get -q download "$package") \
        || { apt-get -q update && (cd "$temp" && apt-get -q download "$package"); }; } \
        >"$temp/log" 2>&1 && dpkg-deb --extract "$temp/$package"_*.deb "$temp/unpacked"; then
        rm -rf "$unpacked"
        mv -T "$temp/unpacked" "$unpacked"
    else
        say "$package cannot be had here, and its tests will be skipped"
    fi
    rm -rf "$temp"
}

# Rust's library for musl. Rust from elsewhere than rustup has it or has not.
bring_musl() {
    target=$(uname -m)-unknown-linux-musl
    libraries=$(cd "$here" && rustc --print target-libdir --target "$target") || die "rustc does not know $target."
    [ ! -d "$libraries" ] || return 0
    command -v rustup >/dev/null || die "Rust's library for $target is missing: install Rust with rustup, or that library."
    say "adding Rust's library for $target"
    (cd "$here" && rustup -q target add "$target") || die "rustup could not add $target. Is there a network?"
}

check_rust
if [ "${1:-}" = musl ]; then bring_musl; fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    # Without dpkg nothing tells what is missing here. The build will.
    say "this is not Debian, so please see to it yourself that these are installed:"
    say "a C compiler, make, libclang, and the headers of Mosquitto's plugin interface"
    exit 0
fi
lacking=$(missing)
if [ -n "$lacking" ]; then
    # Split into words on purpose: package names hold no spaces.
    # shellcheck disable=SC2086
    install $lacking
    lacking=$(missing)
    [ -z "$lacking" ] || die "still missing after the installation: $lacking"
fi
if [ "${1:-}" = tests ]; then
    unpack nginx usr/sbin/nginx
    unpack prometheus usr/bin/promtool
fi
# Installed headers come first (see build.rs), but mosquitto-dev has not all of them.
for header in mosquitto_plugin.h mosquitto.h; do
    [ -e "/usr/include/$header" ] || { "$here/scripts/brokers.sh" 2.0.11 || "$here/scripts/brokers.sh" all; break; }
done
say "everything that is needed is installed"

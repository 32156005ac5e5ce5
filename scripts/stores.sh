#!/bin/bash
# Brings a Valkey and a Redis into .brokers/stores/, each with its own C library, so that the cache that several brokers
# share is tested with real servers. Nothing is installed: see scripts/brokers.sh, which does the same for brokers.
#
#   scripts/stores.sh
#
# Afterwards .brokers/stores/{valkey,redis}/bin/server runs, and .brokers/stores/NAME/version says which release it is.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stores=$root/.brokers/stores

# Each one's Debian suite, package, and program.
declare -A suites=([valkey]=trixie [redis]=bookworm)
declare -A packages=([valkey]=valkey-server [redis]=redis-server)

say() { printf 'stores: %s\n' "$*"; }
die() { printf 'stores: error: %s\n' "$*" >&2; exit 1; }

. "$root/scripts/apt.sh"

present() { [[ -s $stores/$1/version ]] && "$stores/$1/bin/server" --version >/dev/null 2>&1; }

bring() {
    local name=$1 suite=${suites[$1]} package=${packages[$1]} work=$temp/$1 state=$temp/$1/state deb libdir loader program
    say "$name: downloading $package of Debian '$suite' and its libraries"
    mkdir -p "$work"
    prepare_apt "$state" "$suite"
    apt update
    # The program itself is in another package, which this one needs.
    apt install --download-only "$package"
    for deb in "$state"/archives/*.deb; do
        dpkg-deb --extract "$deb" "$work/unpacked"
    done
    mkdir -p "$work/store"/{bin,exec,lib}
    for libdir in "$work/unpacked"{/usr,}/lib/*-linux-gnu*; do
        [[ ! -d $libdir ]] || cp -a "$libdir/." "$work/store/lib/"
    done
    for program in "$work/unpacked"/usr/bin/{valkey,redis}-check-rdb; do
        [[ ! -e $program ]] || cp -L "$program" "$work/store/exec/server"
    done
    for loader in "$work/store"/lib/ld-linux*; do
        loader=lib/${loader##*/}
    done
    # The server goes by the name that it is called by, so this one must not end in -check-rdb.
    cat >"$work/store/bin/server" <<WRAPPER
#!/bin/sh
dir=\$(CDPATH='' cd -- "\${0%/*}/.." && pwd) || exit 127
exec "\$dir/$loader" --inhibit-cache --library-path "\$dir/lib" --argv0 $name-server "\$dir/exec/server" "\$@"
WRAPPER
    chmod +x "$work/store/bin/server"
    "$work/store/bin/server" --version | sed -nE 's/.*v=([0-9.]+).*/\1/p' >"$work/store/version"
    [[ -s $work/store/version ]] || die "the unpacked $name does not run."
    rm -rf "${stores:?}/$name"
    mv -T "$work/store" "$stores/$name"
    say "$name: $(<"$stores/$name/version") is ready"
}

mkdir -p "$stores"
# A second run at the same time waits, and then finds the work done.
exec {lock}>"$stores/.lock"
flock "$lock"
temp=$(mktemp -d "$stores/.tmp.XXXXXX")
trap 'rm -rf "$temp"' EXIT
for name in valkey redis; do
    present "$name" || (bring "$name") {lock}>&-
done

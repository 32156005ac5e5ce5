#!/bin/bash
# Makes what a release consists of, in target/dist: packages, archives of plugin and program (glibc), of the plugin (musl)
# and of the sources, a list of all that is linked in (SBOM, CycloneDX), and SHA-256 sums of all of them.
#
#   scripts/release.sh [rehearse]
#
# It refuses a tree that is not exactly what is committed, versions that disagree, a changelog without a date for this
# version, and whatever does not pass its checks. One of them builds the packages twice and wants the same bytes. It tags
# and publishes nothing.
#
# `rehearse` makes the same in target/rehearsal, which is for trying this out and not to be passed on: it leaves the checks
# out, takes a changelog that says "unreleased", and goes on without what this machine cannot build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo=${CARGO:-cargo}
name=mosquitto-http-auth
rehearsal=${1:-}

say() { printf 'release: %s\n' "$*"; }
die() { printf 'release: error: %s\n' "$*" >&2; exit 1; }

case $rehearsal in
    '') result=target/dist ;;
    rehearse) result=target/rehearsal ;;
    *) echo "usage: $0 [rehearse]" >&2; exit 2 ;;
esac

clean() {
    local changed
    changed=$(git status --porcelain)
    [[ -z $changed ]] || die "$1:"$'\n'"$changed"
}

# The version in a Cargo.toml.
version_of() { sed -n 's/^version = "\(.*\)"/\1/p' "$1" | head -n 1; }

clean "this is not what is committed; commit it, or put it aside"
version=$(version_of Cargo.toml)
[[ $(version_of cli/Cargo.toml) == "$version" ]] || die "cli/Cargo.toml has another version than Cargo.toml ($version)."
heading=$(grep -m 1 '^## \[' CHANGELOG.md)
case $heading in
    "## [$version] - "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]) ;;
    "## [$version] - unreleased")
        [[ $rehearsal ]] || die "CHANGELOG.md calls $version unreleased: write its date there." ;;
    *) die "the newest part of CHANGELOG.md is \"$heading\", and this is $version." ;;
esac
if tagged=$(git rev-parse -q --verify "refs/tags/v$version^{commit}"); then
    [[ $tagged == "$(git rev-parse HEAD)" ]] || die "v$version is another commit already: raise the version."
fi

if [[ ! $rehearsal ]]; then
    for check in .ci/run "scripts/deny.sh strict" "make test-packages" "make test-musl"; do
        say "$check"
        $check || die "$check failed."
    done
    clean "the checks have changed files"
fi

epoch=$(git log -1 --format=%ct)
rm -rf "$result"
mkdir -p "$result"

# The folder $2 as the archive $1: the same bytes for the same content.
archive() {
    tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -C "$(dirname "$2")" -c "$(basename "$2")" |
        gzip -9n >"$result/$1"
}

scratch=$(mktemp -d --tmpdir $name-release.XXXXXX)
trap 'rm -rf "$scratch"' EXIT

# Makes the folder of an archive, with what each of them has. Prints its path.
folder() {
    local folder=$scratch/$name-$version-$1
    mkdir "$folder"
    cp -r README.md SECURITY.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE mosquitto.conf.example docs "$folder/"
    zcat target/package/doc/licences.txt.gz >"$folder/licences.txt"
    echo "$folder"
}

say "packages"
if [[ $rehearsal ]]; then scripts/packages.sh; else scripts/packages.sh twice; fi
cp target/packages/*.deb target/packages/*.rpm "$result/"

folder=$(folder x86_64-linux-gnu)
cp target/package/mosquitto_http_auth.so target/package/$name "$folder/"
archive "$name-$version-x86_64-linux-gnu.tar.gz" "$folder"

say "the plugin for musl"
# Where this is built must not stand in what is built.
if RUSTFLAGS="--remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" make musl; then
    folder=$(folder x86_64-linux-musl)
    cp target/x86_64-unknown-linux-musl/release/libmosquitto_http_auth.so "$folder/mosquitto_http_auth.so"
    archive "$name-$version-x86_64-linux-musl.tar.gz" "$folder"
elif [[ $rehearsal ]]; then
    say "going on without it"
else
    die "the plugin cannot be built for musl here (the lines above say why)."
fi

say "the sources"
git archive --format=tar --prefix="$name-$version/" HEAD | gzip -9n >"$result/$name-$version.tar.gz"

say "what is linked in"
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}/tools")
[[ $("$tools/bin/cargo-cyclonedx" cyclonedx --version 2>/dev/null) == *0.5.9* ]] ||
    "$cargo" install cargo-cyclonedx --version 0.5.9 --locked --root "$tools" || die "cargo-cyclonedx cannot be built."
# It writes beside each Cargo.toml, so into a copy of the sources, whose place is no part of the result.
git archive --format=tar --prefix=sources/ HEAD | tar -C "$scratch" -x
(cd "$scratch/sources" && SOURCE_DATE_EPOCH=$epoch "$tools/bin/cargo-cyclonedx" cyclonedx --format json \
    --spec-version 1.5 --target x86_64-unknown-linux-gnu --no-build-deps --quiet)
sed "s|file://$scratch/sources|file://.|g" "$scratch/sources/$name.cdx.json" >"$result/$name-$version-plugin.cdx.json"
sed "s|file://$scratch/sources|file://.|g" "$scratch/sources/cli/$name-cli.cdx.json" >"$result/$name-$version-program.cdx.json"

clean "making the release has changed files"
(cd "$result" && sha256sum -- * >SHA256SUMS && sha256sum --quiet --check SHA256SUMS)
glibc=$(readelf -V target/package/mosquitto_http_auth.so target/package/$name | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
ls -l "$result"
say "$name $version, commit $(git rev-parse --short HEAD), wants ${glibc/_/ } or newer${rehearsal:+; NOT CHECKED, a rehearsal}"

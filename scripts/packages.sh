#!/bin/bash
# Makes a .deb and a .rpm of the plugin and its program in target/packages. The same sources, Rust and C compiler make the
# same bytes: `scripts/packages.sh twice` builds everything a second time, in another folder, and compares.
#
# The Debian package is for the release of Debian that this runs on, and for later ones.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cargo=${CARGO:-cargo}

say() { printf 'packages: %s\n' "$*"; }
die() { printf 'packages: error: %s\n' "$*" >&2; exit 1; }

# The tool $1 in version $2, built on first use. Prints its path.
tool() {
    local folder=${CARGO_TARGET_DIR:-$root/target}/tools
    [[ $("$folder/bin/$1" --version 2>/dev/null) == *"$2"* ]] ||
        "$cargo" install "$1" --version "$2" --locked --root "$folder" >&2 ||
        die "$1 cannot be built. Is there a network?"
    echo "$folder/bin/$1"
}

# Makes both packages of the sources in $1, and puts them into $2.
make_packages() (
    source=$1 result=$2 stage=$1/target/package
    cd "$source"
    # Where and when this is built must not stand in what is built.
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    export RUSTFLAGS="--remap-path-prefix=$source=. --remap-path-prefix=$cargo_home=cargo"
    export CFLAGS="-ffile-prefix-map=$source=. -ffile-prefix-map=$cargo_home=cargo"
    # In a folder of its own, so that this and `make build`, which has other flags, do not undo each other's work.
    export SOURCE_DATE_EPOCH=$epoch CARGO_TARGET_DIR=$source/target/packaging
    built=$CARGO_TARGET_DIR/release
    "$cargo" rustc --locked -p mosquitto-http-auth --release --lib --crate-type cdylib
    "$cargo" build --locked -p mosquitto-http-auth-cli --release
    rm -rf "$stage"
    mkdir -p "$stage"/{man,doc,docs,contrib,examples} "$result"
    cp "$built/libmosquitto_http_auth.so" "$stage/mosquitto_http_auth.so"
    cp "$built/mosquitto-http-auth" "$stage/"
    "$built/mosquitto-http-auth" generate "$stage"
    mv "$stage"/*.1 "$stage/man/"
    cp mosquitto.conf.example "$stage/examples/mosquitto.conf"
    cp examples/api_server.py examples/api_server.mjs examples/api_fastapi.py "$stage/examples/"
    cp README.md SECURITY.md LICENSE-MIT LICENSE-APACHE "$stage/doc/"
    cp docs/* "$stage/docs/"
    # Where a page names a file that is called otherwise here, or is not there.
    sed -i 's|](mosquitto\.conf\.example)|](examples/mosquitto.conf)|; s|](CHANGELOG\.md)|](changelog.gz)|' "$stage/doc/README.md"
    sed -i -E 's#\[([^]]*)\]\((\.\./docker/[^)]*|deny\.toml)\)#\1#g' "$stage/doc/SECURITY.md" "$stage"/docs/*.md
    sed -i 's|](\.\./mosquitto\.conf\.example)|](../examples/mosquitto.conf)|' "$stage"/docs/*.md
    cp contrib/* "$stage/contrib/"
    cp CHANGELOG.md "$stage/doc/changelog"
    scripts/licences.py >"$stage/doc/licences.txt"
    gzip -9n "$stage"/man/* "$stage/doc/changelog" "$stage/doc/licences.txt"
    "$deb" --manifest-path Cargo.toml --no-build --no-strip --output "$result/"
    "$rpm" generate-rpm --output "$result/" --auto-req builtin
    cd "$result"
    sha256sum -- *.deb *.rpm >SHA256SUMS
)

[[ $(uname -m) == x86_64 ]] || die "packages are made on x86_64 only: Cargo.toml names the folders of its libraries."
# Without these the packages would lack a dependency, and the licences.
"$root/scripts/setup.sh" packages
deb=$(tool cargo-deb 3.8.0)
rpm=$(tool cargo-generate-rpm 0.21.1)
epoch=$(git -C "$root" log -1 --format=%ct)
result=$root/target/packages
rm -rf "$result"
make_packages "$root" "$result"
if [[ ${1:-} == twice ]]; then
    say "building everything a second time, in another folder"
    again=$(mktemp -d --tmpdir mosquitto-http-auth-again.XXXXXX)
    trap 'rm -rf "$again"' EXIT
    git -C "$root" ls-files -z --cached --others --exclude-standard | tar -C "$root" --null -T - -c | tar -C "$again" -x
    [[ ! -d $root/.brokers ]] || ln -s "$root/.brokers" "$again/.brokers"
    make_packages "$again" "$again/packages"
    cmp "$result/SHA256SUMS" "$again/packages/SHA256SUMS" || die "the second build made other bytes: see above."
    say "both builds made the same bytes"
fi
ls -l "$result"

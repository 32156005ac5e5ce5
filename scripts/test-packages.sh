#!/bin/bash
# Installs the .deb of `make packages` into fresh roots of Debian 12 and 13, has the packaged broker load the plugin, lets
# a client log in, and removes the package again. Then the same with the .rpm, by Debian's rpm. Needs root, for chroot.
# Nothing of this machine is touched: the roots are below target/roots, and have mounts of their own.
#
#   scripts/test-packages.sh [bookworm | trixie]...       (default: both)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
roots=$root/target/roots
say() { printf 'test-packages: %s\n' "$*"; }
die() { printf 'test-packages: error: %s\n' "$*" >&2; exit 1; }

. "$root/scripts/apt.sh"

[[ $(id -u) == 0 ]] || die "this needs root, for chroot."
command -v debootstrap >/dev/null || die "install debootstrap first."
deb=$(echo "$root"/target/packages/*.deb)
rpm=$(echo "$root"/target/packages/*.rpm)
[[ -e $deb && -e $rpm ]] || die "there is no package: make packages first."
api=$root/target/debug/mock-api
[[ -x $api ]] || die "there is no mock API: cargo build -p mock-api first."
(($#)) || set -- bookworm trixie

# Runs a command in the root $1, with its own /proc. Nothing stays mounted. With `replacing` set, it
# replaces this process.
inside() {
    local folder=$1
    shift
    ${replacing:+exec} unshare --mount sh -c 'mount -t proc proc "$1/proc" && mount --bind /dev/null "$1/dev/null" 2>/dev/null; \
        folder=$1; shift; exec chroot "$folder" "$@"' inside "$folder" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"
}

# Every file of the root $1, but for what apt itself notes down.
files_of() { (cd "$1" && find . -xdev \( -path ./proc -o -path ./tmp -o -path ./var/cache -o -path ./var/lib/apt -o -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./root/.rpmdb -o -path ./var/log -o -path './run*' \) -prune -o -print | sort); }

pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done' EXIT

# Runs rpm in the root $1. That of Debian 12 wants to be told that it is meant.
rpm_in() {
    local root=$1 meant=
    shift
    if inside "$root" rpm --force-debian --version >/dev/null 2>&1; then meant=--force-debian; fi
    inside "$root" rpm $meant "$@"
}

# Installs the package in the root $1 as /tmp/plugin.deb or .rpm ($2).
install_package() {
    case $2 in
        deb) inside "$1" apt-get -q -y --no-install-recommends install /tmp/plugin.deb ;;
        # Its broker is Debian's, of which rpm knows nothing.
        rpm) rpm_in "$1" --nodeps --install /tmp/plugin.rpm ;;
    esac
}

remove_package() {
    case $2 in
        deb) inside "$1" apt-get -q -y purge mosquitto-http-auth ;;
        # What makes the .rpm cannot give it folders of its own, so these stay, empty.
        rpm)
            local result=0
            rpm_in "$1" --erase mosquitto-http-auth || result=$?
            (cd "$1/usr/share" && rmdir --ignore-fail-on-non-empty --parents fish/vendor_completions.d zsh/site-functions \
                doc/mosquitto-http-auth/{docs,contrib,examples}) 2>/dev/null || true
            return $result
            ;;
    esac
}

# Lists what it has installed.
files_of_package() {
    case $2 in
        deb) inside "$1" dpkg -L mosquitto-http-auth ;;
        rpm) rpm_in "$1" --query --list mosquitto-http-auth ;;
    esac
}

# The folder of the broker's own plugins, where Debian has it, and where systems with rpm look for plugins.
folder_of_plugins() {
    case $2 in
        deb) inside "$1" sh -c 'dirname "$(dpkg -L mosquitto | grep dynamic_security.so | head -n 1)"' ;;
        rpm) echo /usr/lib64 ;;
    esac
}

# Tries the package of this kind (deb, rpm) in a root of this suite.
try() {
    local suite=$1 kind=$2 folder=$roots/$1 port=$3 api_port=$4 uri keyrings library tries package
    package=${!kind}
    read -r uri keyrings < <(mirror)
    if [[ ! -e $folder/complete ]]; then
        say "$suite: making a root"
        rm -rf "$folder"
        mkdir -p "$folder"
        debootstrap --variant=minbase --keyring="${keyrings%%,*}" "$suite" "$folder" "$uri" >"$folder.log" 2>&1 ||
            { tail -n 5 "$folder.log" >&2; die "$suite: debootstrap failed."; }
        printf '#!/bin/sh\nexit 101\n' >"$folder/usr/sbin/policy-rc.d" # starts no service
        chmod +x "$folder/usr/sbin/policy-rc.d"
        cp /etc/resolv.conf "$folder/etc/resolv.conf"
        inside "$folder" apt-get -q update >>"$folder.log" 2>&1
        inside "$folder" apt-get -q -y --no-install-recommends install mosquitto mosquitto-clients rpm >>"$folder.log" 2>&1 ||
            { tail -n 5 "$folder.log" >&2; die "$suite: the broker cannot be installed."; }
        touch "$folder/complete"
    fi
    # What a run left that was broken off.
    for left in deb rpm; do remove_package "$folder" $left >>"$folder.log" 2>&1 || true; done
    rm -f "$folder"/etc/mosquitto/conf.d/http-auth.conf "$folder"/var/lib/mosquitto/* "$folder"/var/log/mosquitto/*
    files_of "$folder" >"$folder.before"
    find "$folder/etc/mosquitto" -type f -exec sha256sum {} + >"$folder.conf"

    say "$suite: installing $(basename "$package")"
    cp "$package" "$folder/tmp/plugin.$kind"
    install_package "$folder" "$kind" >>"$folder.log" 2>&1 ||
        { tail -n 20 "$folder.log" >&2; die "$suite: the package cannot be installed."; }
    sha256sum --quiet -c "$folder.conf" || die "$suite: the package has changed the broker's configuration."
    library=$(files_of_package "$folder" "$kind" | grep '\.so$')
    [[ $(dirname "$library") == $(folder_of_plugins "$folder" "$kind") ]] ||
        die "$suite: $library is not where the broker's own plugins are."
    inside "$folder" mosquitto-http-auth --version
    inside "$folder" sh -c 'ls /usr/share/man/man1/mosquitto-http-auth.1.gz /usr/share/bash-completion/completions/mosquitto-http-auth' >/dev/null

    say "$suite: the packaged broker loads it"
    cat >"$folder/etc/mosquitto/conf.d/http-auth.conf" <<CONF
listener $port 127.0.0.1
allow_anonymous false
plugin $library
plugin_opt_auth_url http://127.0.0.1:$api_port/auth
plugin_opt_acl_url http://127.0.0.1:$api_port/acl
CONF
    replacing=yes inside "$folder" sh -c 'mkdir -p /run/mosquitto && chown mosquitto /run/mosquitto &&
        exec mosquitto -c /etc/mosquitto/mosquitto.conf' >"$folder.broker" 2>&1 &
    pids+=($!)
    for ((tries = 0; tries < 100; tries++)); do
        { : <"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null && break
        sleep 0.1
    done
    inside "$folder" mosquitto-http-auth check || die "$suite: check finds mistakes."
    inside "$folder" sh -c "echo secret-1 | mosquitto-http-auth login sensor-1 --password-stdin" || die "$suite: no login."
    inside "$folder" mosquitto_pub -h 127.0.0.1 -p "$port" -V 5 -q 1 -u sensor-1 -P secret-1 -t sensors/sensor-1/t -m 20 ||
        { tail "$folder/var/log/mosquitto/mosquitto.log" >&2; die "$suite: the device is not let in."; }
    ! inside "$folder" mosquitto_pub -h 127.0.0.1 -p "$port" -u sensor-1 -P wrong -t sensors/sensor-1/t -m 20 2>/dev/null ||
        die "$suite: a wrong password is let in."
    kill "${pids[-1]}"
    wait "${pids[-1]}" || true
    unset 'pids[-1]'

    say "$suite: removing it again"
    rm "$folder/etc/mosquitto/conf.d/http-auth.conf" "$folder/tmp/plugin.$kind"
    remove_package "$folder" "$kind" >>"$folder.log" 2>&1 || die "$suite: it cannot be removed."
    rm -f "$folder"/var/lib/mosquitto/*
    files_of "$folder" >"$folder.after"
    diff "$folder.before" "$folder.after" || die "$suite: the package leaves the files above behind."
    sha256sum --quiet -c "$folder.conf" || die "$suite: the broker's configuration is another now."
    say "$suite: $(sed -n 's/.*mosquitto version \([0-9.]*\) starting.*/mosquitto \1/p' "$folder/var/log/mosquitto/mosquitto.log" |
        head -n 1): .$kind installed, loaded, a login, removed"
    rm -f "$folder"/var/log/mosquitto/*
}

# A port of the loopback interface on which nothing listens.
free_port() {
    local port
    for ((port = 18800; port < 18900; port++)); do
        { : <"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || { echo "$port"; return; }
    done
    die "there is no free port."
}

mkdir -p "$roots"
"$api" --listen 127.0.0.1:0 --rules "$root/examples/api-rules.txt" >"$roots/api.log" &
pids+=($!)
for ((tries = 0; tries < 100; tries++)); do
    grep -q listening "$roots/api.log" && break
    sleep 0.1
done
api_port=$(sed -n 's|^listening on http://.*:||p' "$roots/api.log")
for suite in "$@"; do
    for kind in deb rpm; do try "$suite" "$kind" "$(free_port)" "$api_port"; done
done

#!/bin/sh
# Installs what is missing of the Debian packages that a purpose needs, and nothing where all are there.
#
#   packaging/deps.sh build|demo|test|bench...
#
# The lists are the whole of what a fresh Debian 12 with Rust, git, make and curl lacks.
set -eu

cd "$(dirname "$0")/.."

machine=$(dpkg --print-architecture 2>/dev/null || uname -m)

packages_for() {
    case $1 in
    build)
        echo gcc libc6-dev binutils
        # The static binary: a toolchain that has the musl target needs no more.
        if ! packaging/as-caller.sh rustup target list --installed 2>/dev/null | grep -q "$(uname -m)-unknown-linux-musl"; then
            echo rustc-web cargo-web rust-web-src musl-tools
        fi
        ;;
    images) echo busybox-static binutils ;;
    demo) echo curl procps iproute2 ;;
    test)
        # The guest of the vm-test; then the peers and the tools that tests look through.
        case $machine in
        amd64) echo qemu-system-x86 ;;
        arm64) echo qemu-system-arm ;;
        esac
        echo debootstrap e2fsprogs
        echo busybox-static strace nftables iproute2 procps util-linux mount systemd umoci skopeo curl
        # Whatever kubectl is there will do.
        command -v kubectl >/dev/null || echo kubernetes-client
        ;;
    bench) echo gcc libc6-dev crun runc podman catatonit netavark nftables iproute2 procps ;;
    *)
        echo "deps: no such purpose: $1" >&2
        exit 2
        ;;
    esac
}

# The test of the OpenRC script runs OpenRC. Installed, it would be this machine's init: it is unpacked aside.
unpack_openrc() {
    if [ -d .cache/openrc ]; then return 0; fi
    new=.cache/openrc.$$
    mkdir -p "$new/root"
    echo "deps: unpacking openrc into .cache/openrc"
    # Without its dependencies that every Debian has; the lists may be none, or too old.
    get='apt-get download -q -o APT::Sandbox::User=root openrc librc1 libeinfo1'
    (cd "$new" && { $get || { apt-get update -q && $get; }; })
    for package in "$new"/*.deb; do dpkg-deb --extract "$package" "$new/root"; done
    mv "$new/root" .cache/openrc
    rm -rf "$new"
}

wanted=$(for purpose; do packages_for "$purpose"; done | tr ' ' '\n' | sort -u)

if ! command -v apt-get >/dev/null; then
    echo "deps: not a Debian system; needed are what these packages hold: $(echo $wanted)" >&2
    exit 0
fi

missing=$(for package in $wanted; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
done)
if [ -n "$missing" ] && [ "$(id -u)" -ne 0 ]; then
    echo "deps: missing Debian packages: $(echo $missing)" >&2
    echo "hint: sudo apt-get install --no-install-recommends $(echo $missing)" >&2
    exit 1
fi
if [ -n "$missing" ]; then
    echo "deps: installing $(echo $missing)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=600 $missing
fi

case " $* " in *" test "*) unpack_openrc ;; esac

#!/bin/sh
# Builds target/pinlet_<version>_<arch>.deb from the static binary: one package without dependencies, for any release.
set -eu

cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) echo "deb: no package for $(uname -m)" >&2; exit 1 ;;
esac

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
make --no-print-directory install DESTDIR="$tree" PREFIX=/usr >/dev/null
mkdir -p "$tree/DEBIAN" "$tree/usr/share/doc/pinlet" "$tree/etc/kubernetes/manifests"
cp packaging/debian/copyright "$tree/usr/share/doc/pinlet/copyright"
install -m 644 packaging/debian/conffiles "$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 "packaging/debian/$script" "$tree/DEBIAN/$script"; done
cat >"$tree/DEBIAN/control" <<CONTROL
Package: pinlet
Version: $version
Architecture: $arch
Maintainer: the pinlet authors <pinlet@localhost>
Section: admin
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$tree" | cut -f1)
Description: runs Kubernetes static pods from one static binary
 Watches a directory of Pod manifests and keeps those pods running on this
 node, as a kubelet does with its static pods, without an API server and
 without a container daemon.
CONTROL
chmod 755 "$tree"
package="target/pinlet_${version}_$arch.deb"
dpkg-deb --root-owner-group --build "$tree" "$package" >/dev/null
echo "$package: $(stat -c %s "$package") bytes"

#!/bin/bash
# Builds the Debian 12 guest of the vm-test: .cache/vm/{disk.img,vmlinuz,initrd.img}. It boots systemd (as a fresh
# Debian does) or, asked by the kernel's command line, the sysvinit that lies beside it. Root is needed, for debootstrap.
# Nothing is done again unless this file or the guest's agent changed. FORCE=1 builds anew.
set -euo pipefail

cd "$(dirname "$0")/../.."

out=.cache/vm
sources=(tests/vm/image.sh tests/vm/guest-agent)
packages=systemd,sysvinit-core,initscripts,udev,kmod,initramfs-tools,zstd,procps,iproute2,curl,psmisc,login,strace
case $(uname -m) in
x86_64) kernel=linux-image-amd64 ;;
aarch64) kernel=linux-image-arm64 ;;
esac

# By content: a checkout changes times.
made_of=$(cat "${sources[@]}" | sha256sum)
if [ -z "${FORCE:-}" ] && [ -s "$out/disk.img" ] && [ "$(cat "$out/made-of" 2>/dev/null)" = "$made_of" ]; then exit 0; fi

work=$(mktemp -d)
root=$work/root
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir -p "$out" .cache/debootstrap

# The repository that this machine itself installs from.
repository() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1; }
mirror=$(repository)
if [ -z "$mirror" ]; then
    apt-get update -q
    mirror=$(repository)
fi
[ -n "$mirror" ] || { echo "image.sh: apt has no source for Debian bookworm" >&2; exit 1; }
echo "image.sh: building the guest (a minute or two)"
debootstrap --variant=minbase --cache-dir="$PWD/.cache/debootstrap" --include="$packages,$kernel" bookworm "$root" "$mirror" \
    >"$out/build.log" 2>&1 || { tail -n 30 "$out/build.log" >&2; exit 1; }

in_guest() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C "$@" >>"$out/build.log" 2>&1; }

echo vmnode >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 vmnode\n' >"$root/etc/hosts"
# A name server that nobody answers for: nothing here may wait for DNS.
echo 'nameserver 192.0.2.53' >"$root/etc/resolv.conf"
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
rm -f "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_*

# The network of the guest: one address, a default route that leads nowhere.
cat >"$root/etc/systemd/network/10-vm.network" <<'UNIT'
[Match]
Type=ether
Name=en* eth*

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
UNIT
in_guest systemctl enable systemd-networkd

# The agent of the tests: a service under systemd, a line of inittab under sysvinit.
install -m 755 tests/vm/guest-agent "$root/usr/local/sbin/guest-agent"
cat >"$root/etc/systemd/system/guest-agent.service" <<'UNIT'
[Unit]
Description=Executes what the tests send
After=local-fs.target

[Service]
ExecStart=/usr/local/sbin/guest-agent
Restart=always
# The tests' own processes: they may not be what a stopped pod waits for, nor end before the tests have looked.
KillMode=process

[Install]
WantedBy=multi-user.target
UNIT
in_guest systemctl enable guest-agent
sed -i '/getty/d' "$root/etc/inittab"
echo 'ga:2345:respawn:/usr/local/sbin/guest-agent' >>"$root/etc/inittab"

# Nothing that wakes up by itself while tests count.
in_guest systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer getty@tty1.service serial-getty@ttyS0.service
# The journal on disk, so that the tests can read the boot before.
mkdir -p "$root/var/log/journal"

# A small initramfs: what a virtio disk with ext4 needs.
sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$root/etc/initramfs-tools/initramfs.conf"
printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
in_guest update-initramfs -u -k all
# Drivers of devices that this machine will never have.
for folder in sound drivers/gpu drivers/media drivers/infiniband drivers/net/wireless drivers/net/ethernet drivers/staging; do
    rm -rf "$root"/lib/modules/*/kernel/"$folder"
done
rm -rf "$root"/usr/share/{doc,man,locale}/*
in_guest depmod "$(basename "$root"/lib/modules/*)"

cp "$root"/boot/vmlinuz-* "$out/vmlinuz"
cp "$root"/boot/initrd.img-* "$out/initrd.img"
rm -f "$out/disk.img.new"
truncate -s 3G "$out/disk.img.new"
mkfs.ext4 -q -F -d "$root" "$out/disk.img.new"
mv "$out/disk.img.new" "$out/disk.img"
echo "$made_of" >"$out/made-of"
echo "image.sh: $out/disk.img, $(du -m "$out/disk.img" | cut -f1) MB"

#!/bin/sh
# Runs a command with the calling user's Rust toolchain and, under sudo, as that user: building needs no root, and
# neither target/ nor ~/.cargo may be left full of files that their owner cannot touch.
#
#   packaging/as-caller.sh cargo build
set -eu

caller=${SUDO_USER:-root}
if [ "$(id -u)" -ne 0 ] || [ "$caller" = root ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH" exec "$@"
fi

home=$(getent passwd "$caller" | cut -d: -f6)
path="$home/.cargo/bin:$PATH"
# A tree that the caller may not write is built as root, still with the caller's toolchain.
if ! runuser -u "$caller" -- test -w .; then
    exec env PATH="$path" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}" "$@"
fi
exec runuser -u "$caller" -- env HOME="$home" USER="$caller" LOGNAME="$caller" PATH="$path" "$@"

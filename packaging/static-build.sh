#!/bin/sh
# Builds the static musl binary and prints nothing but what the compiler says; fails if the result is not static.
#
# Two ways, the same result:
#   1. a rustup toolchain that already has the musl target: plain cargo;
#   2. else Debian's rustc-web set: compiler, cargo and the sources of the standard library, all of one version,
#      so that std itself is compiled for musl. (Another toolchain's compiler with those sources does not work:
#      the compiler and its library know each other's internals.)
# The binary is target/x86_64-unknown-linux-musl/release/pinlet either way; PINLET_STATIC=debian|rustup forces one.
set -eu

cd "$(dirname "$0")/.."

machine=$(uname -m)
target="$machine-unknown-linux-musl"
target_dir=${CARGO_TARGET_DIR:-target}
binary="$target_dir/$target/release/pinlet"
way=${PINLET_STATIC:-}

if [ -z "$way" ]; then
    if rustup target list --installed 2>/dev/null | grep -qx "$target"; then way=rustup; else way=debian; fi
fi

build_with_rustup() {
    cargo build --release --locked --bin pinlet --target "$target"
}

build_with_debian() {
    for tool in /usr/bin/rustc /usr/bin/cargo musl-gcc; do
        command -v "$tool" >/dev/null || {
            echo "static-build: $tool is missing; 'make deps' installs Debian's rustc-web, cargo-web, rust-web-src and musl-tools" >&2
            exit 1
        }
    done

    # With panic=abort nothing unwinds, but std still names the unwinder's entry points, and Debian has no libunwind
    # for musl. Five stubs satisfy the linker; what is lost is the text of a backtrace.
    stubs="$PWD/$target_dir/$target/unwind-stubs"
    mkdir -p "$stubs"
    if [ ! -e "$stubs/libunwind.a" ] || [ packaging/unwind-stubs.c -nt "$stubs/libunwind.a" ]; then
        musl-gcc -Os -c packaging/unwind-stubs.c -o "$stubs/unwind.o"
        ar rcs "$stubs/libunwind.a" "$stubs/unwind.o"
    fi

    # Build scripts and procedural macros run here, on the ordinary target, with no flag of these.
    flags="-C target-feature=+crt-static -C relocation-model=static -C link-self-contained=no -C panic=abort"
    flags="$flags -L native=$stubs -C link-arg=-lgcc"
    variable=$(echo "$target" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${variable}_RUSTFLAGS=$flags"
    export "CARGO_TARGET_${variable}_LINKER=musl-gcc"
    export "CC_$(echo "$target" | tr - _)=musl-gcc"
    # -Z needs a nightly or this; the library features are those of Debian's own build of std.
    RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_WRAPPER='' \
        /usr/bin/cargo build --release --locked --bin pinlet --target "$target" \
        -Z build-std=std,panic_abort -Z build-std-features=
}

check_static() {
    if LC_ALL=C readelf --program-headers "$1" | grep -q INTERP; then
        echo "static-build: $1 asks for a dynamic loader: it is not static" >&2
        exit 1
    fi
    if LC_ALL=C readelf --dynamic "$1" | grep -q NEEDED; then
        echo "static-build: $1 needs shared libraries: it is not static" >&2
        exit 1
    fi
}

case $way in
rustup) build_with_rustup ;;
debian) build_with_debian ;;
*) echo "static-build: PINLET_STATIC=$way: debian or rustup" >&2; exit 2 ;;
esac
check_static "$binary"
echo "$binary: static, $(stat -c %s "$binary") bytes"

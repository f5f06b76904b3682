#!/bin/bash
# Builds, offline but for Debian's packages, the images that the demo and the tests run, as docker archives:
#
#   .cache/images/nodejs-web-app.tar   kalise/nodejs-web-app:latest: a real Node.js with all that it loads, three layers
#   .cache/images/busybox.tar          busybox:latest and busybox:<its version>: one layer
#
# Node.js comes out of Debian's packages without being installed here, where another node may live. Nothing is done
# again unless what it is made of changed. FORCE=1 builds anew.
set -euo pipefail

cd "$(dirname "$0")/../.."

support=tests/support
out=.cache/images
debs=$PWD/.cache/debs
machine=$(dpkg --print-architecture)
created=2024-01-01T00:00:00Z

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# outdated FILE SOURCE...: whether FILE must be made again. By content: a checkout changes times.
outdated() {
    local file=$1
    shift
    made_of=$(cat "$support/images.sh" "$@" | sha256sum)
    [ -n "${FORCE:-}" ] || [ ! -s "$file" ] || [ "$(cat "$file.made-of" 2>/dev/null)" != "$made_of" ]
}

# The same bytes whenever the content is the same: order, times and owners are fixed.
pack() {
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu --directory "$1" .
}

digest() { sha256sum "$1" | cut -d' ' -f1; }

# archive FILE TAGS CONFIG LAYER...: TAGS and CONFIG are JSON; a layer is a folder.
archive() {
    local file=$1 tags=$2 config=$3 image=$work/image layer layers= diffs= id
    shift 3
    rm -rf "$image"
    mkdir "$image"
    for layer; do
        pack "$layer" >"$image/layer.tar"
        id=$(digest "$image/layer.tar")
        mkdir "$image/$id"
        mv "$image/layer.tar" "$image/$id/layer.tar"
        layers="$layers${layers:+,}\"$id/layer.tar\"" diffs="$diffs${diffs:+,}\"sha256:$id\""
    done
    cat >"$image/config.json" <<JSON
{"architecture":"$machine","os":"linux","created":"$created","config":$config,"rootfs":{"type":"layers","diff_ids":[$diffs]}}
JSON
    id=$(digest "$image/config.json")
    mv "$image/config.json" "$image/$id.json"
    echo "[{\"Config\":\"$id.json\",\"RepoTags\":$tags,\"Layers\":[$layers]}]" >"$image/manifest.json"
    # Aside and renamed: a reader never sees half an archive.
    tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu \
        --directory "$image" --file "$file.new" .
    mv "$file.new" "$file"
    echo "$made_of" >"$file.made-of"
    echo "$file: $tags, $(stat -c %s "$file") bytes"
}

# A root with a shell, users and the folders that programs expect.
base_root() {
    local root=$1 applet
    mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp,usr/bin,var/run,var/tmp}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    chmod 700 "$root/root"
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'daemon:x:1:1:daemon:/usr/sbin:/bin/false' \
        'www-data:x:33:33:www-data:/var/www:/bin/false' 'nobody:x:65534:65534:nobody:/:/bin/false' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'daemon:x:1:' 'www-data:x:33:' 'nogroup:x:65534:' >"$root/etc/group"
}

busybox_image() {
    local version
    outdated "$out/busybox.tar" /bin/busybox || return 0
    version=$(/bin/busybox | sed -n '1s/^BusyBox v\([0-9]*\.[0-9]*\).*/\1/p')
    base_root "$work/busybox"
    archive "$out/busybox.tar" "[\"busybox:$version\",\"busybox:latest\"]" \
        '{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["sh"]}' "$work/busybox"
}

# Debian's nodejs and everything it depends on, as if nothing were installed; unpacked into the folder.
unpack_node() {
    local root=$1 release state=$work/apt package version
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mkdir -p "$state/partial" "$debs/partial" "$root"
    : >"$state/status"
    # The release is named, since another repository may offer a nodejs of its own that bundles everything.
    local options=(-q -y --no-install-recommends --download-only -t "$release"
        -o "Dir::State::status=$state/status" -o "Dir::Cache::archives=$debs" -o Debug::NoLocking=1
        -o APT::Sandbox::User=root)
    if ! apt-get "${options[@]}" install "nodejs/$release" >"$work/apt.log" 2>&1; then
        # No lists yet, or older than the packages that are left.
        apt-get update -q >"$work/apt.log" 2>&1
        apt-get "${options[@]}" install "nodejs/$release" >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; return 1; }
    fi
    # The cache may hold older versions beside the ones that were resolved now.
    apt-get "${options[@]}" --simulate install "nodejs/$release" |
        sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1 \2/p' |
        while read -r package version; do
            dpkg-deb --extract "$debs/${package}_${version//:/%3a}_"*.deb "$root"
        done
}

# Copies PATH... (absolute, in the unpacked packages) with the links that lead to them.
take() {
    local from=$1 to=$2 path target
    shift 2
    for path; do
        while :; do
            mkdir -p "$to${path%/*}"
            cp -a "$from$path" "$to$path"
            [ -L "$from$path" ] || break
            target=$(readlink "$from$path")
            case $target in
            /*) path=$target ;;
            *) path=$(realpath -sm "${path%/*}/$target") ;;
            esac
        done
    done
}

nodejs_image() {
    outdated "$out/nodejs-web-app.tar" "$support/nodejs-web-app/server.js" /bin/busybox || return 0
    local all=$work/packages base=$work/base node=$work/node app=$work/app loader libraries
    unpack_node "$all"

    # The loader says what node loads; its own path is the interpreter that node names.
    loader=$(LC_ALL=C readelf --program-headers "$all/usr/bin/node" | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
    libraries=$(cd "$all" && find lib usr/lib -name '*.so*' -printf '%h\n' | sort -u | sed "s|^|$all/|" | paste -sd:)
    libraries=$("$(realpath "$all$loader")" --library-path "$libraries" --list "$all/usr/bin/node" |
        sed -n "s|.* => $all\(/[^ ]*\) .*|\1|p")

    base_root "$base"
    take "$all" "$base" "$loader" $(grep -E '/lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so' <<<"$libraries")
    mkdir -p "$node/usr/share"
    take "$all" "$node" /usr/bin/node $(grep -vE '/lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)\.so' <<<"$libraries")
    # The JavaScript half of node's built-in modules is files of their own in Debian's packages.
    cp -a "$all/usr/share/nodejs" "$node/usr/share/nodejs"
    mkdir -p "$app/app"
    cp "$support/nodejs-web-app/server.js" "$app/app/server.js"

    archive "$out/nodejs-web-app.tar" '["kalise/nodejs-web-app:latest"]' \
        '{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["node","server.js"],"WorkingDir":"/app","ExposedPorts":{"8080/tcp":{}}}' \
        "$base" "$node" "$app"
}

busybox_image
nodejs_image

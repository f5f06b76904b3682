#!/bin/bash
# Builds the tests as the calling user and runs each test program as root: containers, mounts and network namespaces
# need it, and compiling does not. Every program runs, also after one failed; the status says whether all passed.
#
#   tests/run.sh [--except NAME]... [--only NAME]... [-- ARGUMENT...]
set -euo pipefail

cd "$(dirname "$0")/.."

only=() except=()
while [ $# -gt 0 ]; do
    case $1 in
    --only) only+=(--test "$2"); shift 2 ;;
    --except) except+=("$2"); shift 2 ;;
    --) shift; break ;;
    *) echo "run.sh: what is $1?" >&2; exit 2 ;;
    esac
done

# One line per compiled target; a test program is one with an executable and the test profile.
programs=$(packaging/as-caller.sh cargo test --locked --no-run --message-format=json-render-diagnostics "${only[@]}" |
    sed -n '/"test":true},"features"/s/.*"name":"\([^"]*\)","src_path".*"executable":"\([^"]*\)".*/\1 \2/p' | sort -u)
[ -n "$programs" ] || { echo "run.sh: no test program was built" >&2; exit 1; }

export CARGO_MANIFEST_DIR=$PWD
failed=()
while read -r name program; do
    case " ${except[*]-} " in *" $name "*) continue ;; esac
    echo "== $name"
    "$program" "$@" </dev/null || failed+=("$name")
done <<<"$programs"

if [ ${#failed[@]} -gt 0 ]; then
    echo "run.sh: failed: ${failed[*]}" >&2
    exit 1
fi

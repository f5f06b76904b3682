#!/bin/bash
# The two walkthroughs, narrated: a pod on its own network and one on the host's, a crash, a crash loop, an edit, a
# removal, an agent that is killed. Each step is checked; the machine is left as it was. Called by `make demo`, as root.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "$0")/.."

pinlet=${1:-target/$(uname -m)-unknown-linux-musl/release/pinlet}
[ "$(id -u)" -eq 0 ] || { echo "demo: needs root: sudo make demo" >&2; exit 1; }
[ -x "$pinlet" ] || { echo "demo: no $pinlet; make static builds it" >&2; exit 1; }

# Apart from everything that an installed pinlet uses.
home=/var/tmp/pinlet-demo
run_dir=/run/pinlet-demo
bridge=pinletdemo0
cgroup=pinlet-demo
node=demo
manifests=$home/manifests
flags=(--pod-manifest-path="$manifests" --root-dir="$home/root" --run-dir="$run_dir" --pod-logs-dir="$home/logs"
    --container-logs-dir="$home/links" --cgroup-root="/$cgroup" --bridge-name="$bridge" --pod-cidr=10.186.0.0/24
    --hostname-override="$node" --v=1)
agent=

# What takes longer is stuck. Far beyond the fractions of a second that things take.
DEADLINE_SECONDS=60

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
fail() {
    echo "demo: $*" >&2
    verb explain >&2 || true
    tail -n 20 "$home/agent.log" >&2 || true
    exit 1
}
# Shows a command as a user would type it, and runs it.
show() {
    printf '%s$ %s%s\n' "$dim" "$*" "$plain"
    "$@"
}
verb() { "$pinlet" "$1" --run-dir="$run_dir" "${@:2}"; }
pods() {
    printf '%s$ pinlet get pods -o wide%s\n' "$dim" "$plain"
    verb get pods -o wide
}
# row POD FIELD: a cell of `get pods -o wide`.
row() { verb get pods -o wide 2>/dev/null | awk -v pod="$1-$node" -v field="$2" '$2 == pod { print $field }'; }
status() { row "$1" 4; }
restarts() { row "$1" 5; }
ip() { row "$1" 7; }

# until_true WHAT COMMAND...: polls; prints how long it took.
until_true() {
    local what=$1 begin=$EPOCHREALTIME
    shift
    until "$@" >/dev/null 2>&1; do
        [ "${EPOCHREALTIME%.*}" -lt $((${begin%.*} + DEADLINE_SECONDS)) ] || fail "$what: not within $DEADLINE_SECONDS s"
        sleep 0.02
    done
    printf '  %s after %d ms\n' "$what" $(((${EPOCHREALTIME/./} - ${begin/./}) / 1000))
}
is_running() { [ "$(status "$1")" = Running ] && [ "$(restarts "$1")" = "${2:-0}" ]; }
answers() { curl --silent --fail --max-time 5 "http://$1:8080/"; }
get() {
    printf '%s$ curl http://%s:8080/%s\n' "$dim" "$1" "$plain"
    answers "$1" || fail "no answer"
}
# The container's own process, by its cgroup: the one that listens.
container_pid() {
    local uid
    uid=$(verb get pods "$1" -o json | grep -o '"uid": *"[^"]*"' | head -n 1 | cut -d'"' -f4)
    find /sys/fs/cgroup -path "*/$cgroup/kubepods/*pod$uid/*" -name cgroup.procs -exec cat {} + | sort -un | head -n 1
}

start_agent() {
    "$pinlet" run "${flags[@]}" </dev/null >>"$home/agent.log" 2>&1 &
    agent=$!
    until_true "the agent is ready" verb get pods
}

# What a pod could leave behind, beside the agent's own files.
leftovers() {
    grep -l "$cgroup/" /proc/[0-9]*/cgroup 2>/dev/null || true
    grep -E "$run_dir/(pods|containers)|$home/root" /proc/self/mountinfo || true
    find /sys/fs/cgroup -path "*/$cgroup/kubepods/*" -type d
    ls -d "/sys/class/net/$bridge" 2>/dev/null || true
    find "$home/root/pods" "$run_dir/pods" "$run_dir/containers" -mindepth 1 -maxdepth 1 2>/dev/null || true
}

clean_up() {
    local status=$?
    trap - EXIT
    [ -z "$agent" ] || { kill -TERM "$agent" 2>/dev/null && wait "$agent" 2>/dev/null; } || true
    "$pinlet" stop-pods --run-dir="$run_dir" --timeout=10s >/dev/null 2>&1 || true
    # Only a failed run gets here with processes left.
    for leaf in $(find /sys/fs/cgroup -depth -type d -path "*/$cgroup*"); do
        [ ! -e "$leaf/cgroup.procs" ] || while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$leaf/cgroup.procs"
    done
    for attempt in 1 2 3 4 5; do
        find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null && break
        sleep 0.2
    done
    for mount in $(awk '{ print $5 }' /proc/self/mountinfo | grep -E "^($home|$run_dir)(/|$)" | sort -r); do
        umount -l "$mount" 2>/dev/null || true
    done
    rm -rf --one-file-system "$home" "$run_dir"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

if answers 127.0.0.1 >/dev/null; then
    echo "demo: something answers on port 8080 of this machine already; the hostNetwork pod needs it" >&2
    exit 1
fi
mkdir -p "$manifests" "$home/root/preload"
cp .cache/images/nodejs-web-app.tar "$home/root/preload/"

say "1. The agent starts. Beside it: an empty manifest directory, and one image archive that it imports by itself."
printf '%s$ pinlet %s%s\n' "$dim" "${flags[*]}" "$plain"
start_agent
show "$pinlet" version
until_true "the image is there" sh -c "'$pinlet' get images --run-dir='$run_dir' | grep -q nodejs-web-app"
printf '%s$ pinlet get images%s\n' "$dim" "$plain"
verb get images

say "2. A manifest is copied into the directory: the pod runs, on a network of its own."
cat examples/nodejs-pod.yaml
show cp examples/nodejs-pod.yaml "$manifests/"
until_true "running" is_running nodejs
pods
until_true "the application answers" answers "$(ip nodejs)"
get "$(ip nodejs)"

say "3. The same on the host's network: it answers on the node's own address."
show cp examples/nodejs-pod-hostnet.yaml "$manifests/"
until_true "running" is_running nodejs-hostnet
until_true "the application answers" answers "$(ip nodejs-hostnet)"
pods
get "$(ip nodejs-hostnet)"

say "4. The process is killed from outside: it is back at once, with one restart."
show kill -KILL "$(container_pid nodejs)"
until_true "running again" is_running nodejs 1
pods
until_true "the application answers" answers "$(ip nodejs)"

say "5. Killed again, it has to wait 10 s, as on every Kubernetes node."
kill -KILL "$(container_pid nodejs)"
until_true "CrashLoopBackOff" sh -c "'$pinlet' get pods --run-dir='$run_dir' | grep 'nodejs-$node ' | grep -q CrashLoopBackOff"
pods
until_true "running again" is_running nodejs 2
until_true "the application answers" answers "$(ip nodejs)"

say "6. The agent is killed with SIGKILL. Nobody else notices: same process, same address, same count."
address=$(ip nodejs)
before="$(container_pid nodejs) $address $(restarts nodejs)"
show kill -KILL "$agent"
wait "$agent" 2>/dev/null || true
agent=
get "$address"
start_agent
until_true "taken over" is_running nodejs 2
after="$(container_pid nodejs) $(ip nodejs) $(restarts nodejs)"
echo "  pid, address, restarts before: $before"
echo "  pid, address, restarts after:  $after"
[ "$before" = "$after" ] || fail "the pod is another one"

say "7. A typing error in the file: the pod goes on, and one place says what is wrong."
sed 's/containerPort/containerPrt/' examples/nodejs-pod.yaml >"$home/edited" && mv "$home/edited" "$manifests/nodejs-pod.yaml"
until_true "rejected" sh -c "'$pinlet' explain --run-dir='$run_dir' | grep -q rejected"
printf '%s$ pinlet explain nodejs-pod.yaml%s\n' "$dim" "$plain"
verb explain nodejs-pod.yaml || true
[ "$(container_pid nodejs) $(ip nodejs) $(restarts nodejs)" = "$before" ] || fail "a bad file disturbed the pod"

say "8. A real edit: the old pod ends within its grace period, then the new one starts."
sed 's/^    app: nodejs/&\n    tier: web/' examples/nodejs-pod.yaml >"$home/edited" && mv "$home/edited" "$manifests/nodejs-pod.yaml"
until_true "the new pod runs" is_running nodejs 0
pods
until_true "the application answers" answers "$(ip nodejs)"
printf '%s$ pinlet logs nodejs%s\n' "$dim" "$plain"
verb logs nodejs
printf '%s$ pinlet exec nodejs -- node --version%s\n' "$dim" "$plain"
verb exec nodejs -- node --version

say "9. The files are removed: nothing of the pods is left."
show rm "$manifests/nodejs-pod.yaml" "$manifests/nodejs-pod-hostnet.yaml"
gone() { [ -z "$(verb get pods 2>/dev/null)" ]; }
until_true "no pod is left" gone
# Monitors whose agent was killed are children of this machine's init, which may take its time to see their end.
nothing_left() { [ -z "$(leftovers)" ]; }
until_true "no process, cgroup, mount, link or directory is left" nothing_left

say "10. The agent ends."
show kill -TERM "$agent"
wait "$agent" || fail "the agent ended with status $?"
agent=

say "Done. That was all: one binary of $(stat -c %s "$pinlet") bytes."

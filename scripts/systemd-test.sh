#!/usr/bin/env bash
# Tests scripts/ and systemd/ on a machine that systemd has booted: `make up` and `make down`; what a restart or a
# SIGKILL of each service leaves alone; an installed node that boots without its control plane, and after power cuts.
# Run by `make systemd-test`. Needs root, systemd-nspawn and, the first time, debootstrap and a Debian mirror.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root systemd-test
for program in systemd-nspawn debootstrap nsenter; do
  command -v $program >/dev/null || fail "$program is not installed" "try: apt-get install systemd-container debootstrap"
done
has_systemd && fail "this needs a machine that systemd does not run, with cgroup v1, such as a container for CI" \
  "a machine with systemd can try the real thing: sudo make up"
if [ "${1:-}" != in-namespace ]; then
  exec unshare --mount --propagation private "$0" in-namespace
fi
. "$root/scripts/systemd-machine.sh"
work=$(mktemp -d /var/tmp/coracle-systemd.XXXXXX)
trap machine_remove EXIT

upped=/checkout/run/admin.kubeconfig
installed=/var/lib/coracle-controlplane/admin.kubeconfig

# machine_kubectl KUBECONFIG ARG…
machine_kubectl() { inside kubectl --kubeconfig "$@"; }
demo_pids() { inside pgrep -x demo | sort | tr '\n' ' '; }
demo_runs() { [ "$(demo_pids | wc -w)" -eq 2 ]; }
same() { # same WHAT WANTED GOT
  [ "$2" = "$3" ] || fail "$1: wanted '$2', got '$3'"
}

# lives_through KUBECONFIG: restart and kill each service: the demo's processes go on, and everything answers again.
lives_through() {
  local pids action
  pids=$(demo_pids)
  for action in "restart coracle-agent" "kill -s KILL coracle-agent" "restart coracle-log-writer" "kill -s KILL coracle-log-writer" \
    "restart coracle-controlplane" "kill -s KILL coracle-controlplane" "restart containerd" "stop coracle-agent" "start coracle-agent"; do
    # shellcheck disable=SC2086 # words
    inside systemctl $action
    [ "$action" = "stop coracle-agent" ] || wait_for 60 answers "$1" || fail "after systemctl $action the cluster did not answer within 60 s"
    same "processes of the demo after systemctl $action" "$pids" "$(demo_pids)"
  done
}
answers() {
  inside systemctl is-active coracle-agent coracle-log-writer coracle-controlplane containerd &&
    machine_kubectl "$1" get --raw /readyz && machine_kubectl "$1" logs deployment/demo
}

# of_a_node: what of a node is on the machine. What there was before the first is not ours to mind.
of_a_node() {
  inside bash -c '
    systemctl list-units --all --plain --no-legend "coracle*"
    ls /run/systemd/system /run/systemd/transient 2>/dev/null | grep coracle
    awk "\$2 ~ /coracle|kubelet|containerd.io/ { print \$2 }" /proc/mounts
    ip -brief link | grep -vE "^(lo|eth0@|peer0@)"
    nft list tables
    find /sys/fs/cgroup -maxdepth 3 -name "coracle*" -not -path "*/system.slice/*" -not -path "*/hugetlb/*" # which the host may share
    ps -eo comm= | grep -E "containerd-shim|coracle|docker-registry"
    for n in $(ctr namespaces ls --quiet); do ctr --namespace "$n" containers ls --quiet; done
    true'
}
nothing_left() {
  local left
  left=$(diff <(echo "$clean") <(echo "$(of_a_node)")) || fail "the machine is not as it was:" "$left"
}

case_up_and_down() {
  local s
  inside /checkout/scripts/up.sh >"$work/up.log" 2>&1 || fail "up failed" "$(tail -n 5 "$work/up.log")"
  for s in "${services[@]}"; do inside systemctl is-active --quiet "$s" || fail "$s is not active after up"; done
  inside /checkout/scripts/up.sh | grep 'already up: nothing to do' >/dev/null || fail "a second up did not say that there is nothing to do"
  lives_through "$upped"
  inside journalctl --unit coracle-agent --grep 'session with the control plane begins' --quiet >/dev/null ||
    fail "the journal has nothing of the agent's sessions"
  machine_reboot
  inside /checkout/scripts/up.sh >"$work/up.log" 2>&1 || fail "up after a reboot failed" "$(tail -n 5 "$work/up.log")"
  demo_runs || fail "the demo does not run after a reboot and up"
  inside /checkout/scripts/down.sh >"$work/down.log" 2>&1 || fail "down failed" "$(tail -n 5 "$work/down.log")"
  nothing_left
  inside test ! -e /checkout/run -a ! -e /run/coracle || fail "down left run/ or /run/coracle"
  inside ctr namespaces ls --quiet | grep coracle && fail "down left a namespace in containerd"
  inside /checkout/scripts/down.sh | grep 'not up: nothing to do' >/dev/null || fail "a second down did not say that there is nothing to do"
}

# in_slices: each process of the demo is in a scope of its container, in its pod's slice, in the slice of its class.
in_slices() {
  local pid
  for pid in $(demo_pids); do
    inside grep -Eq 'cpu.*:.*/coracle.slice/coracle-(burstable|besteffort).slice/coracle-(burstable|besteffort)-pod[0-9a-f_]+.slice/coracle-.*.scope' "/proc/$pid/cgroup" ||
      fail "process $pid of the demo is not in a slice:" "$(inside cat "/proc/$pid/cgroup")"
  done
}

case_installed() {
  inside bash -ec '
    cp /checkout/bin/coracle-{agent,controlplane} /usr/bin/
    cp /checkout/systemd/*.service /etc/systemd/system/
    cp /checkout/systemd/coracle.tmpfiles.conf /usr/lib/tmpfiles.d/coracle.conf
    systemd-tmpfiles --create coracle.conf
    systemctl daemon-reload
    systemd-analyze verify /etc/systemd/system/coracle-*.service
    mkdir -p /etc/coracle
    printf "cgroupDriver: systemd\nevictionHard: {nodefs.available: 1%%, imagefs.available: 1%%}\n" >/etc/coracle/agent.yaml
    mkdir -p /srv/registry
    printf "version: 0.1\nstorage: {filesystem: {rootdirectory: /srv/registry}}\nhttp: {addr: \"$0\"}\n" >/srv/registry.yml
    systemd-run --quiet --unit registry docker-registry serve /srv/registry.yml
    systemctl --quiet start coracle-controlplane' "$registry"
  wait_for 90 machine_kubectl "$installed" get --raw /readyz || fail "the installed control plane was not ready within 90 s"
  inside bash -ec '
    coracle-image /checkout/bin/coracle-demo "$0/demo:1"
    coracle-agent join --server 127.0.0.1:6444 --token $(coracle-controlplane token create --print token) \
      --ca-hash $(coracle-controlplane token create --print ca-hash) >/dev/null
    systemctl --quiet enable --now coracle-log-writer coracle-agent
    kubectl --kubeconfig '"$installed"' apply -f /checkout/scripts/demo/demo.yaml >/dev/null' "$registry"
  wait_for 60 demo_runs || fail "the demo did not run on the installed node within 60 s"
  in_slices
  inside /checkout/scripts/down.sh >/dev/null 2>&1 && fail "down did not refuse on a machine with an installed agent"
  lives_through "$installed"
  # Neither control plane nor registry from here on: the node has its own store.
  machine_reboot
  wait_for 5 demo_runs || fail "the demo did not run within 5 s of a cold boot without a control plane"
  for _ in 1 2 3; do
    machine_cut
    machine_boot
    wait_for 5 demo_runs || fail "the demo did not run within 5 s of a boot after a power cut"
  done
  in_slices
  inside systemctl start coracle-controlplane
  wait_for 90 answers "$installed" || fail "node and control plane did not find each other within 90 s"
  inside bash -ec '
    systemctl stop coracle-agent
    coracle-agent reset --yes 2>/dev/null
    systemctl stop coracle-log-writer coracle-controlplane
    systemctl --quiet disable coracle-log-writer coracle-agent
    rm -r /etc/systemd/system/coracle-* /etc/coracle && systemctl daemon-reload'
  nothing_left
}

machine_tree
machine_layer
machine_boot
clean=$(of_a_node)
say "up, restarts, a reboot, down"
case_up_and_down
say "an installed node: restarts, a cold boot without a control plane, power cuts, reset"
case_installed
say "all of it passed on a machine with systemd"

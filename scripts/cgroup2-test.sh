#!/usr/bin/env bash
# Tests cgroup v2, with the cgroupfs and the systemd driver, on a user-mode-linux machine that systemd has booted: agent/cgroup's
# own tests, and what pods and containers get in a whole cluster. Run by `make cgroup2-test`. Needs root and, the first time,
# debootstrap and a Debian mirror.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root cgroup2-test
for program in debootstrap mkfs.ext4 dpkg-deb chroot; do
  command -v $program >/dev/null || fail "$program is not installed" "try: apt-get install debootstrap e2fsprogs"
done
if [ "${1:-}" != in-namespace ]; then
  exec unshare --mount --propagation private "$0" in-namespace
fi
. "$root/scripts/systemd-machine.sh"
. "$root/scripts/cgroup2-machine.sh"
work=$(mktemp -d /var/tmp/coracle-cgroup2.XXXXXX)
trap 'rm -rf "$work"' EXIT

tests='^(TestResources|TestResize|TestStorageLimits)$'

say "a Debian tree and a kernel, kept in $machine_root and $uml_root"
machine_tree
uml_kernel
uml_image
mkdir -p "$work/machine"
say "building the tests"
(cd "$root" && go test -c -o "$work/machine/cgroup.test" ./agent/cgroup && go test -c -o "$work/machine/integration.test" ./integration)

say "agent/cgroup"
uml_run 300 <<'COMMANDS' || fail "agent/cgroup's tests failed on cgroup v2"
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || { echo "this machine has no cgroup v2"; exit 1; }
./cgroup.test -test.v | grep -E -- '--- |_test.go|^(PASS|FAIL)'
[ "${PIPESTATUS[0]}" -eq 0 ]
COMMANDS

for driver in cgroupfs systemd; do
  say "a cluster, driver $driver"
  # This kernel has no nftables for IPv4, so that the agent's own conflist and its masquerading cannot work.
  uml_run 900 <<COMMANDS || fail "a cluster on cgroup v2 with driver $driver failed"
ip link set lo up
export CORACLE_TEST_CGROUP_DRIVER=$driver
export CORACLE_TEST_CONFLIST='{"cniVersion":"1.0.0","name":"test","plugins":[{"type":"bridge","bridge":"test0","isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.99.0.0/24"}]]}}]}'
cd /checkout/integration
try() { # try TESTS: with what the environment says
  local code=0
  /machine/integration.test -test.v -test.timeout 14m -test.run "\$1" >/machine/log 2>&1 || code=\$?
  grep -E -- '--- |_test.go|^(PASS|FAIL)' /machine/log || tail -n 40 /machine/log
  [ \$code -eq 0 ] || exit \$code
}
try '$tests'
[ $driver = cgroupfs ] || exit 0
export CORACLE_TEST_AGENT_CONFIG='memory: {reservation: tiered, throttling: 0.9}'
try '^TestResources$'
dd if=/dev/zero of=/swap bs=1M count=256 status=none && chmod 600 /swap && mkswap /swap >/dev/null && swapon /swap
export CORACLE_TEST_AGENT_CONFIG='memory: {swap: LimitedSwap}'
try '^TestResources$'
COMMANDS
done
say "all of it passed on cgroup v2"

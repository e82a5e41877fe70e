# A machine that systemd has booted, in systemd-nspawn: made, rebooted, cut from power and removed by systemd-test.sh.
# Sourced, not run; the one who sources it is root in a mount namespace of its own, so that what is mounted here goes
# when it ends. The machine is a throwaway layer above $machine_root, a Debian tree that is made once and kept.

machine_root=${CORACLE_MACHINE_ROOT:-/var/cache/coracle/systemd-machine}
machine=coracle-$$
work= # the folder of this machine, with the layer, its containerd's files and a copy of the checkout
nspawn_pid=

# machine_tree: make the Debian tree, with what scripts/packages.txt names. It needs a Debian mirror, and two minutes.
machine_tree() {
  [ ! -e "$machine_root/sbin/init" ] || return 0
  local making=$machine_root.making packages
  packages=$(awk '!/^#/ && NF { printf ",%s", $1 }' "$root/scripts/packages.txt")
  rm -rf "$making"
  mkdir -p "$making"
  debootstrap --variant=minbase --include="systemd-sysv,dbus$packages" bookworm "$making" >"$work/debootstrap.log" 2>&1 ||
    fail "debootstrap could not make a Debian tree" "see: $(tail -n 3 "$work/debootstrap.log")"
  mv "$making" "$machine_root"
}

# machine_layer: the layer above the tree, with what a machine in nspawn needs.
machine_layer() {
  local etc=$work/root/etc/systemd/system
  mkdir -p "$work"/{upper,layer,root,containerd,checkout}
  mount -t overlay overlay -o "lowerdir=$machine_root,upperdir=$work/upper,workdir=$work/layer" "$work/root"
  cp -a "$root/bin" "$root/scripts" "$root/systemd" "$work/checkout/"
  mkdir -p "$work/root/checkout" "$etc/sysinit.target.wants" "$work/root/var/lib/containerd" "$work/root/var/log/journal"
  # udev would change devices of this host; the registry's own daemon would hold the port of the one that up runs.
  ln -sf /dev/null "$etc/systemd-udevd.service"
  rm -f "$etc/multi-user.target.wants/docker-registry.service"
  cat >"$etc/controllers.service" <<'UNIT'
[Unit]
Description=Make the cgroup controllers writable, which nspawn mounts read-only
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for c in /sys/fs/cgroup /sys/fs/cgroup/*; do ! mountpoint -q $c || mount -o remount,rw,bind $c; done; mount -o remount,rw /proc/sys'
UNIT
  ln -sf ../controllers.service "$etc/sysinit.target.wants/"
}

# machine_boot: boot, and wait until it is up. Network and cgroups are new, as after a real boot.
machine_boot() {
  local net=$work/net
  umount "$net" 2>/dev/null || true
  touch "$net"
  unshare --net="$net" true
  nsenter --net="$net" sh -ec 'ip link set lo up
    ip link add eth0 type veth peer name peer0 && ip link set peer0 up && ip link set eth0 up
    ip addr add 10.98.0.2/24 dev eth0 && ip route add default via 10.98.0.1'
  machine_cgroups
  mkdir -p /run/systemd/nspawn && mount -t tmpfs tmpfs /run/systemd/nspawn
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 SYSTEMD_SECCOMP=0 systemd-nspawn --quiet --directory "$work/root" --machine "$machine" --boot \
    --register=no --keep-unit --resolv-conf=off --timezone=off --network-namespace-path="$net" --console=pipe --capability=all \
    --bind="$work/containerd:/var/lib/containerd" --bind="$work/checkout:/checkout" </dev/null >>"$work/console.log" 2>&1 &
  nspawn_pid=$!
  wait_for 60 machine_up || fail "the machine did not boot within 60 s" "its console: $(tail -n 5 "$work/console.log")"
}
machine_up() { [[ $(inside systemctl is-system-running) =~ running|degraded ]]; }

# machine_cgroups: a group of the machine's own in each v1 hierarchy, for nspawn to start in.
machine_cgroups() {
  local c f
  for c in /sys/fs/cgroup/*/cgroup.procs; do
    c=${c%/cgroup.procs}
    [ "$c" != /sys/fs/cgroup/unified ] || continue
    machine_forget_cgroup "$c"
    mkdir -p "$c/$machine"
    for f in cpuset.cpus cpuset.mems; do
      [ ! -e "$c/$f" ] || cat "$c/$f" >"$c/$machine/$f"
    done
    echo $$ >"$c/$machine/cgroup.procs"
  done
}
machine_forget_cgroup() {
  [ -d "$1/$machine" ] || return 0
  echo $$ >"$1/cgroup.procs"
  find "$1/$machine" -depth -type d -exec rmdir {} \;
}

# inside COMMAND…: run COMMAND in the machine.
inside() {
  local leader
  leader=$(pgrep -P "$nspawn_pid" | head -n 1) && [ -n "$leader" ] || return 1
  nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup --wdns=/ -- \
    env -i HOME=/root LANG=C.UTF-8 PATH=/checkout/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# machine_reboot: shut down in order, and boot. nspawn tells that it was asked to reboot by its code, 133.
machine_reboot() {
  local code=0
  inside systemctl --no-block reboot 2>/dev/null || true # the bus may be gone before it answers
  wait "$nspawn_pid" || code=$?
  [ $code -eq 133 ] || fail "the machine ended with $code where it should have rebooted" "its console: $(tail -n 5 "$work/console.log")"
  machine_boot
}

# machine_cut: end every process of the machine at once, as a power cut does.
machine_cut() {
  [ -n "$nspawn_pid" ] || return 0
  pkill -KILL -P "$nspawn_pid" || true
  wait "$nspawn_pid" || true
  nspawn_pid=
}

# machine_remove: leave nothing but the Debian tree.
machine_remove() {
  local c
  machine_cut
  for c in /sys/fs/cgroup/*; do machine_forget_cgroup "$c"; done
  umount "$work/net" "$work/root" 2>/dev/null || true
  rm -rf "$work"
}

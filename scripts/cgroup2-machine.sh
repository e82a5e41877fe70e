# A machine with cgroup v2 and systemd, whatever this one has: Debian's user-mode-linux kernel, which is a process, with the
# Debian tree of systemd-machine.sh on a disk image. It has one processor, no hugetlb, no cpuset and no nftables.
# Sourced, not run; the one who sources it is root in a mount namespace of its own.
#
# The kernel is in Debian's unstable suite alone and wants that suite's C library, so it runs in a root of its own.

uml_root=${CORACLE_UML_ROOT:-/var/cache/coracle/user-mode-linux}
uml_mirror=${CORACLE_UML_MIRROR:-http://deb.debian.org/debian}
uml_memory=${CORACLE_UML_MEMORY:-3G}

# uml_kernel: fetch and unpack the kernel. It needs a Debian mirror; what was fetched is kept.
uml_kernel() {
  [ ! -x "$uml_root/usr/bin/linux.uml" ] || return 0
  local apt=$work/apt making=$uml_root.making deb
  rm -rf "$making"
  mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,deb} "$making"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uml_mirror sid main" >"$apt/sources.list"
  touch "$apt/status"
  cat >"$apt/apt.conf" <<CONF
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
APT::Sandbox::User "root";
CONF
  (export APT_CONFIG=$apt/apt.conf && cd "$apt/deb" && apt-get update && apt-get download user-mode-linux libc6 libgcc-s1) >"$work/apt.log" 2>&1 ||
    fail "Debian's user-mode-linux could not be fetched from $uml_mirror" "see: $(tail -n 3 "$work/apt.log")"
  for deb in "$apt"/deb/*.deb; do dpkg-deb -x "$deb" "$making"; done
  ln -sf usr/lib "$making/lib"
  mkdir -p "$making/lib64" "$making"/{proc,sys,dev,tmp,root,machine,checkout}
  ln -sf ../usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$making/lib64/ld-linux-x86-64.so.2"
  mv "$making" "$uml_root"
}

# uml_image: the machine's disk: the Debian tree, the kernel's modules, and a unit that runs COMMAND and powers off.
uml_image() {
  local layer=$work/root release etc=$work/root/etc/systemd/system
  mkdir -p "$work"/{upper,layer,root}
  mount -t overlay overlay -o "lowerdir=$machine_root,upperdir=$work/upper,workdir=$work/layer" "$layer"
  release=$(basename "$uml_root"/usr/lib/uml/modules/*)
  mkdir -p "$layer/lib/modules" "$layer/checkout" "$layer/machine"
  cp -a "$uml_root/usr/lib/uml/modules/$release" "$layer/lib/modules/"
  ln -sf /usr/bin/busybox "$layer/sbin/modprobe"
  rm -f "$etc/multi-user.target.wants/"{docker-registry,containerd}.service
  cat >"$etc/checkout.service" <<UNIT
[Unit]
Description=Run what the host asks for, and power off
After=multi-user.target
[Service]
Type=oneshot
Delegate=yes
Environment=HOME=/root PATH=/checkout/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/bash -c 'mount -t hostfs none /checkout -o /checkout && mount -t hostfs none /machine -o /machine && cd /machine && { bash /machine/command >/machine/output 2>&1; echo \$\$? >/machine/code; }'
ExecStopPost=/usr/bin/systemctl --no-block poweroff
[Install]
WantedBy=multi-user.target
UNIT
  sed -i '/^After=/s/multi-user.target/basic.target network.target/' "$etc/checkout.service"
  mkdir -p "$etc/multi-user.target.wants"
  ln -sf ../checkout.service "$etc/multi-user.target.wants/"
  truncate -s 4G "$work/disk"
  mkfs.ext4 -q -F -d "$layer" "$work/disk"
  umount "$layer"
}

# uml_run SECONDS: boot the machine on a copy of its disk, have it run the script on stdin as root with the checkout at
# /checkout, and give the script's output and exit code.
uml_run() {
  local code pid
  mkdir -p "$work/machine"
  rm -f "$work/machine/"{code,output}
  cat >"$work/machine/command"
  cp --sparse=always "$work/disk" "$work/machine/disk"
  export work uml_root root uml_memory
  # In a mount namespace of its own, so that nothing is mounted there when it ends.
  # shellcheck disable=SC2016 # the inner shell expands
  unshare --mount --propagation private bash -ec '
    mount --bind "$work/machine" "$uml_root/machine"
    mount --bind "$root" "$uml_root/checkout"
    mount --rbind /proc "$uml_root/proc"
    mount --rbind /dev "$uml_root/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$uml_root/tmp"
    export HOME=/tmp
    exec timeout -k 5 "$1" chroot "$uml_root" /usr/bin/linux.uml mem="$uml_memory" seccomp=auto ubd0=/machine/disk \
      root=/dev/ubda rw con=null con0=fd:0,fd:1 systemd.unified_cgroup_hierarchy=1 hostname=coracle-uml' \
    uml "$1" </dev/null >"$work/machine/console" 2>&1 &
  pid=$!
  wait "$pid" || true
  cat "$work/machine/output" 2>/dev/null || true
  code=$(cat "$work/machine/code" 2>/dev/null) || fail "the machine did not end the script within $1 s" "its console: $(tail -n 5 "$work/machine/console" 2>/dev/null)"
  return "$code"
}

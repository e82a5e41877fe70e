package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"coracle/agent/cgroup"
	"coracle/agent/config"
	"coracle/agent/fact"
	"coracle/agent/link"
	"coracle/agent/proxy/nft"
)

// modulesFile is where a module is named that has to be loaded at boot.
const modulesFile = "/etc/modules-load.d/coracle.conf"

func root(context.Context, config.Config) Finding {
	if os.Geteuid() != 0 {
		return fail("permissions", fmt.Sprintf("running as user %d", os.Geteuid()), "run as root: namespaces, mounts and cgroups need it (sudo coracle-agent check)")
	}
	return ok("permissions", "root")
}

// kernel tries the youngest system call that the agent cannot do without.
func kernel(context.Context, config.Config) Finding {
	release := fact.Host{Root: "/"}.Kernel()
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return fail("kernel", release+": openat2: "+err.Error(), "boot Linux 5.6 or later (openat2 keeps volumes' subPaths inside their volume); under a container runtime's seccomp filter, allow openat2")
	}
	_ = unix.Close(fd) // opened to see that it can be
	for _, ns := range []string{"net", "ipc", "uts", "pid", "mnt"} {
		if _, err := os.Stat("/proc/self/ns/" + ns); err != nil {
			return fail("kernel", release+" has no "+ns+" namespaces", "use a kernel with CONFIG_NAMESPACES and CONFIG_"+strings.ToUpper(ns)+"_NS")
		}
	}
	return ok("kernel", "%s", release)
}

func overlay(_ context.Context, cfg config.Config) Finding {
	if s := cfg.Containerd.Snapshotter; s != "" && s != "overlayfs" {
		return ok("overlayfs", "not needed with snapshotter %s", s)
	}
	data, err := os.ReadFile("/proc/filesystems")
	if err == nil && strings.Contains(string(data), "\toverlay\n") {
		return ok("overlayfs", "present")
	}
	return warn("overlayfs", "the kernel has it not loaded; images are unpacked by copying, which is slow and large",
		"modprobe overlay, and add the line \"overlay\" to "+modulesFile+"; or build the kernel with CONFIG_OVERLAY_FS")
}

func cgroups(_ context.Context, cfg config.Config) Finding {
	c, err := cgroup.New(cgroup.Config{
		Root: cfg.CgroupRoot, Driver: cfg.CgroupDriver, PodPids: cfg.PodPidsLimit,
		ReserveMemory: cfg.Memory.Reservation == config.ReserveTiered, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return fail("cgroups", err.Error(),
			"on a Raspberry Pi add \"cgroup_enable=memory cgroup_memory=1\" to /boot/firmware/cmdline.txt, elsewhere to GRUB_CMDLINE_LINUX in /etc/default/grub and run update-grub; then reboot")
	}
	version, driver := "v1", "cgroupfs"
	if c.Unified() {
		version = "v2"
		data, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		have := strings.Fields(string(data))
		for _, need := range []string{"cpu", "memory", "pids"} {
			if err == nil && !contains(have, need) {
				return fail("cgroups", "v2 without the "+need+" controller (/sys/fs/cgroup/cgroup.controllers)",
					"add \"cgroup_enable="+need+"\" to the kernel's command line: /boot/firmware/cmdline.txt on a Raspberry Pi, /etc/default/grub elsewhere")
			}
		}
	}
	if c.Systemd() {
		driver = "systemd"
	}
	return ok("cgroups", "%s, driver %s", version, driver)
}

func links(context.Context, config.Config) Finding {
	if os.Geteuid() != 0 {
		return warn("links", "not tried", "run as root")
	}
	if err := link.Try(); err != nil {
		return fail("links", err.Error(), "modprobe bridge veth, and add the lines \"bridge\" and \"veth\" to "+modulesFile+"; or build the kernel with CONFIG_BRIDGE and CONFIG_VETH")
	}
	return ok("links", "bridge and veth work")
}

func firewall(context.Context, config.Config) Finding {
	if os.Geteuid() != 0 {
		return warn("nftables", "not tried", "run as root")
	}
	if err := nft.Try(); err != nil {
		return warn("nftables", err.Error(), "modprobe nf_tables nft_masq, and add both lines to "+modulesFile+" (CONFIG_NF_TABLES, CONFIG_NFT_MASQ); until then iptables is used for each pod, which is slower")
	}
	return ok("nftables", "masquerading works")
}

func bridgeFilter(context.Context, config.Config) Finding {
	const file = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return warn("br_netfilter", "not loaded; a pod cannot reach itself or its neighbour through a service on the same bridge",
			"modprobe br_netfilter, and add the line \"br_netfilter\" to "+modulesFile)
	}
	return ok("br_netfilter", "present")
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

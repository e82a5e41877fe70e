package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"coracle/agent/config"
	"coracle/agent/fact"
	"coracle/agent/identity"
)

// folders tries to write where the agent will.
func folders(_ context.Context, cfg config.Config) Finding {
	for field, dir := range map[string]string{"stateDir": cfg.StateDir, "rootDir": cfg.RootDir, "runDir": cfg.RunDir, "logDir": cfg.LogDir} {
		at := existing(dir)
		if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
			return fail("folders", fmt.Sprintf("%s: %s cannot be written: %v", field, at, err), "remount it read-write, or set "+field+" in "+config.DefaultFile)
		}
	}
	return ok("folders", "%s, %s, %s, %s can be written", cfg.StateDir, cfg.RootDir, cfg.RunDir, cfg.LogDir)
}

// existing is the nearest folder above path that is there; what is missing will be made in it.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == "/" {
			return path
		}
		path = filepath.Dir(path)
	}
}

func runDirInMemory(_ context.Context, cfg config.Config) Finding {
	var fs unix.Statfs_t
	if err := unix.Statfs(existing(cfg.RunDir), &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		return warn("run folder", cfg.RunDir+" is not on a tmpfs", "set runDir in "+config.DefaultFile+" to a folder below /run; on a disk it wears flash and outlives a reboot")
	}
	return ok("run folder", "%s is on a tmpfs", cfg.RunDir)
}

// Below these a node takes pods and then runs out.
const (
	leastDisk   = 1 << 30
	leastMemory = 256 << 20
)

func disk(_ context.Context, cfg config.Config) Finding {
	for field, dir := range map[string]string{"stateDir": cfg.StateDir, "rootDir": cfg.RootDir, "logDir": cfg.LogDir} {
		d, err := fact.ReadDisk(existing(dir))
		if err != nil {
			return warn("disk", err.Error(), "")
		}
		if d.Available < leastDisk {
			return warn("disk", fmt.Sprintf("%s has %d MiB free", dir, d.Available>>20), "free some space, or set "+field+" in "+config.DefaultFile+" to a larger file system")
		}
	}
	if m := (fact.Host{Root: "/"}).Memory(); m.Total < leastMemory {
		return warn("memory", fmt.Sprintf("%d MiB in all", m.Total>>20), "expect room for few pods")
	}
	return ok("disk", "enough is free")
}

// clock finds only what is surely wrong: no machine that runs this was set to the past by intent.
func clock(context.Context, config.Config) Finding {
	now := time.Now()
	if now.Year() < 2025 {
		return warn("clock", "says "+now.Format(time.RFC3339), "set it, or enable time synchronisation: timedatectl set-ntp true; pods run all the same, but joining checks certificates against it")
	}
	return ok("clock", "%s", now.Format(time.RFC3339))
}

func identityKnown(_ context.Context, cfg config.Config) Finding {
	id, err := identity.Load(cfg.IdentityDir(), slog.New(slog.DiscardHandler))
	if errors.Is(err, identity.ErrNotJoined) {
		return warn("identity", "this machine has not joined a cluster", "on the control plane run: coracle-controlplane token create; then here what it prints")
	}
	if err != nil {
		return fail("identity", err.Error(), "join again")
	}
	if cfg.NodeName != "" && cfg.NodeName != id.NodeName() {
		return fail("identity", fmt.Sprintf("joined as %s, but nodeName is %s", id.NodeName(), cfg.NodeName), "remove nodeName from "+config.DefaultFile+", or join again")
	}
	return ok("identity", "node %s, certificate until %s", id.NodeName(), id.NotAfter().Format(time.RFC3339))
}

func server(ctx context.Context, cfg config.Config) Finding {
	address, err := cfg.ServerAddress()
	if err != nil {
		return warn("server", "none is known yet", "it is remembered by coracle-agent join")
	}
	conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		mend := "start the control plane, or open the way to it in the firewall between; pods that are on the node run on without it"
		if strings.Contains(err.Error(), "no such host") {
			mend = "mend the name in server, or the resolver in /etc/resolv.conf"
		}
		return warn("server", err.Error(), mend)
	}
	_ = conn.Close() // opened to see that it can be
	return ok("server", "%s answers", address)
}

func logWriter(ctx context.Context, cfg config.Config) Finding {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", cfg.LogSocket())
	if err != nil {
		return warn("log writer", "does not answer at "+cfg.LogSocket(), "systemctl enable --now coracle-log-writer, or run: coracle-agent log-writer")
	}
	_ = conn.Close() // opened to see that it can be
	return ok("log writer", "running")
}

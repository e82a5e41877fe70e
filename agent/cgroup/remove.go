package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a group may stay busy with processes that were killed but not reaped.
const patience = 5 * time.Second

// removeTree removes a group and those in it, deepest first, and reports whether there was one.
func removeTree(ctx context.Context, dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if _, err := removeTree(ctx, filepath.Join(dir, e.Name())); err != nil {
			return true, err
		}
	}
	return true, removeGroup(ctx, dir)
}

// removeGroup removes one empty group, waiting while the kernel says it is busy.
func removeGroup(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pause := 2 * time.Millisecond
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("remove %s: %w%s", dir, err, residents(dir))
		}
		pause = min(pause*2, 200*time.Millisecond)
	}
}

// residents names the processes that keep a group busy.
func residents(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil || len(data) == 0 {
		return ""
	}
	return " (processes " + strings.Join(strings.Fields(string(data)), " ") + ")"
}

// RemoveTree removes the tree of all pods, and the configured root above it where that is then empty. It is for a
// machine that stops being a node: while a pod has a group left, that group's removal fails and is named.
func (c *Cgroups) RemoveTree(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	if c.systemd {
		if err := systemctl(ctx, "stop", c.slice("", "")); err != nil && !notLoaded(err) {
			errs = append(errs, fmt.Errorf("stop slice %s: %w", c.slice("", ""), err))
		}
	}
	for _, dir := range c.paths("", "") {
		if _, err := removeTree(ctx, dir); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroups: %w", err))
			continue
		}
		if !c.systemd && c.cfg.Root != "/" {
			_ = unix.Rmdir(filepath.Dir(dir)) // somebody else's groups may be in it: then it stays
		}
	}
	return errors.Join(errs...)
}

package server

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"coracle/controlplane/config"
)

// child runs the control plane whose configuration is in dir, for tests that kill the whole process.
func child(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "child.yaml"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cfg := config.Default()
	if err := config.Parse(text, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if err := cfg.Complete(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Run(ctx, cfg, testLog()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

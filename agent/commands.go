package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"coracle/agent/check"
	"coracle/agent/config"
	"coracle/agent/fact"
	"coracle/agent/identity"
	"coracle/agent/logwriter"
	"coracle/agent/node"
	"coracle/internal/fault"
	"coracle/internal/stderrlog"
)

func load(command string, args []string, extra func(*pflag.FlagSet)) (config.Config, error) {
	cfg, err := config.Load(command, args, extra)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		err = usageError{err}
	}
	return cfg, err
}

func runNode(ctx context.Context, args []string) error {
	cfg, err := load("run", args, nil)
	if err != nil {
		return err
	}
	level, err := cfg.Level()
	if err != nil {
		return usageError{err}
	}
	journal := node.NewJournal(slog.NewTextHandler(os.Stderr, stderrlog.Options(level)))
	log := slog.New(journal)
	n, err := node.New(cfg, log, journal)
	if errors.Is(err, identity.ErrNotJoined) || errors.Is(err, fault.ErrInvalid) {
		return usageError{err} // to be mended by a person: systemd is not to try again and again
	}
	if err != nil {
		return err
	}
	err = n.Run(ctx, func() {
		if err := node.Notify("READY=1"); err != nil {
			log.Warn("systemd is not told that the agent is ready", "err", err)
		}
	})
	return errors.Join(err, n.Close())
}

func join(ctx context.Context, args []string) error {
	var token, caHash string
	var wait time.Duration
	cfg, err := load("join", args, func(f *pflag.FlagSet) {
		f.StringVar(&token, "token", "", "join token, as coracle-controlplane token create prints it (or in CORACLE_TOKEN)")
		f.StringVar(&caHash, "ca-hash", "", "sha256:HEX of the cluster's CA, printed beside the token")
		f.DurationVar(&wait, "wait", 30*time.Second, "how long to try again while the server cannot be reached")
	})
	if err != nil {
		return err
	}
	if token == "" {
		token = os.Getenv("CORACLE_TOKEN") // command lines are seen by every user of the machine
	}
	for flag, value := range map[string]string{"--server": cfg.Server, "--token": token, "--ca-hash": caHash} {
		if value == "" {
			return usageError{fmt.Errorf("join needs %s; coracle-controlplane token create prints the whole command", flag)}
		}
	}
	name := cfg.NodeName
	if name == "" {
		if name, err = fact.Hostname(); err != nil {
			return usageError{fmt.Errorf("give --node-name, for the host name cannot be read: %w", err)}
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, stderrlog.Options(slog.LevelWarn)))
	id, err := joinPatiently(ctx, wait, identity.JoinConfig{
		Server: cfg.Server, Token: token, CAHash: caHash, NodeName: name, Dir: cfg.IdentityDir(), Log: log,
	})
	if errors.Is(err, fault.ErrInvalid) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if err := cfg.WriteServer(cfg.Server); err != nil {
		return err
	}
	fmt.Printf("joined as node %s; the certificate is good until %s and renews itself\n", id.NodeName(), id.NotAfter().Format(time.RFC3339))
	fmt.Println("next: systemctl enable --now coracle-log-writer coracle-agent (or run: coracle-agent log-writer, coracle-agent run)")
	return nil
}

// joinPatiently tries again while the server is away: on a machine that runs both, the control
// plane may be still starting.
func joinPatiently(ctx context.Context, wait time.Duration, c identity.JoinConfig) (*identity.Identity, error) {
	const between = time.Second
	until := time.Now().Add(wait)
	said := false
	for {
		id, err := identity.Join(ctx, c)
		if !errors.Is(err, fault.ErrUnavailable) || time.Now().Add(between).After(until) {
			return id, err
		}
		if !said {
			fmt.Fprintf(os.Stderr, "coracle-agent: %v; trying again for %s\n", err, wait)
			said = true
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(between):
		}
	}
}

func checkMachine(ctx context.Context, args []string) error {
	var effective bool
	cfg, err := load("check", args, func(f *pflag.FlagSet) {
		f.BoolVar(&effective, "print-config", false, "print the effective configuration and stop")
	})
	if err != nil {
		return err
	}
	if effective {
		data, err := cfg.YAML()
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(data)
		return err
	}
	found := check.Run(ctx, cfg)
	if err := check.Print(os.Stdout, found); err != nil {
		return err
	}
	if check.Failed(found) {
		return errSaid
	}
	return nil
}

func showStatus(ctx context.Context, args []string) error {
	var asJSON bool
	cfg, err := load("status", args, func(f *pflag.FlagSet) { f.BoolVar(&asJSON, "json", false, "print JSON") })
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := node.AskStatus(ctx, cfg.StatusSocket())
	if err != nil {
		return err
	}
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	return s.Print(os.Stdout, time.Now())
}

func writeLogs(ctx context.Context, args []string) error {
	cfg, err := load("log-writer", args, nil)
	if err != nil {
		return err
	}
	level, err := cfg.Level()
	if err != nil {
		return usageError{err}
	}
	maxBytes, err := cfg.LogMaxBytes()
	if err != nil {
		return usageError{err}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, stderrlog.Options(level)))
	w, err := logwriter.New(logwriter.Config{
		IODir: filepath.Join(cfg.RunDir, "io"), Socket: cfg.LogSocket(), MaxSize: maxBytes, MaxFiles: cfg.Logs.MaxFiles, Log: log,
	})
	if err != nil {
		return err
	}
	if err := node.Notify("READY=1"); err != nil {
		log.Warn("systemd is not told that the log writer is ready", "err", err)
	}
	return w.Run(ctx)
}

func reset(ctx context.Context, args []string) error {
	var yes bool
	cfg, err := load("reset", args, func(f *pflag.FlagSet) {
		f.BoolVar(&yes, "yes", false, "do it: all pods of this node are stopped and their local data is lost")
	})
	if err != nil {
		return err
	}
	if !yes {
		return usageError{errors.New("reset stops all pods of this node and removes their local data, the node's identity and what the agent made on this machine; say --yes if that is meant")}
	}
	return node.Reset(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, stderrlog.Options(slog.LevelInfo))))
}

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"coracle/controlplane/config"
	"coracle/controlplane/server"
	"coracle/internal/stderrlog"
)

func newServe() *cobra.Command {
	cfg := config.Default()
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane until SIGTERM or SIGINT",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Load(cmd.Flags(), cfg); err != nil {
				return usageError{err}
			}
			log := newLogger(cmd.ErrOrStderr(), cfg)
			slog.SetDefault(log)
			if err := config.SaveServed(cfg); err != nil {
				return err
			}
			return server.Run(cmd.Context(), cfg, log)
		},
	}
	config.Bind(cmd.Flags(), cfg)
	return cmd
}

func newCheck() *cobra.Command {
	cfg := config.Default()
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate flags and file, and print the configuration that serve would run with",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Load(cmd.Flags(), cfg); err != nil {
				return usageError{err}
			}
			if err := checkFiles(cfg); err != nil {
				return usageError{err}
			}
			text, err := cfg.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	config.Bind(cmd.Flags(), cfg)
	return cmd
}

// checkFiles looks at what the configuration names on disk, without making anything.
func checkFiles(cfg *config.Config) error {
	var errs []error
	for _, path := range []string{cfg.Etcd.CAFile, cfg.Etcd.CertFile, cfg.Etcd.KeyFile} {
		if path == "" {
			continue
		}
		if _, err := os.ReadFile(path); err != nil {
			errs = append(errs, fmt.Errorf("etcd: %w", err))
		}
	}
	st, err := os.Stat(cfg.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // serve makes it
	case err != nil:
		errs = append(errs, fmt.Errorf("dataDir: %w", err))
	case !st.IsDir():
		errs = append(errs, fmt.Errorf("dataDir: %s is not a directory", cfg.DataDir))
	}
	return errors.Join(errs...)
}

func newLogger(w io.Writer, cfg *config.Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // the name was validated; slog knows the same four
	}
	options := stderrlog.Options(level)
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"coracle/internal/atomicfile"
)

// servedFile is the record that the last serve left of its configuration, so that the token commands need no flags.
func servedFile(dataDir string) string { return filepath.Join(dataDir, "served.yaml") }

// SaveServed records c in its data directory. Nothing is written when the record says the same already.
func SaveServed(c *Config) error {
	text, err := c.YAML()
	if err != nil {
		return fmt.Errorf("render configuration: %w", err)
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	path := servedFile(c.DataDir)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, text) {
		return nil
	}
	return atomicfile.Write(path, text, 0o600)
}

// ServedGateway is the gateway's address as the last serve in dataDir advertised it.
func ServedGateway(dataDir string) (string, error) {
	c, err := readServed(dataDir)
	if err != nil {
		return "", err
	}
	return c.GatewayAddress(), nil
}

// ServedKubeconfig is where the last serve in dataDir wrote the admin kubeconfig; without a record, where it would have by
// default.
func ServedKubeconfig(dataDir string) string {
	if c, err := readServed(dataDir); err == nil && c.Kubeconfig != "" {
		return c.Kubeconfig
	}
	return filepath.Join(dataDir, "admin.kubeconfig")
}

func readServed(dataDir string) (*Config, error) {
	path := servedFile(dataDir)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no control plane was ever started with data directory %s", dataDir)
	}
	if err != nil {
		return nil, err
	}
	c := Default()
	if err := Parse(text, c); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return c, nil
}

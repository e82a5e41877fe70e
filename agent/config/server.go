package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// serverFile keeps what `join` was given, beside the identity that came of it.
func (c *Config) serverFile() string { return filepath.Join(c.IdentityDir(), "server") }

// WriteServer remembers the gateway that the machine joined at, for run.
func (c *Config) WriteServer(server string) error {
	if err := os.WriteFile(c.serverFile(), []byte(server+"\n"), 0o600); err != nil {
		return fmt.Errorf("remember the server: %w", err)
	}
	return nil
}

// ServerAddress is Server, else what WriteServer remembered. The error says what to do when there is neither.
func (c *Config) ServerAddress() (string, error) {
	if c.Server != "" {
		return c.Server, nil
	}
	data, err := os.ReadFile(c.serverFile())
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("no server is known: set server in the configuration, or run coracle-agent join again")
	}
	if err != nil {
		return "", fmt.Errorf("read the server: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

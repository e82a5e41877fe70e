package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What a service manager and scripts rely on.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("nodeNmae: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte("stateDir: "+dir+"/state\nrunDir: "+dir+"/run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The command's own words go to stderr; they are not what is looked at.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = null, null
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	for name, tc := range map[string]struct {
		args []string
		want int
	}{
		"nothing":            {nil, 2},
		"unknown command":    {[]string{"fly"}, 2},
		"help":               {[]string{"help"}, 0},
		"version":            {[]string{"version"}, 0},
		"help of a command":  {[]string{"run", "--help"}, 0},
		"unknown flag":       {[]string{"run", "--nope"}, 2},
		"unknown key":        {[]string{"run", "--config", bad}, 2},
		"not joined":         {[]string{"run", "--config", good}, 2},
		"join without token": {[]string{"join", "--config", good, "--server", "h:1"}, 2},
		"join, bad token":    {[]string{"join", "--config", good, "--server", "h:1", "--token", "x", "--ca-hash", "y", "--node-name", "n"}, 2},
		"no agent":           {[]string{"status", "--config", good}, 1},
		"effective config":   {[]string{"check", "--config", good, "--print-config"}, 0},
		"reset unconfirmed":  {[]string{"reset", "--config", good}, 2},
	} {
		if got := run(tc.args); got != tc.want {
			t.Errorf("%s: exit code %d, want %d", name, got, tc.want)
		}
	}
}

package check

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"coracle/agent/config"
)

func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{
		"1.6.20~ds1": true, "v2.1.0": true, "1.5.9": false, "0.9": false, "1.10.1": true, "unknown": true, "": true, "dev.x": true,
	} {
		if got := atLeast(version, 1, 6); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// On an empty machine every failure says what to do, and the file to edit where there is one.
func TestEmptyMachine(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Default()
	cfg.StateDir, cfg.RootDir, cfg.RunDir, cfg.LogDir = dir+"/s", dir+"/k", dir+"/r", dir+"/l"
	cfg.Containerd.Socket = dir + "/containerd.sock"
	cfg.CNI.BinDirs, cfg.CNI.ConfDir = []string{dir + "/bin"}, dir+"/net.d"
	cfg.Runtime = "crun"
	t.Setenv("PATH", dir)
	found := map[string]Finding{}
	for _, f := range Run(t.Context(), cfg) {
		if f.Name == "" || f.Found == "" || (f.Verdict == Failure && f.Mend == "") {
			t.Errorf("%+v says too little", f)
		}
		found[f.Name] = f
	}
	for name, want := range map[string]string{
		"containerd": "apt-get install containerd", "OCI runtime": "apt-get install crun", "CNI plugins": "containernetworking-plugins",
		"identity": "coracle-controlplane token create", "log writer": "coracle-log-writer", "iptables": "apt-get install iptables",
	} {
		if f := found[name]; f.Verdict == OK || !strings.Contains(f.Mend, want) {
			t.Errorf("%s: %+v, want advice with %q", name, f, want)
		}
	}
	if f := found["folders"]; f.Verdict != OK {
		t.Errorf("folders that can be made: %+v", f)
	}
	if f := found["CNI network"]; f.Verdict != OK || !strings.Contains(f.Found, cfg.CNI.ConfFile) {
		t.Errorf("an empty CNI folder: %+v", f)
	}
	// The check makes nothing.
	if left, _ := filepath.Glob(dir + "/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPrint(t *testing.T) {
	var b bytes.Buffer
	all := []Finding{ok("a", "fine"), warn("b", "so so", "do this"), fail("c", "bad", "do that")}
	if err := Print(&b, all); err != nil {
		t.Fatal(err)
	}
	want := "ok    a              fine\n" +
		"warn  b              so so\n                     → do this\n" +
		"FAIL  c              bad\n                     → do that\n"
	if b.String() != want {
		t.Errorf("printed\n%s", b.String())
	}
	if !Failed(all) || Failed(all[:2]) {
		t.Error("a warning is no failure, and a failure is")
	}
}

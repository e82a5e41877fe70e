package nft

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const insideEnv = "CORACLE_NFT_TEST_INSIDE"

// TestMain runs the tests in a network namespace of their own, whose ruleset goes with it.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case !errors.As(err, &exit):
		fmt.Fprintln(os.Stderr, "run the tests in a network namespace:", err)
	}
	os.Exit(1)
}

func ruleset(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is needed to read the rules, and it is not installed")
	}
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft list ruleset: %v: %s", err, out)
	}
	return string(out)
}

func TestMasquerade(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("changing firewall rules needs root")
	}
	m := Masquerade{Table: "coracle-test", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("fd00:1::/64")}}
	ensure := func(want bool) {
		t.Helper()
		if changed, err := m.Ensure(); err != nil || changed != want {
			t.Fatalf("changed %v, %v; want %v", changed, err, want)
		}
	}
	ensure(true)
	ensure(false)
	got := ruleset(t)
	for _, want := range []string{
		`ip saddr 10.244.3.0/24 ip daddr != 10.244.3.0/24 ip daddr != 224.0.0.0/4 masquerade comment "coracle v1 pods 10.244.3.0/24"`,
		`ip6 saddr fd00:1::/64 ip6 daddr != fd00:1::/64 ip6 daddr != ff00::/8 masquerade`,
		"type nat hook postrouting priority srcnat",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	// Somebody reloads the firewall.
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ensure(true)
	m.CIDRs = m.CIDRs[:1]
	m.CIDRs[0] = netip.MustParsePrefix("10.244.9.0/24")
	ensure(true)
	if got := ruleset(t); strings.Contains(got, "10.244.3.0") || strings.Contains(got, "fd00") || strings.Count(got, "masquerade") != 1 {
		t.Errorf("after a new pod CIDR\n%s", got)
	}
	for range 2 {
		if err := m.Remove(); err != nil {
			t.Fatal(err)
		}
	}
	if got := ruleset(t); strings.Contains(got, "coracle") {
		t.Errorf("left:\n%s", got)
	}
}

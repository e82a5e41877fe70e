package integration

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// nodePair is the agent's certificate and key.
func (c *cluster) nodePair() string { return filepath.Join(c.dir, "agent", "pki", "node.pem") }

// wear stops the agent, gives it another certificate for its own name, and starts it again.
func (s *space) wear(ca *authority, notAfter time.Time) {
	s.t.Helper()
	cert, key := ca.issue("node", &x509.Certificate{
		Subject:   pkix.Name{CommonName: "system:node:" + nodeName, Organization: []string{"system:nodes"}},
		NotBefore: notAfter.Add(-365 * 24 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	var pair []byte
	for _, file := range []string{key, cert} {
		b, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		pair = append(pair, b...)
	}
	s.agent.stop()
	if err := os.WriteFile(s.nodePair(), pair, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := s.agent.start(); err != nil {
		s.t.Fatal(err)
	}
}

// said waits until the agent has logged each of the texts since the log had this size.
func (s *space) said(since int64, texts ...string) {
	s.t.Helper()
	s.eventually(40*time.Second, func() error {
		b, err := os.ReadFile(s.agent.log)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !bytes.Contains(b[since:], []byte(text)) {
				return fmt.Errorf("the agent has not said %q:\n%s", text, b[since:])
			}
		}
		return nil
	})
}

func (s *space) logSize() int64 {
	s.t.Helper()
	info, err := os.Stat(s.agent.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Size()
}

// TestCertificates starts the agent with certificates that are foreign, expired, and expired long ago.
func TestCertificates(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("steady", sleeper))
	s.waitReady("steady")
	pid := s.containerPID(s.pod("steady"), "main")
	own := authorityOf(t, filepath.Join(s.dir, "controlplane"))
	rejoin := func() {
		s.agent.stop()
		if err := s.join(); err != nil {
			t.Fatal(err)
		}
		if err := s.agent.start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		ca      *authority
		end     time.Time
		refused string // what the agent says; empty: it gets in
	}{
		{"foreign", newAuthority(t, "coracle-ca"), time.Now().Add(time.Hour), "was not issued by this cluster"},
		{"expired long ago", own, time.Now().Add(-100 * 24 * time.Hour), "expired at"},
		{"expired", own, time.Now().Add(-time.Hour), ""},
	} {
		since := s.logSize()
		s.wear(c.ca, c.end)
		if c.refused == "" {
			// Proof of the key is enough within the grace time: the agent renews and goes on by itself.
			s.said(since, "certificate renewed", "session with the control plane begins")
		} else {
			s.said(since, "the server refuses this node's certificate", c.refused, "coracle-agent join")
			status, err := output(nil, "", binary("coracle-agent"), "status", "--config", filepath.Join(s.dir, "agent.yaml"))
			if err != nil || !strings.Contains(status, c.refused) {
				t.Errorf("with a certificate that is %s `coracle-agent status` says: %s (%v)", c.name, status, err)
			}
			if s.agent.exited() {
				t.Errorf("with a certificate that is %s the agent ended: its pods would not be looked after", c.name)
			}
			if got := s.containerPID(s.pod("steady"), "main"); got != pid {
				t.Errorf("with a certificate that is %s the container has PID %s, had %s", c.name, got, pid)
			}
			rejoin() // what the agent's words ask for
		}
		if err := s.waitNodeReady(60 * time.Second); err != nil {
			t.Fatalf("after a certificate that was %s: %v", c.name, err)
		}
		s.eventually(30*time.Second, func() error { _, err := s.kubectl("exec", "steady", "--", "true"); return err })
	}
	p := s.pod("steady")
	if got := s.containerPID(p, "main"); got != pid || p.Status.ContainerStatuses[0].RestartCount != 0 || ready(p).Status != corev1.ConditionTrue {
		t.Errorf("the container has PID %s, had %s; status %+v", got, pid, p.Status)
	}
}

// TestDamagedStore damages the agent's store while it is stopped: the next start moves the file aside, says so, and
// builds a new one from what runs; nothing that runs is touched.
func TestDamagedStore(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("steady", "if test -e /tmp/once/x; then "+sleeper+"; fi; touch /tmp/once/x; exit 1", "volumeMounts: [{name: once, mountPath: /tmp/once}]") + "\n  volumes: [{name: once, emptyDir: {}}]\n")
	// A pod that was restarted: the count is among what must be found again.
	s.waitPod("steady", 60*time.Second, func(p *pod) error {
		if ready(p).Status != corev1.ConditionTrue || p.Status.ContainerStatuses[0].RestartCount != 1 {
			return fmt.Errorf("not Ready after one restart: %+v", p.Status.ContainerStatuses)
		}
		return nil
	})
	pid := s.containerPID(s.pod("steady"), "main")
	file := filepath.Join(s.dir, "agent", "store.db")
	for name, damage := range map[string]func(b []byte) []byte{
		"flipped": func(b []byte) []byte {
			for i := 8192 + 7; i < len(b); i += 512 {
				b[i] ^= 0xff
			}
			return b
		},
		"without its first pages": func(b []byte) []byte { clear(b[:8192]); return b },
		"cut":                     func(b []byte) []byte { return b[:len(bytes.TrimRight(b, "\x00"))/2] },
		"rubbish":                 func(b []byte) []byte { return []byte("this is no store\n") },
	} {
		s.agent.kill()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, damage(b), 0o600); err != nil {
			t.Fatal(err)
		}
		since := s.logSize()
		if err := s.agent.start(); err != nil {
			t.Fatal(err)
		}
		s.said(since, "the store was damaged and has been moved aside", "session with the control plane begins")
		if err := s.waitNodeReady(60 * time.Second); err != nil {
			t.Fatalf("with a store that is %s: %v", name, err)
		}
		s.eventually(30*time.Second, func() error { _, err := s.kubectl("exec", "steady", "--", "true"); return err })
		p := s.pod("steady")
		if got := s.containerPID(p, "main"); got != pid {
			t.Errorf("with a store that is %s the container has PID %s, had %s", name, got, pid)
		}
		if cs := p.Status.ContainerStatuses[0]; cs.RestartCount != 1 || ready(p).Status != corev1.ConditionTrue {
			t.Errorf("with a store that is %s the pod's status is %+v", name, p.Status)
		}
	}
	aside, err := filepath.Glob(file + ".corrupt-*")
	if err != nil || len(aside) == 0 {
		t.Errorf("nothing was moved aside: %v %v", aside, err)
	}
	s.apply(s.busybox("after", sleeper))
	s.waitReady("after")
	s.do("delete", "pod", "steady", "after", "--timeout=60s")
}

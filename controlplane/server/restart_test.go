package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/config"
	"coracle/internal/testport"
	"coracle/internal/testwait"
)

// spawn runs a control plane as a process of its own.
func spawn(t *testing.T, cfg *config.Config) (*cluster, *exec.Cmd) {
	t.Helper()
	text, err := cfg.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "child.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "CORACLE_TEST_CHILD="+cfg.DataDir)
	cmd.Stderr = os.Stderr
	// Should the test die, so does the child.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	c := &cluster{cfg: cfg}
	if err := c.connect(done); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal(err)
	}
	return c, cmd
}

// TestKilledProcessKeepsWhatItAcknowledged kills the control plane while clients write, and compares what they were told
// with what the next process serves.
func TestKilledProcessKeepsWhatItAcknowledged(t *testing.T) {
	cfg, err := testConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, cmd := spawn(t, cfg)
	var mu sync.Mutex
	acknowledged := map[string]string{} // service → its address
	enough := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				s, err := c.client.CoreV1().Services("default").Create(t.Context(), newService(fmt.Sprintf("s%d-%d", w, i), ofType(corev1.ServiceTypeNodePort)), metav1.CreateOptions{})
				if err != nil {
					return
				}
				mu.Lock()
				acknowledged[s.Name] = s.Spec.ClusterIP
				if len(acknowledged) == 40 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	testwait.Receive(t, "forty services are acknowledged", enough)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	testwait.End(t, "the writers", writers.Wait)

	c, cmd = spawn(t, cfg)
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("end of the second process: %v", err)
		}
	}()
	list, err := c.client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	served, owners, ports := map[string]string{}, map[string]string{}, map[int32]string{}
	for _, s := range list.Items {
		served[s.Name] = s.Spec.ClusterIP
		if other := owners[s.Spec.ClusterIP]; other != "" {
			t.Errorf("%s has the address of %s: %s", s.Name, other, s.Spec.ClusterIP)
		}
		owners[s.Spec.ClusterIP] = s.Name
		for _, p := range s.Spec.Ports {
			if other := ports[p.NodePort]; p.NodePort != 0 && other != "" {
				t.Errorf("%s has the node port of %s: %d", s.Name, other, p.NodePort)
			}
			ports[p.NodePort] = s.Name
		}
	}
	for name, ip := range acknowledged {
		if served[name] != ip {
			t.Errorf("%s was acknowledged with %s and is served with %q", name, ip, served[name])
		}
	}
	fresh, err := c.client.CoreV1().Services("default").Create(t.Context(), newService("fresh", ofType(corev1.ServiceTypeNodePort)), metav1.CreateOptions{})
	if err != nil || owners[fresh.Spec.ClusterIP] != "" || ports[fresh.Spec.Ports[0].NodePort] != "" {
		t.Errorf("a new service got something used: %v %v", fresh, err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	c, _ := use(t)
	cfg := *c.cfg
	ports, err := testport.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	cfg.SecurePort = ports[0]
	if err := Run(t.Context(), &cfg, testLog()); err == nil {
		t.Fatal("two processes serve from one data folder")
	}
	other, err := testConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other.SecurePort = c.cfg.SecurePort
	if err := Run(t.Context(), other, testLog()); err == nil {
		t.Fatal("two processes serve on one port")
	}
}

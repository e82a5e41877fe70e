package server

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"coracle/controlplane/etcd"
	"coracle/internal/liveness"
	"coracle/internal/testwait"
)

// TestTwoControlPlanesShareOneEtcd runs two on one external etcd: both serve and allocate, one leads, and the other takes
// over.
func TestTwoControlPlanesShareOneEtcd(t *testing.T) {
	store, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), Log: testLog()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	planes := make([]*cluster, 2)
	var dirs []string
	for i := range planes {
		cfg, err := testConfig(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		cfg.Name = fmt.Sprintf("plane-%d", i)
		cfg.Etcd.Endpoints = store.Endpoints()
		dirs = append(dirs, cfg.DataDir)
		if i > 0 {
			// All control planes of a cluster have the same authority and keys.
			if out, err := exec.Command("cp", "-a", filepath.Join(dirs[0], "pki"), dirs[i]).CombinedOutput(); err != nil {
				t.Fatalf("copy keys: %v %s", err, out)
			}
			for _, leaf := range []string{"apiserver.pem", "gateway.pem"} {
				os.Remove(filepath.Join(dirs[i], "pki", leaf))
			}
		}
		if planes[i], err = boot(cfg); err != nil {
			t.Fatal(err)
		}
		defer planes[i].stop()
	}
	seen := concurrentServices(t, planes)
	if len(seen) != 20 {
		t.Errorf("20 services have %d addresses", len(seen))
	}
	first := leader(t, planes[0], "")
	if err := planes[index(first)].stop(); err != nil {
		t.Fatalf("stop the leader: %v", err)
	}
	rest := planes[1-index(first)]
	leader(t, rest, first)
	// The controllers run where the lease is now.
	labels := map[string]string{"app": "x"}
	_, err = rest.client.AppsV1().ReplicaSets("default").Create(t.Context(), &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "rs"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: newPod("", "").Spec},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica set gets its pod", func() error {
		list, err := rest.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "app=x"})
		if err == nil && len(list.Items) != 1 {
			err = fmt.Errorf("%d pods", len(list.Items))
		}
		return err
	})
}

func index(name string) int {
	if name == "plane-1" {
		return 1
	}
	return 0
}

// leader waits for a holder of the lease that is not the given one.
func leader(t *testing.T, c *cluster, not string) string {
	t.Helper()
	holder := ""
	eventually(t, "somebody leads", func() error {
		lease, err := c.client.CoordinationV1().Leases("kube-system").Get(t.Context(), leaseName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		holder = ptr.Deref(lease.Spec.HolderIdentity, "")
		if holder == "" || holder == not {
			return fmt.Errorf("held by %q", holder)
		}
		return nil
	})
	return holder
}

// concurrentServices makes ten services at each control plane at the same time and returns their addresses.
func concurrentServices(t *testing.T, planes []*cluster) map[string]bool {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]bool{}
	ports := map[int32]bool{}
	var writers sync.WaitGroup
	for p, c := range planes {
		for i := range 10 {
			writers.Go(func() {
				s, err := c.client.CoreV1().Services("default").Create(t.Context(), newService(fmt.Sprintf("s%d-%d", p, i), ofType(corev1.ServiceTypeNodePort)), metav1.CreateOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if ports[s.Spec.Ports[0].NodePort] {
					t.Errorf("node port %d was given twice", s.Spec.Ports[0].NodePort)
				}
				seen[s.Spec.ClusterIP], ports[s.Spec.Ports[0].NodePort] = true, true
			})
		}
	}
	testwait.End(t, "the writers", writers.Wait)
	return seen
}

func TestAPIAddresses(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lease := func(name, address string, age time.Duration) coordinationv1.Lease {
		return coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{addressAnnotation: address}},
			Spec:       coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: now.Add(-age)}},
		}
	}
	got := apiAddresses("10.0.0.9", []coordinationv1.Lease{
		lease(liveness.GatewayLeaseName("a"), "10.0.0.1:6444", time.Second),
		lease(liveness.GatewayLeaseName("b"), "10.0.0.2:6444", time.Hour),
		lease(liveness.GatewayLeaseName("c"), "rubbish", time.Second),
		lease("other", "10.0.0.3:6444", time.Second),
	}, now)
	if fmt.Sprint(got) != "[10.0.0.1 10.0.0.9]" {
		t.Errorf("got %v", got)
	}
}

func TestMemoryLimitFollowsTheHeap(t *testing.T) {
	for live, want := range map[uint64]int64{0: 80 << 20, 20 << 20: 80 << 20, 100 << 20: 180 << 20} {
		if got := memoryLimit(live); got != want {
			t.Errorf("%d MB live: limit %d MB, want %d MB", live>>20, got>>20, want>>20)
		}
	}
}

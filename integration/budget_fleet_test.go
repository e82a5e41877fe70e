package integration

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestBudgetFleet holds what 100 nodes cost a control plane that is theirs alone, idle and with 1,000 pods. The nodes are
// sessions in this process: the control plane sees real joins, real connections and real reports.
func TestBudgetFleet(t *testing.T) {
	const nodes, deployments, replicas = 100, 5, 200
	c := newPlane(t, "fleet")
	c.serve(t)
	f := startFleet(t, c, "sim", nodes)
	waitNodesReady(t, c, nodes)
	within(t, "control plane, private memory with 100 nodes", idleMB(t, c.control.pid(), 90), 90, "MB")

	began := time.Now()
	for i := range deployments {
		d := plainDeployment(fmt.Sprintf("d%d", i), replicas)
		if _, err := c.client(t).AppsV1().Deployments("default").Create(context.Background(), d, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := eventually(4*time.Minute, func() error {
		list, err := c.client(t).AppsV1().Deployments("default").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		available := 0
		for _, d := range list.Items {
			available += int(d.Status.AvailableReplicas)
		}
		if waiting := f.unacknowledged(); available < deployments*replicas || waiting > 0 {
			return fmt.Errorf("%d of %d pods are available, %d reports wait to be acknowledged", available, deployments*replicas, waiting)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pods on %d nodes, from the first Deployment to all available: %.1f s", deployments*replicas, nodes, time.Since(began).Seconds())
	spreadEvenly(t, c, nodes)
	within(t, "control plane, private memory with 1,000 pods", idleMB(t, c.control.pid(), 200), 200, "MB")
	fleetAtRest(t, c, "100 nodes and 1,000 pods")
}

func plainDeployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: plainPod(name, "registry.example/app:1").Spec},
		},
	}
}

func waitNodesReady(t testing.TB, c *cluster, n int) {
	t.Helper()
	if err := eventually(60*time.Second, func() error {
		list, err := c.client(t).CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, node := range list.Items {
			for _, cond := range node.Status.Conditions {
				if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue && len(node.Spec.Taints) == 0 {
					ready++
				}
			}
		}
		if ready != n {
			return fmt.Errorf("%d of %d nodes are Ready and without taints", ready, n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// spreadEvenly wants no node to have several times what the others have.
func spreadEvenly(t *testing.T, c *cluster, nodes int) {
	t.Helper()
	list, err := c.client(t).CoreV1().Pods("default").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, p := range list.Items {
		count[p.Spec.NodeName]++
	}
	for node, n := range count {
		if n > 2*len(list.Items)/nodes {
			t.Errorf("node %s has %d of %d pods", node, n, len(list.Items))
		}
	}
	if len(count) != nodes {
		t.Errorf("%d of %d nodes have pods", len(count), nodes)
	}
}

// fleetAtRest measures, over a minute in which nobody asks for anything, the control plane's CPU and its writes to etcd:
// each write raises etcd's revision by one, and the revision is the resourceVersion of a list.
func fleetAtRest(t *testing.T, c *cluster, with string) {
	t.Helper()
	revision := func() int64 {
		list, err := c.client(t).CoreV1().ConfigMaps("kube-public").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(list.ResourceVersion, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	began := time.Now()
	if err := eventually(2*time.Minute, func() error { // the events of the start are written after it, one by one
		const look = 5 * time.Second
		before := revision()
		waitFor(look)
		if n := revision() - before; n > 2 {
			return fmt.Errorf("%d writes to etcd in %s: not at rest", n, look)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("at rest %.0f s after the last pod was available", time.Since(began).Seconds())
	// Of several minutes the best counts, as in rest.
	const span, cpuBudget, writeBudget = 60 * time.Second, 0.05, 10
	cpu, writes := math.Inf(1), math.Inf(1)
	for try := 0; try < 3 && (cpu > cpuBudget || writes > writeBudget); try++ {
		before, used := revision(), cpuSeconds(t, c.control.pid())
		waitFor(span)
		cpu = min(cpu, (cpuSeconds(t, c.control.pid())-used)/span.Seconds())
		writes = min(writes, float64(revision()-before))
	}
	within(t, "control plane, CPU at rest with "+with, cpu, cpuBudget, "of a core")
	within(t, "writes to etcd a minute at rest with "+with, writes, writeBudget, "")
	within(t, "control plane, private memory with "+with, idleMB(t, c.control.pid(), 200), 200, "MB")
}

// waitFor lets a span of time pass over which something is measured.
func waitFor(span time.Duration) {
	window := time.NewTimer(span)
	<-window.C
}

package nodelifecycle

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/ptr"

	"coracle/controlplane/controller/loop"
	"coracle/controlplane/controller/podview"
	"coracle/internal/liveness"
)

// pass lets the bubble's time pass, which takes none.
func pass(d time.Duration) { <-time.After(d) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gateway renews its lease as gateways do, for so long.
func gateway(t *testing.T, c *fake.Clientset, name string, long time.Duration) {
	t.Helper()
	api := c.CoordinationV1().Leases(liveness.GatewayLeaseNamespace)
	for range int(long / liveness.GatewayRenewInterval) {
		l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: liveness.GatewayLeaseName(name), Namespace: liveness.GatewayLeaseNamespace}}
		l.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
		if _, err := api.Update(t.Context(), l, metav1.UpdateOptions{}); err != nil {
			_, err = api.Create(t.Context(), l, metav1.CreateOptions{})
			must(t, err)
		}
		pass(liveness.GatewayRenewInterval)
	}
}

// The life of a node as gateways tell it: it stays ready while its session lives, is lost once it ended, its pod is
// taken out of service and evicted in its time; and it comes back clean.
func TestLossAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := func(name string) *coordinationv1.Lease {
			return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: liveness.NodeLeaseNamespace}, Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("g")}}
		}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "p"},
			Spec: corev1.PodSpec{NodeName: "a", Tolerations: []corev1.Toleration{{
				Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, TolerationSeconds: ptr.To(int64(300)),
			}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}
		c := fake.NewClientset(newNode("a", corev1.ConditionTrue), newNode("b", corev1.ConditionTrue), held("a"), held("b"), pod)
		factory := informers.NewSharedInformerFactory(c, 0)
		nodes, err := New(loop.Env{
			Client: c, Informers: factory, Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Recorder: func(string) record.EventRecorder { return record.NewFakeRecorder(100) },
		})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		factory.Start(ctx.Done())
		done := make(chan error, 1)
		go func() { done <- nodes.Run(ctx) }()
		get := func() *corev1.Node {
			t.Helper()
			synctest.Wait()
			n, err := c.CoreV1().Nodes().Get(t.Context(), "a", metav1.GetOptions{})
			must(t, err)
			return n
		}

		gateway(t, c, "g", time.Hour)
		if n := get(); !isTrue(n, corev1.NodeReady) || len(n.Spec.Taints) != 0 {
			t.Fatalf("after an hour of a living session: %+v %+v", n.Status.Conditions, n.Spec.Taints)
		}

		ended := held("a")
		ended.Annotations = map[string]string{liveness.SessionEndedAnnotation: time.Now().Format(time.RFC3339)}
		_, err = c.CoordinationV1().Leases(liveness.NodeLeaseNamespace).Update(t.Context(), ended, metav1.UpdateOptions{})
		must(t, err)
		gateway(t, c, "g", 30*time.Second)
		if n := get(); !isTrue(n, corev1.NodeReady) {
			t.Fatal("lost before the grace time was over")
		}
		gateway(t, c, "g", 20*time.Second)
		n := get()
		if ready := condition(n, corev1.NodeReady); ready.Status != corev1.ConditionUnknown || len(n.Spec.Taints) != 2 {
			t.Fatalf("after the grace time: %+v %+v", ready, n.Spec.Taints)
		}
		p, err := c.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{})
		must(t, err)
		if podview.Ready(p) {
			t.Error("the pod of a lost node counts as ready")
		}
		gateway(t, c, "g", 4*time.Minute)
		if _, err := c.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{}); err != nil {
			t.Fatal("evicted before its time")
		}
		gateway(t, c, "g", 2*time.Minute)
		if _, err := c.CoreV1().Pods("default").Get(t.Context(), "p", metav1.GetOptions{}); err == nil {
			t.Error("not evicted")
		}

		_, err = c.CoordinationV1().Leases(liveness.NodeLeaseNamespace).Update(t.Context(), held("a"), metav1.UpdateOptions{})
		must(t, err)
		n = get()
		n.Status = newNode("a", corev1.ConditionTrue).Status // the agent reports
		_, err = c.CoreV1().Nodes().UpdateStatus(t.Context(), n, metav1.UpdateOptions{})
		must(t, err)
		gateway(t, c, "g", 10*time.Second)
		if n := get(); !isTrue(n, corev1.NodeReady) || len(n.Spec.Taints) != 0 {
			t.Errorf("after it is back: %+v %+v", n.Status.Conditions, n.Spec.Taints)
		}
		cancel()
		must(t, <-done)
		factory.Shutdown()
	})
}

// told empties what a fake recorder holds.
func told(events chan string) []string {
	var out []string
	for {
		select {
		case e := <-events:
			out = append(out, e)
		default:
			return out
		}
	}
}

func TestNodesAreToldOf(t *testing.T) {
	events := record.NewFakeRecorder(100)
	c := &Controller{recorder: events, known: map[string]types.UID{}}
	state := func(name, uid string) State {
		return State{Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)}}}
	}
	registered := func(name string) string {
		return "Normal RegisteredNode Node " + name + " event: Registered Node " + name + " in Controller"
	}
	removing := func(name string) string {
		return "Normal RemovingNode Node " + name + " event: Removing Node " + name + " from Controller"
	}
	for _, step := range []struct {
		states []State
		want   []string
	}{
		{[]State{state("a", "1"), state("b", "1")}, []string{registered("a"), registered("b")}},
		{[]State{state("a", "1"), state("b", "1")}, nil},
		{[]State{state("a", "2"), state("b", "1")}, []string{removing("a"), registered("a")}},
		{[]State{state("a", "2")}, []string{removing("b")}},
	} {
		c.tellOfChanges(step.states)
		if got := told(events.Events); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(step.want))) {
			t.Errorf("told %v, want %v", got, step.want)
		}
	}
}

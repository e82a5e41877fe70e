package server

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

func newPod(ns, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: corev1.PodSpec{
			// Somebody else's scheduler: the one that runs here leaves it alone.
			SchedulerName: "nobody",
			Containers:    []corev1.Container{{Name: "c", Image: "i"}},
		},
	}
}

func (c *cluster) pod(t *testing.T, ns, name string) *corev1.Pod {
	t.Helper()
	p, err := c.client.CoreV1().Pods(ns).Create(t.Context(), newPod(ns, name), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// bind assigns a pod to a node that does not exist: nothing runs it, so nothing finishes its deletion.
func (c *cluster) bind(t *testing.T, ns, name, node string) {
	t.Helper()
	err := c.client.CoreV1().Pods(ns).Bind(t.Context(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) node(t *testing.T, name string) {
	t.Helper()
	_, err := c.client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

func TestBindingHappensOnce(t *testing.T) {
	c, ns := use(t)
	c.node(t, "n1")
	p := c.pod(t, ns, "p")
	c.bind(t, ns, "p", "n1")
	got, err := c.client.CoreV1().Pods(ns).Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || got.Spec.NodeName != "n1" || got.Generation != p.Generation {
		t.Fatalf("after binding: %v %v", got, err)
	}
	if cond := got.Status.Conditions; len(cond) != 1 || cond[0].Type != corev1.PodScheduled || cond[0].Status != corev1.ConditionTrue {
		t.Errorf("conditions: %v", cond)
	}
	again := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: ns}, Target: corev1.ObjectReference{Kind: "Node", Name: "n2"}}
	err = c.client.CoreV1().Pods(ns).Bind(t.Context(), again, metav1.CreateOptions{})
	wantStatus(t, err, 409, `already assigned to node "n1"`)
	// A uid that is not the pod's is a conflict; the older path binds too.
	c.pod(t, ns, "q")
	again.Name, again.UID = "q", "00000000-0000-0000-0000-000000000000"
	err = c.client.CoreV1().Pods(ns).Bind(t.Context(), again, metav1.CreateOptions{})
	wantStatus(t, err, 409, "UID")
	again.UID = ""
	if err := c.client.CoreV1().RESTClient().Post().Namespace(ns).Resource("bindings").Body(again).Do(t.Context()).Error(); err != nil {
		t.Fatalf("bindings: %v", err)
	}
}

func TestPodDeletionIsGraceful(t *testing.T) {
	c, ns := use(t)
	c.node(t, "n1")
	pods := c.client.CoreV1().Pods(ns)
	c.pod(t, ns, "waiting")
	if err := pods.Delete(t.Context(), "waiting", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "waiting", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("a pod that no node has goes at once: %v", err)
	}
	c.pod(t, ns, "running")
	c.bind(t, ns, "running", "n1")
	before := time.Now()
	if err := pods.Delete(t.Context(), "running", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := pods.Get(t.Context(), "running", metav1.GetOptions{})
	if err != nil || got.DeletionTimestamp == nil || *got.DeletionGracePeriodSeconds != 30 || got.Generation != 2 {
		t.Fatalf("a pod on a node is marked: %v %v", got, err)
	}
	if d := got.DeletionTimestamp.Sub(before); d < 28*time.Second || d > 35*time.Second {
		t.Errorf("deletionTimestamp is %s from now, want 30 s", d)
	}
	// A shorter period wins, a longer one does not.
	if err := pods.Delete(t.Context(), "running", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](60)}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), "running", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](5)}); err != nil {
		t.Fatal(err)
	}
	got, err = pods.Get(t.Context(), "running", metav1.GetOptions{})
	if err != nil || *got.DeletionGracePeriodSeconds != 5 {
		t.Fatalf("after a shorter period: %v %v", got, err)
	}
	// The node's last word.
	if err := pods.Delete(t.Context(), "running", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &got.UID}}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Get(t.Context(), "running", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("still there: %v", err)
	}
}

func TestStatusAndSpecHaveOneWriterEach(t *testing.T) {
	c, ns := use(t)
	pods := c.client.CoreV1().Pods(ns)
	p := c.pod(t, ns, "p")
	p.Status.Phase = corev1.PodRunning
	p.Labels = map[string]string{"a": "b"}
	p, err := pods.Update(t.Context(), p, metav1.UpdateOptions{})
	if err != nil || p.Status.Phase != corev1.PodPending || p.Labels["a"] != "b" {
		t.Fatalf("update wrote status: %v %v", p, err)
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.2.3", HostIP: "10.0.0.1"}
	p.Spec.Containers[0].Image = "other"
	p, err = pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
	if err != nil || p.Status.Phase != corev1.PodRunning || p.Spec.Containers[0].Image != "i" {
		t.Fatalf("status update: %v %v", p, err)
	}
	if len(p.Status.PodIPs) != 1 || p.Status.PodIPs[0].IP != "10.1.2.3" || p.Status.QOSClass != corev1.PodQOSBestEffort {
		t.Errorf("status: %+v", p.Status)
	}
	p.Spec.Containers[0].Image = "j"
	if p, err = pods.Update(t.Context(), p, metav1.UpdateOptions{}); err != nil || p.Generation != 2 || p.Status.Phase != corev1.PodRunning {
		t.Fatalf("image change: %v %v", p, err)
	}
	p.Spec.Containers[0].Command = []string{"x"}
	_, err = pods.Update(t.Context(), p, metav1.UpdateOptions{})
	wantStatus(t, err, 422, "pod updates may not change fields other than")
}

func TestEphemeralContainersAndResize(t *testing.T) {
	c, ns := use(t)
	pods := c.client.CoreV1().Pods(ns)
	c.pod(t, ns, "p")
	got, err := pods.Patch(t.Context(), "p", types.StrategicMergePatchType,
		[]byte(`{"spec":{"ephemeralContainers":[{"name":"debug","image":"d","targetContainerName":"c"}]},"metadata":{"labels":{"no":"no"}}}`),
		metav1.PatchOptions{}, "ephemeralcontainers")
	if err != nil || len(got.Spec.EphemeralContainers) != 1 || got.Labels["no"] != "" || got.Generation != 2 {
		t.Fatalf("ephemeral: %+v %v", got, err)
	}
	_, err = pods.Patch(t.Context(), "p", types.StrategicMergePatchType,
		[]byte(`{"spec":{"ephemeralContainers":[{"name":"debug","image":"other"}]}}`), metav1.PatchOptions{}, "ephemeralcontainers")
	wantStatus(t, err, 422, "spec.ephemeralContainers")

	sized := newPod(ns, "sized")
	sized.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: quantity("100m")}
	if _, err := pods.Create(t.Context(), sized, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err = pods.Patch(t.Context(), "sized", types.StrategicMergePatchType,
		[]byte(`{"spec":{"containers":[{"name":"c","image":"ignored","resources":{"requests":{"cpu":"200m"}}}]}}`), metav1.PatchOptions{}, "resize")
	if err != nil {
		t.Fatal(err)
	}
	if cpu := got.Spec.Containers[0].Resources.Requests.Cpu().String(); cpu != "200m" || got.Spec.Containers[0].Image != "i" || got.Generation != 2 {
		t.Errorf("resize: cpu %s, image %s, generation %d", cpu, got.Spec.Containers[0].Image, got.Generation)
	}
}

func TestEviction(t *testing.T) {
	c, ns := use(t)
	c.node(t, "n1")
	pods := c.client.CoreV1().Pods(ns)
	c.pod(t, ns, "p")
	c.bind(t, ns, "p", "n1")
	evict := func(name string, options *metav1.DeleteOptions) error {
		return pods.EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns}, DeleteOptions: options})
	}
	if err := evict("p", &metav1.DeleteOptions{DryRun: []string{"All"}}); err != nil {
		t.Fatal(err)
	}
	if got, err := pods.Get(t.Context(), "p", metav1.GetOptions{}); err != nil || got.DeletionTimestamp != nil {
		t.Fatalf("a dry run evicted: %v %v", got, err)
	}
	if err := evict("p", nil); err != nil {
		t.Fatal(err)
	}
	got, err := pods.Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil || got.DeletionTimestamp == nil {
		t.Fatalf("not evicted: %v %v", got, err)
	}
	found := false
	for _, cond := range got.Status.Conditions {
		found = found || cond.Type == corev1.DisruptionTarget && cond.Reason == "EvictionByEvictionAPI"
	}
	if !found {
		t.Errorf("conditions: %v", got.Status.Conditions)
	}
	if err := evict("nobody", nil); !apierrors.IsNotFound(err) {
		t.Errorf("eviction of nobody: %v", err)
	}
}

func TestFieldSelectors(t *testing.T) {
	c, ns := use(t)
	c.node(t, "n1")
	for i := range 3 {
		c.pod(t, ns, fmt.Sprintf("p%d", i))
	}
	c.bind(t, ns, "p1", "n1")
	pods := c.client.CoreV1().Pods(ns)
	for selector, want := range map[string]int{
		"spec.nodeName=n1": 1, "spec.nodeName=": 2, "spec.nodeName!=n1": 2, "status.phase=Pending": 3, "status.phase=Running": 0,
		"metadata.name=p2": 1, "spec.schedulerName=nobody,spec.nodeName=n1": 1, "spec.restartPolicy=Always": 3,
	} {
		list, err := pods.List(t.Context(), metav1.ListOptions{FieldSelector: selector})
		if err != nil || len(list.Items) != want {
			t.Errorf("%s: %d pods, want %d (%v)", selector, len(list.Items), want, err)
		}
		// The watch cache answers the same.
		list, err = pods.List(t.Context(), metav1.ListOptions{FieldSelector: selector, ResourceVersion: "0"})
		if err != nil || len(list.Items) > want {
			t.Errorf("%s from the cache: %d pods, want %d (%v)", selector, len(list.Items), want, err)
		}
	}
	_, err := pods.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.color=blue"})
	wantStatus(t, err, 400, "field label not supported: spec.color")
	secrets := c.client.CoreV1().Secrets(ns)
	if _, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Type: "x.example/y"}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if list, err := secrets.List(t.Context(), metav1.ListOptions{FieldSelector: "type=x.example/y"}); err != nil || len(list.Items) != 1 {
		t.Errorf("secrets by type: %v %v", list, err)
	}
}

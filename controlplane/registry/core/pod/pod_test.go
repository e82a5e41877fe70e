package pod

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func list(pairs ...string) corev1.ResourceList {
	out := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return out
}

func withResources(rs ...corev1.ResourceRequirements) *corev1.Pod {
	p := &corev1.Pod{}
	for _, r := range rs {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: r})
	}
	return p
}

func TestQOS(t *testing.T) {
	full := corev1.ResourceRequirements{Limits: list("cpu", "1", "memory", "1Gi"), Requests: list("cpu", "1", "memory", "1Gi")}
	level := withResources(corev1.ResourceRequirements{})
	level.Spec.Resources = &full
	zero := withResources(corev1.ResourceRequirements{Requests: list("cpu", "0")})
	withInit := withResources(full)
	withInit.Spec.InitContainers = []corev1.Container{{}}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want corev1.PodQOSClass
	}{
		"nothing":            {withResources(corev1.ResourceRequirements{}), corev1.PodQOSBestEffort},
		"zero":               {zero, corev1.PodQOSBestEffort},
		"other resources":    {withResources(corev1.ResourceRequirements{Limits: list("ephemeral-storage", "1Gi")}), corev1.PodQOSBestEffort},
		"all":                {withResources(full, full), corev1.PodQOSGuaranteed},
		"limits alone":       {withResources(corev1.ResourceRequirements{Limits: full.Limits}), corev1.PodQOSGuaranteed},
		"one without":        {withResources(full, corev1.ResourceRequirements{}), corev1.PodQOSBurstable},
		"init without":       {withInit, corev1.PodQOSBurstable},
		"requests below":     {withResources(corev1.ResourceRequirements{Limits: full.Limits, Requests: list("cpu", "500m", "memory", "1Gi")}), corev1.PodQOSBurstable},
		"cpu only":           {withResources(corev1.ResourceRequirements{Limits: list("cpu", "1")}), corev1.PodQOSBurstable},
		"pod level comes up": {level, corev1.PodQOSGuaranteed},
	} {
		if got := QOS(tc.pod); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

func TestGracePeriod(t *testing.T) {
	on := func(node string, phase corev1.PodPhase, period *int64) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{NodeName: node, TerminationGracePeriodSeconds: period}, Status: corev1.PodStatus{Phase: phase}}
	}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		wish *int64
		want int64
	}{
		"own":           {on("n", corev1.PodRunning, ptr.To[int64](30)), nil, 30},
		"none":          {on("n", corev1.PodRunning, nil), nil, 0},
		"wish":          {on("n", corev1.PodRunning, ptr.To[int64](30)), ptr.To[int64](5), 5},
		"at once":       {on("n", corev1.PodRunning, ptr.To[int64](30)), ptr.To[int64](0), 0},
		"negative":      {on("n", corev1.PodRunning, ptr.To[int64](-1)), nil, 1},
		"not scheduled": {on("", corev1.PodPending, ptr.To[int64](30)), ptr.To[int64](5), 0},
		"finished":      {on("n", corev1.PodSucceeded, ptr.To[int64](30)), nil, 0},
		"failed":        {on("n", corev1.PodFailed, ptr.To[int64](30)), nil, 0},
	} {
		if got := GracePeriod(tc.pod, tc.wish); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}
}

// The registry evaluates a deletion on a stale copy first and on the stored pod then, with the same options.
func TestGracefulForgetsTheAnswerForAStalePod(t *testing.T) {
	stored := &corev1.Pod{Spec: corev1.PodSpec{NodeName: "n", TerminationGracePeriodSeconds: ptr.To[int64](30)}}
	stale := stored.DeepCopy()
	stale.Spec.NodeName = ""
	options := &metav1.DeleteOptions{}
	ctx := withWish(context.Background(), options)
	for _, step := range []struct {
		pod  *corev1.Pod
		want int64
	}{{stored, 30}, {stale, 0}, {stored, 30}} {
		if !Graceful(ctx, step.pod, options) || *options.GracePeriodSeconds != step.want {
			t.Fatalf("got %d, want %d", *options.GracePeriodSeconds, step.want)
		}
	}
}

func TestAssign(t *testing.T) {
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"a": "b"}}, Target: corev1.ObjectReference{Name: "n"}}
	for name, pod := range map[string]*corev1.Pod{
		"deleted": {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: ptr.To(metav1.Now())}},
		"bound":   {Spec: corev1.PodSpec{NodeName: "x"}},
		"gated":   {Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "g"}}}},
	} {
		before := pod.DeepCopy()
		if Assign(pod, binding) == nil || pod.Spec.NodeName != before.Spec.NodeName {
			t.Errorf("%s was bound", name)
		}
	}
	pod := &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable}}}}
	if err := Assign(pod, binding); err != nil || pod.Spec.NodeName != "n" || pod.Annotations["a"] != "b" {
		t.Fatalf("got %v %v", pod, err)
	}
	c := pod.Status.Conditions
	if len(c) != 1 || c[0].Status != corev1.ConditionTrue || c[0].Reason != "" || time.Since(c[0].LastTransitionTime.Time) > time.Minute {
		t.Errorf("conditions: %v", c)
	}
}

func TestPrepare(t *testing.T) {
	ctx := context.Background()
	fresh := &corev1.Pod{Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "g"}}}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	prepareCreate(ctx, fresh)
	if fresh.Generation != 1 || fresh.Status.Phase != corev1.PodPending || fresh.Status.Conditions[0].Reason != corev1.PodReasonSchedulingGated {
		t.Errorf("create: %+v", fresh)
	}

	old := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Generation: 3, OwnerReferences: []metav1.OwnerReference{{Name: "o"}}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBestEffort, ObservedGeneration: 3},
	}
	status := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: ptr.To(metav1.Now())}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "1.2.3.4"}}, HostIP: "5.6.7.8"}}
	prepareStatus(ctx, status, old)
	if status.Status.PodIP != "1.2.3.4" || status.Status.HostIPs[0].IP != "5.6.7.8" || status.Status.QOSClass != corev1.PodQOSBestEffort ||
		status.Status.ObservedGeneration != 3 || status.DeletionTimestamp != nil || len(status.OwnerReferences) != 1 || len(status.Spec.Containers) != 1 {
		t.Errorf("status: %+v", status)
	}

	resized := old.DeepCopy()
	resized.Spec.Containers[0].Image = "other"
	resized.Spec.Containers[0].Resources.Limits = list("cpu", "1")
	resized.Spec.NodeName = "x"
	prepareResize(ctx, resized, old)
	if resized.Spec.Containers[0].Image != "i" || resized.Spec.NodeName != "" || resized.Spec.Containers[0].Resources.Limits.Cpu().Value() != 1 || resized.Generation != 4 {
		t.Errorf("resize: %+v", resized.Spec)
	}
	if len(old.Spec.Containers[0].Resources.Limits) != 0 {
		t.Error("resize changed the old object")
	}
}

func TestMergeLabelKeys(t *testing.T) {
	selector := func() *metav1.LabelSelector { return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}} }
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"hash": "1"}}}
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
		{LabelSelector: selector(), MatchLabelKeys: []string{"hash", "absent"}}, {MatchLabelKeys: []string{"hash"}},
	}
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: selector(), MismatchLabelKeys: []string{"hash"}}},
	}}
	mergeLabelKeys(p)
	mergeLabelKeys(p)
	got := p.Spec.TopologySpreadConstraints[0].LabelSelector.MatchExpressions
	if len(got) != 1 || got[0].Key != "hash" || got[0].Operator != metav1.LabelSelectorOpIn || p.Spec.TopologySpreadConstraints[1].LabelSelector != nil {
		t.Errorf("spread: %v", p.Spec.TopologySpreadConstraints)
	}
	anti := p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector.MatchExpressions
	if len(anti) != 1 || anti[0].Operator != metav1.LabelSelectorOpNotIn {
		t.Errorf("anti-affinity: %v", anti)
	}
}

func TestWarn(t *testing.T) {
	p := withResources(corev1.ResourceRequirements{Limits: list("memory", "1500m"), Requests: list("memory", "1Mi")})
	p.Name = "a.b"
	p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](-1)
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}, {Name: "PATH", Value: "x"}, {Name: "PATH", Value: "y:$(PATH)"}, {Name: "B"}, {Name: "B"}}
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}, {ContainerPort: 80}, {ContainerPort: 80, Protocol: "UDP"}}
	want := []string{
		"metadata.name: this is used in the Pod's hostname",
		"spec.terminationGracePeriodSeconds: must be >= 0",
		`spec.containers[0].env[1]: hides previous definition of "A"`,
		`spec.containers[0].env[5]: duplicate of earlier definition of "B"`,
		`spec.containers[0].resources.limits[memory]: fractional byte value "1500m"`,
		"spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
	}
	got := Warn(p, nil)
	if len(got) != len(want) {
		t.Fatalf("got %d warnings: %q", len(got), got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
	if again := Warn(p, p.DeepCopy()); again != nil {
		t.Errorf("an update that changes nothing warns: %q", again)
	}
}

package core

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"coracle/controlplane/api/expect"
)

// updateCase is a change of a sound pod. before prepares the pod as it was.
type updateCase struct {
	name           string
	before, change func(p *corev1.Pod)
	want           []string
}

func gated(p *corev1.Pod) {
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a"}, {Name: "b"}}
}

func requireZone(values ...string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
		{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: "In", Values: values}}},
	}}}}
}

func TestPodUpdate(t *testing.T) {
	deadline := func(n int64) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr(n) }
	}
	tolerating := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "k", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: ptr(int64(5))}}
	}
	const nodeTerms = "spec.affinity.nodeAffinity." + requiredTerms
	cases := []updateCase{
		{"nothing", nil, func(*corev1.Pod) {}, nil},
		{"labels", nil, func(p *corev1.Pod) { p.Labels["x"] = "y" }, nil},
		{"name", nil, func(p *corev1.Pod) { p.Name = "q" }, []string{"Invalid metadata.name"}},
		{"image", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "image:2" }, nil},
		{"no image", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" }, []string{"Required spec.containers[0].image"}},
		{"command", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"x"} }, []string{"Forbidden spec"}},
		{"resources", nil, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = amounts("cpu", "1") }, []string{"Forbidden spec"}},
		{"one container more", nil, func(p *corev1.Pod) {
			c := p.Spec.Containers[0]
			c.Name = "d"
			p.Spec.Containers = append(p.Spec.Containers, c)
		}, []string{"Forbidden spec.containers"}},
		{"node", nil, func(p *corev1.Pod) { p.Spec.NodeName = "n" }, []string{"Forbidden spec"}},
		{"deadline set", nil, deadline(10), nil},
		{"deadline nearer", deadline(10), deadline(5), nil},
		{"deadline farther", deadline(5), deadline(10), []string{"Invalid spec.activeDeadlineSeconds"}},
		{"deadline gone", deadline(5), func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = nil }, []string{"Invalid spec.activeDeadlineSeconds"}},
		{"toleration added", tolerating, func(p *corev1.Pod) {
			p.Spec.Tolerations = append([]corev1.Toleration{{Key: "l", Operator: "Exists"}}, p.Spec.Tolerations...)
		}, nil},
		{"toleration for longer", tolerating, func(p *corev1.Pod) { p.Spec.Tolerations[0].TolerationSeconds = ptr(int64(9)) }, nil},
		{"toleration gone", tolerating, func(p *corev1.Pod) { p.Spec.Tolerations = nil }, []string{"Forbidden spec.tolerations"}},
		{"grace", nil, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr(int64(1)) }, []string{"Forbidden spec"}},
		{"negative grace to one", func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr(int64(-1)) }, func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr(int64(1)) }, nil},
		{"gate removed", gated, func(p *corev1.Pod) { p.Spec.SchedulingGates = p.Spec.SchedulingGates[:1] }, nil},
		{"gate added", gated, func(p *corev1.Pod) {
			p.Spec.SchedulingGates = append(p.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: "c"})
		}, []string{"Forbidden spec.schedulingGates[2]"}},
		{"gated: node selector grows", gated, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, nil},
		{"free: node selector grows", nil, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"a": "b"} }, []string{"Forbidden spec"}},
		{"gated: node selector shrinks", func(p *corev1.Pod) { gated(p); p.Spec.NodeSelector = map[string]string{"a": "b"} }, func(p *corev1.Pod) { p.Spec.NodeSelector = nil }, []string{"Invalid spec.nodeSelector"}},
		{"gated: affinity set", gated, func(p *corev1.Pod) { p.Spec.Affinity = requireZone("a") }, nil},
		{"gated: affinity narrower", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = requireZone("a") }, func(p *corev1.Pod) {
			term := &p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0]
			term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{Key: "ssd", Operator: "Exists"})
		}, nil},
		{"gated: affinity wider", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = requireZone("a") }, func(p *corev1.Pod) { p.Spec.Affinity = requireZone("a", "b") }, []string{"Invalid " + nodeTerms + ".nodeSelectorTerms[0]"}},
		{"gated: affinity gone", func(p *corev1.Pod) { gated(p); p.Spec.Affinity = requireZone("a") }, func(p *corev1.Pod) { p.Spec.Affinity = nil }, []string{"Invalid " + nodeTerms}},
		{"gated: pod affinity", gated, func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "zone"}}}}
		}, []string{"Forbidden spec"}},
		{"mirror added", nil, func(p *corev1.Pod) { p.Spec.NodeName = ""; p.Annotations = map[string]string{mirrorAnnotation: "x"} },
			[]string{"Invalid metadata.annotations[kubernetes.io/config.mirror]", "Invalid metadata.annotations[kubernetes.io/config.mirror]"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			old := podWith(tc.before)
			now := old.DeepCopy()
			tc.change(now)
			expect.Errors(t, ValidatePodUpdate(now, old), tc.want...)
		})
	}
}

// TestPodUpdateSaysWhatDiffers: the error of a refused update lists what may
// change and shows what did.
func TestPodUpdateSaysWhatDiffers(t *testing.T) {
	old := podWith(nil)
	now := old.DeepCopy()
	now.Spec.Containers[0].WorkingDir = "/elsewhere"
	errs := ValidatePodUpdate(now, old)
	if len(errs) != 1 {
		t.Fatalf("got %v, want one error", errs)
	}
	for _, part := range []string{"pod updates may not change fields other than", "`spec.containers[*].image`", "/elsewhere"} {
		if !strings.Contains(errs[0].Detail, part) {
			t.Errorf("error lacks %q:\n%s", part, errs[0].Detail)
		}
	}
}

func TestEphemeralContainersUpdate(t *testing.T) {
	debugger := func(change func(c *corev1.EphemeralContainer)) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			c := corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "busybox:1", TTY: true}}
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, c)
			defaultPod(p)
			if change != nil {
				change(&p.Spec.EphemeralContainers[len(p.Spec.EphemeralContainers)-1])
			}
		}
	}
	const at = "spec.ephemeralContainers[0]"
	for _, tc := range []updateCase{
		{"added", nil, debugger(nil), nil},
		{"target", nil, debugger(func(c *corev1.EphemeralContainer) { c.TargetContainerName = "c" }), nil},
		{"unknown target", nil, debugger(func(c *corev1.EphemeralContainer) { c.TargetContainerName = "d" }), []string{"NotFound " + at + ".targetContainerName"}},
		{"name taken", nil, debugger(func(c *corev1.EphemeralContainer) { c.Name = "c" }), []string{"Duplicate " + at + ".name"}},
		{"forbidden fields", nil, debugger(func(c *corev1.EphemeralContainer) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}}
			c.Resources.Limits = amounts("cpu", "1")
			c.LivenessProbe, c.Lifecycle = &corev1.Probe{}, &corev1.Lifecycle{}
		}), []string{"Forbidden " + at + ".ports", "Forbidden " + at + ".resources", "Forbidden " + at + ".livenessProbe", "Forbidden " + at + ".lifecycle"}},
		{"sub path", nil, debugger(func(c *corev1.EphemeralContainer) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPath: "a"}}
		}), []string{"Forbidden " + at + ".volumeMounts[0].subPath"}},
		{"changed", debugger(nil), func(p *corev1.Pod) { p.Spec.EphemeralContainers[0].Image = "busybox:2" }, []string{"Forbidden spec.ephemeralContainers"}},
		{"removed", debugger(nil), func(p *corev1.Pod) { p.Spec.EphemeralContainers = nil }, []string{"Forbidden spec.ephemeralContainers"}},
		{"static pod", func(p *corev1.Pod) { p.Annotations, p.Spec.NodeName = map[string]string{mirrorAnnotation: "x"}, "n" }, debugger(nil), []string{"Forbidden []"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old := podWith(tc.before)
			now := old.DeepCopy()
			tc.change(now)
			expect.Errors(t, ValidatePodEphemeralContainersUpdate(now, old), tc.want...)
		})
	}
}

func TestPodResize(t *testing.T) {
	sized := func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: amounts("cpu", "2", "memory", "2Gi"), Requests: amounts("cpu", "1", "memory", "1Gi")}
	}
	for _, tc := range []updateCase{
		{"more cpu", sized, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = amounts("cpu", "1500m", "memory", "1Gi")
		}, nil},
		{"limit added", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = amounts("cpu", "1") }, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = amounts("memory", "1Gi") }, nil},
		{"to guaranteed", sized, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = amounts("cpu", "2", "memory", "2Gi") }, []string{"Invalid spec"}},
		{"request removed", sized, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = amounts("cpu", "1") }, []string{"Forbidden spec.containers[0].resources"}},
		{"limit removed", sized, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = amounts("memory", "2Gi") }, []string{"Forbidden spec.containers[0].resources"}},
		{"other resource", sized, func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = amounts("cpu", "2", "memory", "2Gi", "ephemeral-storage", "1Gi")
		}, []string{"Forbidden spec"}},
		{"image", sized, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "image:2" }, []string{"Forbidden spec"}},
		{"request above limit", sized, func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests = amounts("cpu", "3", "memory", "1Gi") }, []string{"Invalid spec.containers[0].resources.requests"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old := podWith(tc.before)
			now := old.DeepCopy()
			tc.change(now)
			expect.Errors(t, ValidatePodResize(now, old), tc.want...)
		})
	}
}

func TestPodQOS(t *testing.T) {
	full := corev1.ResourceRequirements{Limits: amounts("cpu", "1", "memory", "1Gi"), Requests: amounts("cpu", "1000m", "memory", "1Gi")}
	for _, tc := range []struct {
		name       string
		containers []corev1.ResourceRequirements
		pod        *corev1.ResourceRequirements
		want       corev1.PodQOSClass
	}{
		{"nothing", []corev1.ResourceRequirements{{}}, nil, corev1.PodQOSBestEffort},
		{"zero", []corev1.ResourceRequirements{{Requests: amounts("cpu", "0")}}, nil, corev1.PodQOSBestEffort},
		{"disk only", []corev1.ResourceRequirements{{Requests: amounts("ephemeral-storage", "1")}}, nil, corev1.PodQOSBestEffort},
		{"equal", []corev1.ResourceRequirements{full, full}, nil, corev1.PodQOSGuaranteed},
		{"one without", []corev1.ResourceRequirements{full, {}}, nil, corev1.PodQOSBurstable},
		{"no memory limit", []corev1.ResourceRequirements{{Limits: amounts("cpu", "1"), Requests: amounts("cpu", "1")}}, nil, corev1.PodQOSBurstable},
		{"lower request", []corev1.ResourceRequirements{{Limits: full.Limits, Requests: amounts("cpu", "1", "memory", "1Mi")}}, nil, corev1.PodQOSBurstable},
		{"pod level decides", []corev1.ResourceRequirements{{}}, &full, corev1.PodQOSGuaranteed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &corev1.Pod{Spec: corev1.PodSpec{Resources: tc.pod}}
			for _, r := range tc.containers {
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Resources: r})
			}
			if got := PodQOS(p); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestPodStatusUpdate(t *testing.T) {
	ended := func(exit int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exit}}}}
		}
	}
	with := func(policy corev1.RestartPolicy, exit int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.RestartPolicy = policy; ended(exit)(p) }
	}
	running := func(p *corev1.Pod) {
		p.Status.ContainerStatuses[0].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	}
	const state = "Forbidden status.containerStatuses[0].state"
	for _, tc := range []updateCase{
		{"always", with(corev1.RestartPolicyAlways, 0), running, nil},
		{"never", with(corev1.RestartPolicyNever, 1), running, []string{state}},
		{"on failure, failed", with(corev1.RestartPolicyOnFailure, 1), running, nil},
		{"on failure, done", with(corev1.RestartPolicyOnFailure, 0), running, []string{state}},
		{"never, but the container's own policy", func(p *corev1.Pod) {
			with(corev1.RestartPolicyNever, 0)(p)
			p.Spec.Containers[0].RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
		}, running, nil},
		{"node", nil, func(p *corev1.Pod) { p.Spec.NodeName = "n" }, []string{"Forbidden status.nodeName"}},
		{"nominated", nil, func(p *corev1.Pod) { p.Status.NominatedNodeName = "a b" }, []string{"Invalid status.nominatedNodeName"}},
		{"qos", func(p *corev1.Pod) { p.Status.QOSClass = corev1.PodQOSBestEffort }, func(p *corev1.Pod) { p.Status.QOSClass = corev1.PodQOSBurstable }, []string{"Invalid status.qosClass"}},
		{"addresses", nil, func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}} }, nil},
		{"two of a family", nil, func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "10.0.0.2"}} }, []string{"Invalid status.podIPs"}},
		{"bad address", nil, func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.256"}} }, []string{"Invalid status.podIPs[0]"}},
		{"host addresses", nil, func(p *corev1.Pod) { p.Status.HostIP, p.Status.HostIPs = "10.0.0.1", []corev1.HostIP{{IP: "10.0.0.2"}} }, []string{"Invalid status.hostIPs[0].ip"}},
		{"claims", nil, func(p *corev1.Pod) { p.Status.ResourceClaimStatuses = []corev1.PodResourceClaimStatus{{Name: "gpu"}} }, []string{"Invalid status.resourceClaimStatuses[0].name"}},
		{"generation", nil, func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: "Ready", ObservedGeneration: -1}}
		}, []string{"Invalid status.conditions[0].observedGeneration"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			old := podWith(tc.before)
			now := old.DeepCopy()
			tc.change(now)
			expect.Errors(t, ValidatePodStatusUpdate(now, old), tc.want...)
		})
	}
}

func TestBinding(t *testing.T) {
	expect.Errors(t, ValidateBinding(&corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n"}}))
	expect.Errors(t, ValidateBinding(&corev1.Binding{Target: corev1.ObjectReference{Name: "n"}}))
	expect.Errors(t, ValidateBinding(&corev1.Binding{Target: corev1.ObjectReference{Kind: "Pod"}}), "NotSupported target.kind", "Required target.name")
}

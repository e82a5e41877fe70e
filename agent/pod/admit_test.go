package pod

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

func list(cpu, memory string) v1.ResourceList {
	out := v1.ResourceList{}
	if cpu != "" {
		out[v1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		out[v1.ResourceMemory] = resource.MustParse(memory)
	}
	return out
}

func sized(name, cpu, memory string, more ...func(*v1.Pod)) *v1.Pod {
	p := newPod(container(name))
	p.Name, p.UID = name, types.UID(name)
	p.Spec.Containers[0].Resources.Requests = list(cpu, memory)
	for _, f := range more {
		f(p)
	}
	return p
}

func withPort(ip string, number int32) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Containers[0].Ports = []v1.ContainerPort{{HostPort: number, ContainerPort: number, HostIP: ip}}
	}
}

func critical(p *v1.Pod) { p.Spec.Priority = ptr.To[int32](systemCriticalPriority) }

func fromFile(p *v1.Pod) { p.Annotations = map[string]string{SourceAnnotation: "file"} }

func room(allocatable v1.ResourceList, pods int64, tenants ...*v1.Pod) *Occupancy {
	allocatable[v1.ResourcePods] = *resource.NewQuantity(pods, resource.DecimalSI)
	r := &Occupancy{
		Allocatable: allocatable,
		Node: &v1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"disk": "ssd", "cores": "8", v1.LabelOSStable: "linux"}},
			Spec:       v1.NodeSpec{Taints: []v1.Taint{{Key: "quiet", Effect: v1.TaintEffectNoSchedule}}},
		},
	}
	for _, p := range tenants {
		r.Take(p)
	}
	return r
}

func affinity(reqs ...v1.NodeSelectorRequirement) func(*v1.Pod) {
	return func(p *v1.Pod) {
		p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &v1.NodeSelector{
			NodeSelectorTerms: []v1.NodeSelectorTerm{{}, {MatchExpressions: reqs}},
		}}}
	}
}

func TestAdmit(t *testing.T) {
	sysctls := func(names ...string) func(*v1.Pod) {
		return func(p *v1.Pod) {
			p.Spec.SecurityContext = &v1.PodSecurityContext{}
			for _, n := range names {
				p.Spec.SecurityContext.Sysctls = append(p.Spec.SecurityContext.Sysctls, v1.Sysctl{Name: n, Value: "1"})
			}
		}
	}
	small := func() *Occupancy {
		return room(list("2", "1Gi"), 3, sized("a", "1500m", "600Mi"), sized("web", "", "", withPort("", 80)))
	}
	tainted := small()
	tainted.Node.Spec.Taints = []v1.Taint{{Key: "gone", Value: "1", Effect: v1.TaintEffectNoExecute}}
	unsafe := small()
	unsafe.UnsafeSysctls = []string{"net.core.*"}
	unknown := &Occupancy{}
	for _, tc := range []struct {
		name    string
		room    *Occupancy
		pod     *v1.Pod
		reason  string
		message string
		victims string
	}{
		{name: "fits", room: small(), pod: sized("p", "500m", "100Mi")},
		{name: "cpu", room: small(), pod: sized("p", "501m", "2Gi"), reason: "OutOfcpu",
			message: "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"},
		{name: "memory", room: small(), pod: sized("p", "", "500Mi"), reason: "OutOfmemory",
			message: "Node didn't have enough resource: memory, requested: 524288000, used: 629145600, capacity: 1073741824"},
		{name: "pods", room: room(list("2", "1Gi"), 1, sized("a", "", "")), pod: sized("p", "9", ""), reason: "OutOfpods",
			message: "Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1"},
		{name: "of the cluster, not of the node", room: small(), pod: sized("p", "", "", func(p *v1.Pod) {
			p.Spec.Containers[0].Resources.Requests = v1.ResourceList{"example.com/licence": resource.MustParse("1")}
		})},
		{name: "selector met", room: small(), pod: sized("p", "", "", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} })},
		{name: "selector", room: small(), pod: sized("p", "", "", func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "tape"} }),
			reason: "NodeAffinity", message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		{name: "affinity met", room: small(), pod: sized("p", "", "", affinity(
			v1.NodeSelectorRequirement{Key: "disk", Operator: v1.NodeSelectorOpIn, Values: []string{"nvme", "ssd"}},
			v1.NodeSelectorRequirement{Key: "cores", Operator: v1.NodeSelectorOpGt, Values: []string{"4"}},
			v1.NodeSelectorRequirement{Key: "gpu", Operator: v1.NodeSelectorOpDoesNotExist},
			v1.NodeSelectorRequirement{Key: "gpu", Operator: v1.NodeSelectorOpNotIn, Values: []string{"a"}}))},
		{name: "affinity", room: small(), pod: sized("p", "", "", affinity(v1.NodeSelectorRequirement{Key: "cores", Operator: v1.NodeSelectorOpLt, Values: []string{"8"}})), reason: "NodeAffinity"},
		{name: "the node is not known", room: unknown, pod: sized("p", "100", "1Ti", affinity(v1.NodeSelectorRequirement{Key: "x", Operator: v1.NodeSelectorOpExists}))},
		{name: "port taken", room: small(), pod: sized("p", "", "", withPort("192.0.2.1", 80)), reason: "NodePorts",
			message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{name: "port of another protocol", room: small(), pod: sized("p", "", "", withPort("", 80), func(p *v1.Pod) { p.Spec.Containers[0].Ports[0].Protocol = v1.ProtocolUDP })},
		{name: "taint", room: tainted, pod: sized("p", "", ""), reason: "TaintToleration", message: "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"},
		{name: "taint tolerated", room: tainted, pod: sized("p", "", "", func(p *v1.Pod) {
			p.Spec.Tolerations = []v1.Toleration{{Key: "gone", Operator: v1.TolerationOpExists, TolerationSeconds: ptr.To[int64](1)}}
		})},
		{name: "taint and a pod from a file", room: tainted, pod: sized("p", "", "", fromFile)},
		{name: "other system", room: small(), pod: sized("p", "", "", func(p *v1.Pod) { p.Spec.OS = &v1.PodOS{Name: v1.Windows} }),
			reason: "PodOSNotSupported", message: "Failed to admit pod as the OS field doesn't match node OS"},
		{name: "safe sysctl", room: small(), pod: sized("p", "", "", sysctls("kernel.shm_rmid_forced", "net/ipv4/tcp_syncookies"))},
		{name: "unsafe sysctl", room: small(), pod: sized("p", "", "", sysctls("net.core.somaxconn")), reason: "SysctlForbidden", message: `forbidden sysctl: "net.core.somaxconn" not allowlisted`},
		{name: "unsafe sysctl that is allowed", room: unsafe, pod: sized("p", "", "", sysctls("net.core.somaxconn"))},
		{name: "sysctl of the machine", room: small(), pod: sized("p", "", "", sysctls("net.ipv4.tcp_syncookies"), func(p *v1.Pod) { p.Spec.HostNetwork = true }),
			reason: "SysctlForbidden", message: `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled`},
		{name: "critical", room: small(), pod: sized("p", "1", "", critical), victims: "a"},
		{name: "critical from a file", room: room(list("2", "1Gi"), 1, sized("a", "", "")), pod: sized("p", "", "", fromFile), victims: "a"},
		{name: "critical, port taken", room: small(), pod: sized("p", "1", "", critical, withPort("", 80)), reason: "NodePorts"},
		{name: "critical for nothing", room: small(), pod: sized("p", "3", "", critical), reason: "UnexpectedAdmissionError",
			message: "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 2500), ]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rejected, victims := tc.room.Admit(tc.pod)
			got := Rejection{}
			if rejected != nil {
				got = *rejected
			}
			if got.Reason != tc.reason || tc.message != "" && got.Message != tc.message {
				t.Errorf("got %q: %s", got.Reason, got.Message)
			}
			var names []string
			for _, v := range victims {
				names = append(names, v.Name)
			}
			if strings.Join(names, " ") != tc.victims {
				t.Errorf("victims %v, want %q", names, tc.victims)
			}
		})
	}
}

// TestPreemptSparesHigherClasses: a guaranteed pod goes only when all others together are not enough.
func TestPreemptSparesHigherClasses(t *testing.T) {
	guaranteed := sized("guaranteed", "1", "100Mi", func(p *v1.Pod) { p.Spec.Containers[0].Resources.Limits = list("1", "100Mi") })
	r := room(list("4", "1Gi"), 10, guaranteed, sized("large", "2", ""), sized("middle", "600m", ""), sized("small", "400m", ""))
	for cpu, want := range map[string]string{"600m": "middle", "400m": "small", "1": "large", "2500m": "large middle", "3500m": "large middle guaranteed"} {
		_, victims := r.Admit(sized("p", cpu, "", critical))
		var names []string
		for _, v := range victims {
			names = append(names, v.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", cpu, got, want)
		}
	}
}

// TestOccupancyProperties: what is taken in one by one never exceeds what there is, and all is free again once all have left.
func TestOccupancyProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := room(list("4", "1000"), 8)
		var in []*v1.Pod
		for i := range rapid.IntRange(0, 20).Draw(t, "pods") {
			p := sized(fmt.Sprint(i), fmt.Sprintf("%dm", rapid.IntRange(0, 1500).Draw(t, "cpu")), fmt.Sprint(rapid.IntRange(0, 400).Draw(t, "memory")))
			if rapid.IntRange(0, 3).Draw(t, "critical") == 0 {
				critical(p)
			}
			rejected, victims := r.Admit(p)
			for _, v := range victims {
				if Critical(v) {
					t.Errorf("critical pod %s preempted", v.Name)
				}
				r.Leave(v.UID)
			}
			if rejected == nil {
				r.Take(p)
				r.Take(p) // counts once
				in = append(in, p)
			}
			if len(r.tenants) > 8 || r.used[v1.ResourceCPU] > 4000 || r.used[v1.ResourceMemory] > 1000 {
				t.Fatalf("over-full: %d pods, %v", len(r.tenants), r.used)
			}
		}
		for _, p := range in {
			r.Leave(p.UID)
			r.Leave(p.UID)
		}
		for name, n := range r.used {
			if n != 0 {
				t.Errorf("%d of %s still taken", n, name)
			}
		}
	})
}

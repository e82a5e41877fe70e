package decide

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

const host, zoneKey = corev1.LabelHostname, corev1.LabelTopologyZone

// Each case has one pod and nodes that do not take it; the explanation is what users read.
func TestExplain(t *testing.T) {
	app := selector("app", "a")
	for name, tc := range map[string]struct {
		pod   *corev1.Pod
		nodes []*Node
		want  string
		wake  Wake
	}{
		"no nodes": {newPod("p"), nil, "no nodes available to schedule pods", Nodes},
		"counts for each reason": {
			newPod("p", requests("cpu", "3")),
			[]*Node{
				on(newNode("a"), newPod("x", requests("cpu", "2"))),
				on(newNode("b", tainted("node.kubernetes.io/not-ready", "", corev1.TaintEffectNoSchedule))),
				on(newNode("c", tainted("node.kubernetes.io/not-ready", "", corev1.TaintEffectNoSchedule))),
			},
			"0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.", Nodes | Freed,
		},
		"every short resource": {
			newPod("p", requests("cpu", "5", "memory", "9Gi", "ephemeral-storage", "11Gi", "example.com/gpu", "1")),
			[]*Node{on(newNode("a"))},
			"0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient ephemeral-storage, 1 Insufficient example.com/gpu, 1 Insufficient memory.", Nodes | Freed,
		},
		"too many pods": {
			newPod("p"), []*Node{on(newNode("a", holding("pods", "1")), newPod("x"))},
			"0/1 nodes are available: 1 Too many pods.", Nodes | Freed,
		},
		"cordoned":  {newPod("p"), []*Node{on(newNode("a", cordoned))}, "0/1 nodes are available: 1 node(s) were unschedulable.", Nodes},
		"node name": {newPod("p", func(p *corev1.Pod) { p.Spec.NodeName = "b" }), []*Node{on(newNode("a"))}, "0/1 nodes are available: 1 node(s) didn't match the requested node name.", Nodes},
		"node selector": {
			newPod("p", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), []*Node{on(newNode("a"))},
			"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", Nodes,
		},
		"host port": {
			newPod("p", hostPortOn("10.0.0.1", 80)), []*Node{on(newNode("a"), newPod("x", hostPortOn("", 80)))},
			"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.", Nodes | Freed,
		},
		"pod affinity": {
			newPod("p", near(host, app)), []*Node{on(newNode("a"), newPod("x"))},
			"0/1 nodes are available: 1 node(s) didn't match pod affinity rules.", Nodes | Freed | Placed,
		},
		"pod anti-affinity": {
			newPod("p", awayFrom(host, app)), []*Node{on(newNode("a"), newPod("x", labelled("app", "a")))},
			"0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.", Nodes | Freed | Placed,
		},
		"anti-affinity of a pod in place": {
			newPod("p", labelled("app", "a")), []*Node{on(newNode("a"), newPod("x", awayFrom(host, app)))},
			"0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.", Nodes | Freed | Placed,
		},
		"spread": {
			newPod("p", labelled("app", "a"), spreadOver(zoneKey, 1, app, corev1.DoNotSchedule)),
			[]*Node{
				on(newNode("a", with(zoneKey, "z1")), newPod("x", labelled("app", "a"))),
				on(newNode("b", with(zoneKey, "z2"), cordoned)), on(newNode("c")),
			},
			"0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, " +
				"1 node(s) didn't match pod topology spread constraints (missing required label), 1 node(s) were unschedulable.", Nodes | Freed | Placed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := Decide(NewPod(tc.pod), &Cluster{Nodes: tc.nodes})
			if d.Node != "" || d.Explain() != tc.want || d.Wake != tc.wake {
				t.Errorf("got node %q, wake %b:\n%s\nwant wake %b:\n%s", d.Node, d.Wake, d.Explain(), tc.wake, tc.want)
			}
		})
	}
}

// Each case has one node, which takes the pod.
func TestFits(t *testing.T) {
	app := selector("app", "a")
	always := corev1.ContainerRestartPolicyAlways
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		node *Node
		want bool
	}{
		"exactly what is left":     {newPod("p", requests("cpu", "2")), on(newNode("a"), newPod("x", requests("cpu", "2"))), true},
		"nothing asked, all taken": {newPod("p"), on(newNode("a"), newPod("x", requests("cpu", "4"))), true},
		"toleration": {
			newPod("p", tolerating(corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists})),
			on(newNode("a", tainted("k", "v", corev1.TaintEffectNoSchedule))), true,
		},
		"toleration of another effect": {
			newPod("p", tolerating(corev1.Toleration{Key: "k", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute})),
			on(newNode("a", tainted("k", "v", corev1.TaintEffectNoSchedule))), false,
		},
		"a preference is no bar":     {newPod("p"), on(newNode("a", tainted("k", "v", corev1.TaintEffectPreferNoSchedule))), true},
		"cordon tolerated":           {newPod("p", tolerating(corev1.Toleration{Operator: corev1.TolerationOpExists})), on(newNode("a", cordoned)), true},
		"same port, other addresses": {newPod("p", hostPortOn("10.0.0.1", 80)), on(newNode("a"), newPod("x", hostPortOn("10.0.0.2", 80))), true},
		"same port, other protocol": {
			newPod("p", hostPortOn("", 53), func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].Protocol = corev1.ProtocolUDP }),
			on(newNode("a"), newPod("x", hostPortOn("", 53))), true,
		},
		"first of a group": {newPod("p", labelled("app", "a"), near(host, app)), on(newNode("a")), true},
		"init container needs more": {
			newPod("p", func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Name: "i", Resources: corev1.ResourceRequirements{Requests: list("cpu", "5")}}}
			}), on(newNode("a")), false,
		},
		"sidecar counts beside the container": {
			newPod("p", requests("cpu", "3"), func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always, Resources: corev1.ResourceRequirements{Requests: list("cpu", "2")}}}
			}), on(newNode("a")), false,
		},
		"overhead counts": {
			newPod("p", requests("cpu", "4"), func(p *corev1.Pod) { p.Spec.Overhead = list("cpu", "1") }), on(newNode("a")), false,
		},
		"affinity by field": {
			newPod("p", func(p *corev1.Pod) {
				affinities(p).NodeAffinity = &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}},
				}}}}
			}), on(newNode("a")), true,
		},
		"fewer domains than asked for": {
			newPod("p", labelled("app", "a"), spreadOver(zoneKey, 1, app, corev1.DoNotSchedule), func(p *corev1.Pod) {
				p.Spec.TopologySpreadConstraints[0].MinDomains = ptr.To(int32(2))
			}), on(newNode("a", with(zoneKey, "z")), newPod("x", labelled("app", "a"))), false,
		},
		"only pods with the same value of a key count": {
			newPod("p", labelled("app", "a", "v", "2"), spreadOver(host, 1, app, corev1.DoNotSchedule), func(p *corev1.Pod) {
				p.Spec.TopologySpreadConstraints[0].MinDomains = ptr.To(int32(2))
				p.Spec.TopologySpreadConstraints[0].MatchLabelKeys = []string{"v"}
			}), on(newNode("a"), newPod("x", labelled("app", "a", "v", "1"))), true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Fits(NewPod(tc.pod), tc.node, &Cluster{Nodes: []*Node{tc.node}}); got != tc.want {
				t.Errorf("fits: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAffinityLooksIntoOtherNamespaces(t *testing.T) {
	p := newPod("p", awayFrom(host, selector("app", "a")), func(p *corev1.Pod) {
		p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].NamespaceSelector = selector("team", "x")
	})
	other := newPod("x", labelled("app", "a"), func(p *corev1.Pod) { p.Namespace = "other" })
	for team, want := range map[string]bool{"x": false, "y": true} {
		n := on(newNode("a"), other)
		got := Fits(NewPod(p), n, &Cluster{Nodes: []*Node{n}, Namespaces: map[string]map[string]string{"other": {"team": team}}})
		if got != want {
			t.Errorf("namespace of team %s: fits %v, want %v", team, got, want)
		}
	}
}

// Each case prefers node "a" to node "b".
func TestPrefers(t *testing.T) {
	app := selector("app", "a")
	term := corev1.PodAffinityTerm{LabelSelector: app, TopologyKey: host}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		a, b *Node
	}{
		"the emptier node":   {newPod("p", requests("cpu", "1")), on(newNode("a")), on(newNode("b"), newPod("x", requests("cpu", "2", "memory", "4Gi")))},
		"no unwanted taint":  {newPod("p"), on(newNode("a"), newPod("x", requests("cpu", "2"))), on(newNode("b", tainted("k", "", corev1.TaintEffectPreferNoSchedule)))},
		"spread of siblings": {newPod("p", ownedBy("rs")), on(newNode("a"), newPod("x", requests("cpu", "1"))), on(newNode("b"), newPod("y", ownedBy("rs")))},
		"spread of siblings over zones": {
			newPod("p", ownedBy("rs")), on(newNode("a", with(zoneKey, "z1")), newPod("x", requests("cpu", "1"))), on(newNode("b", with(zoneKey, "z2")), newPod("y", ownedBy("rs"))),
		},
		"soft spread": {
			newPod("p", labelled("app", "a"), spreadOver(host, 1, app, corev1.ScheduleAnyway)),
			on(newNode("a")), on(newNode("b"), crowd(3, "x", labelled("app", "a"))...),
		},
		"preferred node affinity": {
			newPod("p", func(p *corev1.Pod) {
				affinities(p).NodeAffinity = &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
					Weight: 1, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}}}},
				}}}
			}), on(newNode("a", with("disk", "ssd")), newPod("x", requests("cpu", "1"))), on(newNode("b")),
		},
		"company": {
			newPod("p", func(p *corev1.Pod) {
				affinities(p).PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 10, PodAffinityTerm: term}}}
			}), on(newNode("a"), newPod("x", labelled("app", "a"))), on(newNode("b")),
		},
		"solitude": {
			newPod("p", func(p *corev1.Pod) {
				affinities(p).PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 10, PodAffinityTerm: term}}}
			}), on(newNode("a"), newPod("y", requests("cpu", "1"))), on(newNode("b"), newPod("x", labelled("app", "a"))),
		},
		"the node that has the image": {
			newPod("p"),
			on(newNode("a", func(n *corev1.Node) {
				n.Status.Images = []corev1.ContainerImage{{Names: []string{"registry/app:1"}, SizeBytes: 900 << 20}}
			})), on(newNode("b")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 10 { // whatever the tie break would say
				p := tc.pod.DeepCopy()
				p.UID = types.UID(fmt.Sprint(i))
				if d := Decide(NewPod(p), &Cluster{Nodes: []*Node{tc.b, tc.a}}); d.Node != "a" {
					t.Fatalf("chose %s of %d feasible", d.Node, d.Feasible)
				}
			}
		})
	}
}

func TestEqualNodesShareThePods(t *testing.T) {
	counts := map[string]int{}
	for i := range 200 {
		d := Decide(NewPod(newPod(fmt.Sprint("p", i))), &Cluster{Nodes: []*Node{on(newNode("a")), on(newNode("b"))}})
		counts[d.Node]++
	}
	if counts["a"] < 50 || counts["b"] < 50 {
		t.Errorf("equal nodes were chosen %v", counts)
	}
}

func drawCluster(t *rapid.T) []*Node {
	var nodes []*Node
	for i := range rapid.IntRange(1, 5).Draw(t, "nodes") {
		cpu, pods := rapid.IntRange(0, 4).Draw(t, "cpu"), rapid.IntRange(0, 6).Draw(t, "pods")
		nodes = append(nodes, on(newNode(fmt.Sprint("n", i), with(zoneKey, fmt.Sprint("z", i%2)),
			holding("cpu", fmt.Sprint(cpu), "memory", "8Gi", "pods", fmt.Sprint(pods), "example.com/gpu", fmt.Sprint(i%3)))))
	}
	return nodes
}

func drawPod(t *rapid.T, i int) *corev1.Pod {
	cpu := rapid.IntRange(0, 2500).Draw(t, "request")
	p := newPod(fmt.Sprint("p", i), requests("cpu", fmt.Sprintf("%dm", cpu), "example.com/gpu", fmt.Sprint(rapid.IntRange(0, 1).Draw(t, "gpu"))),
		labelled("app", rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app")))
	app := selector("app", p.Labels["app"])
	for _, o := range rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 0, 2, rapid.ID[int]).Draw(t, "rules") {
		[]podOption{awayFrom(host, app), hostPortOn("", 80), spreadOver(zoneKey, 1, app, corev1.DoNotSchedule), ownedBy("rs")}[o](p)
	}
	return p
}

// However many pods come, no node ever holds more than it has, two pods on one host port, or two that keep away
// from each other; and pods that leave take with them all that they brought.
func TestNeverExceedsCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cluster := &Cluster{Nodes: drawCluster(t)}
		var placed []*Pod
		at := map[string]*Node{}
		for i := range rapid.IntRange(1, 25).Draw(t, "pods") {
			p := NewPod(drawPod(t, i))
			d := Decide(p, cluster)
			for _, n := range cluster.Nodes {
				if n.Object.Name == d.Node {
					n.Add(p)
					placed, at[p.Name] = append(placed, p), n
				}
			}
			for _, n := range cluster.Nodes {
				check(t, n)
			}
		}
		for _, p := range placed {
			at[p.Name].Remove(p.UID)
		}
		for _, n := range cluster.Nodes {
			if diff := cmp.Diff(Resources{}, n.used, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("node %s is not free again:\n%s", n.Object.Name, diff)
			}
		}
	})
}

func check(t *rapid.T, n *Node) {
	cpu := resource.Quantity{}
	ports, apps, gpu := 0, map[string]int{}, int64(0)
	for _, p := range n.pods {
		cpu.Add(p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU])
		q := p.Spec.Containers[0].Resources.Requests["example.com/gpu"]
		gpu += q.Value()
		ports += len(p.ports)
		apps[p.Labels["app"]]++
	}
	for _, p := range n.pods {
		if len(p.antiAffinity) > 0 && apps[p.Labels["app"]] > 1 {
			t.Fatalf("%s is not alone on %s", p.Name, n.Object.Name)
		}
	}
	a := n.Object.Status.Allocatable
	if cpu.Cmp(a[corev1.ResourceCPU]) > 0 || ports > 1 || int64(len(n.pods)) > a.Pods().Value() || gpu > ptr.To(a["example.com/gpu"]).Value() {
		t.Fatalf("node %s with %v holds %d pods, %s cpu, %d gpus, port 80 %d times", n.Object.Name, a, len(n.pods), cpu.String(), gpu, ports)
	}
}

func TestOrderIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawCluster(t)
		for i := range rapid.IntRange(0, 12).Draw(t, "in place") {
			nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "at")].Add(NewPod(drawPod(t, 100+i)))
		}
		p := NewPod(drawPod(t, 0))
		want := Decide(p, &Cluster{Nodes: nodes})
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		if diff := cmp.Diff(want, Decide(p, &Cluster{Nodes: nodes})); diff != "" {
			t.Fatalf("another order gives another decision:\n%s", diff)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	var nodes []*Node
	for i := range 100 {
		nodes = append(nodes, on(newNode(fmt.Sprint("n", i)), crowd(10, fmt.Sprint("x", i), requests("cpu", "100m"), ownedBy("rs"))...))
	}
	p := NewPod(newPod("p", requests("cpu", "100m"), ownedBy("rs")))
	for b.Loop() {
		Decide(p, &Cluster{Nodes: nodes})
	}
}

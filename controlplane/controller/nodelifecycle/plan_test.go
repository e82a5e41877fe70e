package nodelifecycle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"coracle/internal/liveness"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newNode(name string, ready corev1.ConditionStatus, changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}, CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))}}
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.NewTime(now.Add(-time.Hour))}}
	}
	for _, f := range changes {
		f(n)
	}
	return n
}

func taint(key string, effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: effect, TimeAdded: &metav1.Time{Time: now}})
	}
}

func alive(n *corev1.Node) State { return State{Node: n, Heard: now} }
func dead(n *corev1.Node) State {
	return State{Node: n, Heard: now.Add(-Grace), Why: "its session ended"}
}

// taints shows a node's taints as KEY:EFFECT, short, after the plan.
func taints(p Plan, n *corev1.Node) string {
	list := n.Spec.Taints
	for _, c := range p.Changes {
		if c.Node.Name == n.Name && c.SetTaints {
			list = c.Taints
		}
	}
	var out []string
	for _, t := range list {
		out = append(out, strings.TrimPrefix(t.Key, "node.kubernetes.io/")+":"+strings.TrimPrefix(string(t.Effect), "No"))
	}
	return strings.Join(out, " ")
}

func TestTaintsFollowFromTheState(t *testing.T) {
	pressure := func(n *corev1.Node) {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue})
	}
	for name, tc := range map[string]struct {
		state State
		want  string
	}{
		"ready":                      {alive(newNode("n", corev1.ConditionTrue)), ""},
		"new, has said nothing":      {alive(newNode("n", "")), "not-ready:Schedule not-ready:Execute"},
		"not ready":                  {alive(newNode("n", corev1.ConditionFalse)), "not-ready:Schedule not-ready:Execute"},
		"lost":                       {dead(newNode("n", corev1.ConditionTrue)), "unreachable:Schedule unreachable:Execute"},
		"lost, was not ready before": {dead(newNode("n", corev1.ConditionFalse, taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule), taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute))), "unreachable:Schedule unreachable:Execute"},
		"back":                       {alive(newNode("n", corev1.ConditionTrue, taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule), taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute))), ""},
		"users' taints stay":         {alive(newNode("n", corev1.ConditionTrue, taint("team", corev1.TaintEffectNoExecute), taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule))), "team:Execute"},
		"cordoned":                   {alive(newNode("n", corev1.ConditionTrue, func(n *corev1.Node) { n.Spec.Unschedulable = true })), "unschedulable:Schedule"},
		"uncordoned":                 {alive(newNode("n", corev1.ConditionTrue, taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule))), ""},
		"disk full":                  {alive(newNode("n", corev1.ConditionTrue, pressure)), "disk-pressure:Schedule"},
	} {
		t.Run(name, func(t *testing.T) {
			p := MakePlan(Input{Nodes: []State{tc.state, alive(newNode("other", corev1.ConditionTrue))}, Now: now})
			if got := taints(p, tc.state.Node); got != tc.want {
				t.Errorf("taints %q, want %q", got, tc.want)
			}
		})
	}
}

func TestALostNodeIsUnknown(t *testing.T) {
	n := newNode("n", corev1.ConditionTrue)
	p := MakePlan(Input{Nodes: []State{dead(n), alive(newNode("other", corev1.ConditionTrue))}, Now: now})
	c := p.Changes[0]
	if !c.NotReady || !slices.Equal(p.Lost, []string{"n"}) || len(c.Conditions) != 4 {
		t.Fatalf("change %+v, lost %v", c, p.Lost)
	}
	ready := c.Conditions[0]
	if ready.Status != corev1.ConditionUnknown || ready.Reason != "NodeStatusUnknown" || !strings.Contains(ready.Message, "its session ended") ||
		!ready.LastHeartbeatTime.Equal(&n.Status.Conditions[0].LastHeartbeatTime) {
		t.Errorf("Ready %+v", ready)
	}
	if c.Conditions[1].Reason != "NodeStatusNeverUpdated" {
		t.Errorf("a condition that was never set: %+v", c.Conditions[1])
	}
	n.Status.Conditions = c.Conditions
	n.Spec.Taints = c.Taints
	p = MakePlan(Input{Nodes: []State{dead(n), alive(newNode("other", corev1.ConditionTrue))}, Now: now.Add(time.Second)})
	if slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Node.Name == "n" }) {
		t.Errorf("plans again: %+v", p.Changes)
	}
}

func TestLooksAgainWhenTheGraceEnds(t *testing.T) {
	s := alive(newNode("n", corev1.ConditionTrue))
	s.Heard = now.Add(-30 * time.Second)
	if p := MakePlan(Input{Nodes: []State{s}, Now: now}); len(p.Changes) != 0 || !p.WakeAt.Equal(now.Add(10*time.Second)) {
		t.Errorf("plan %+v", p)
	}
}

func TestNobodyIsEvictedWhenAllAreLost(t *testing.T) {
	a := newNode("a", corev1.ConditionUnknown, taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoSchedule), taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute))
	b := newNode("b", corev1.ConditionTrue)
	p := MakePlan(Input{Nodes: []State{dead(a), dead(b)}, Now: now})
	for _, n := range []*corev1.Node{a, b} {
		if got := taints(p, n); got != "unreachable:Schedule" {
			t.Errorf("%s has taints %q", n.Name, got)
		}
	}
}

func TestEvictionIsPaced(t *testing.T) {
	var in Input
	for i := range 6 {
		in.Nodes = append(in.Nodes, alive(newNode(fmt.Sprint("alive", i), corev1.ConditionTrue)))
	}
	in.Nodes = append(in.Nodes, dead(newNode("x", corev1.ConditionTrue)), dead(newNode("y", corev1.ConditionTrue)))
	in.Now = now
	evicting := func(p Plan) (n int) {
		for _, c := range p.Changes {
			n += strings.Count(taints(p, c.Node), "Execute") - strings.Count(taints(Plan{}, c.Node), "Execute")
		}
		return n
	}
	p := MakePlan(in)
	if evicting(p) != 1 || !p.WakeAt.Equal(now.Add(evictInterval)) {
		t.Fatalf("evicts from %d nodes at once, looks again at %v", evicting(p), p.WakeAt)
	}
	in.Next = p.Next
	for _, c := range p.Changes {
		c.Node.Spec.Taints = c.Taints
	}
	if p = MakePlan(in); evicting(p) != 0 {
		t.Errorf("evicts from %d more at the same time", evicting(p))
	}
	in.Next, in.Now = p.Next, now.Add(evictInterval)
	for i := range 6 {
		in.Nodes[i].Heard = in.Now
	}
	if p = MakePlan(in); evicting(p) != 1 {
		t.Errorf("evicts from %d nodes when the time has come", evicting(p))
	}
}

func TestASmallDisturbedZoneIsLeftAlone(t *testing.T) {
	zone := func(z string) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = z }
	}
	in := Input{Now: now, Nodes: []State{
		dead(newNode("a", corev1.ConditionTrue, zone("bad"))), dead(newNode("b", corev1.ConditionTrue, zone("bad"))),
		dead(newNode("c", corev1.ConditionTrue, zone("bad"))), alive(newNode("d", corev1.ConditionTrue, zone("bad"))),
		dead(newNode("e", corev1.ConditionTrue, zone("good"))), alive(newNode("f", corev1.ConditionTrue, zone("good"))),
	}}
	p := MakePlan(in)
	for _, c := range p.Changes {
		want := "unreachable:Schedule"
		if c.Node.Name == "e" {
			want += " unreachable:Execute"
		}
		if got := taints(p, c.Node); got != want {
			t.Errorf("%s has taints %q, want %q", c.Node.Name, got, want)
		}
	}
}

// Carrying a plan out leaves nothing to plan at the same moment, however the nodes are, and their order is irrelevant.
func TestPlanSettles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Input{Now: now}
		for i := range rapid.IntRange(1, 8).Draw(t, "nodes") {
			n := newNode(fmt.Sprint("n", i), rapid.SampledFrom([]corev1.ConditionStatus{"", corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}).Draw(t, "ready"))
			n.Labels[corev1.LabelTopologyZone] = rapid.SampledFrom([]string{"", "a"}).Draw(t, "zone")
			for _, k := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, "mine"}), rapid.ID[string]).Draw(t, "taints") {
				taint(k, rapid.SampledFrom([]corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute}).Draw(t, "effect"))(n)
			}
			s := alive(n)
			if rapid.Bool().Draw(t, "dead") {
				s = dead(n)
			}
			in.Nodes = append(in.Nodes, s)
		}
		p := MakePlan(in)
		shuffled := in
		shuffled.Nodes = slices.Clone(in.Nodes)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r.Shuffle(len(shuffled.Nodes), func(i, j int) {
			shuffled.Nodes[i], shuffled.Nodes[j] = shuffled.Nodes[j], shuffled.Nodes[i]
		})
		if diff := cmp.Diff(p, MakePlan(shuffled)); diff != "" {
			t.Fatalf("another order gives another plan:\n%s", diff)
		}
		for _, c := range p.Changes {
			if c.SetTaints {
				c.Node.Spec.Taints = c.Taints
			}
			for _, next := range c.Conditions {
				if has := condition(c.Node, next.Type); has != nil {
					*has = next
				} else {
					c.Node.Status.Conditions = append(c.Node.Status.Conditions, next)
				}
			}
		}
		in.Next = p.Next
		if again := MakePlan(in); len(again.Changes) != 0 {
			t.Fatalf("plans again: %+v", again.Changes)
		}
	})
}

func lease(gateway string, ended bool, renewed time.Time) *coordinationv1.Lease {
	l := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &gateway, RenewTime: &metav1.MicroTime{Time: renewed}}}
	if ended {
		l.Annotations = map[string]string{liveness.SessionEndedAnnotation: renewed.Format(time.RFC3339)}
	}
	return l
}

func TestPulse(t *testing.T) {
	var p Pulse
	n := newNode("n", corev1.ConditionTrue)
	far := now.AddDate(-50, 0, 0) // the gateway's clock
	at := func(d time.Duration, node, gateway *coordinationv1.Lease) time.Duration {
		return p.Node(n, node, p.Gateway("g", gateway, now.Add(d)), now.Add(d)).Sub(now)
	}
	held := lease("g", false, far)
	if got := at(0, held, lease("g", false, far)); got != 0 {
		t.Errorf("heard at %v", got)
	}
	if got := at(30*time.Second, held, lease("g", false, far)); got != 30*time.Second {
		t.Errorf("while the gateway is believed: heard at %v", got)
	}
	if got := at(50*time.Second, held, lease("g", false, far)); got != 30*time.Second {
		t.Errorf("after the gateway fell silent: heard at %v", got)
	}
	if got := at(60*time.Second, held, lease("g", false, far.Add(time.Second))); got != 60*time.Second {
		t.Errorf("after the gateway came back: heard at %v", got)
	}
	if got := at(70*time.Second, held, nil); got != 60*time.Second {
		t.Errorf("after the gateway gave its lease up: heard at %v", got)
	}
	ended := lease("g", true, far)
	if got := at(80*time.Second, ended, lease("g", false, far.Add(2*time.Second))); got != 60*time.Second {
		t.Errorf("after the session ended: heard at %v", got)
	}
	n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(far)
	if got := at(90*time.Second, ended, nil); got != 90*time.Second {
		t.Errorf("after a heartbeat of its own: heard at %v", got)
	}
	n.Status.Conditions[0].Status = corev1.ConditionUnknown
	n.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(far.Add(time.Hour))
	if got := at(100*time.Second, ended, nil); got != 90*time.Second {
		t.Errorf("what this controller wrote itself is no sign of life: heard at %v", got)
	}
	p.Keep(nil)
	if got := at(200*time.Second, ended, nil); got != 200*time.Second {
		t.Errorf("another node of the name starts anew: heard at %v", got)
	}
}

// A gateway may wait a while before it says that a session ended. The grace time counts from the end, by its clock.
func TestPulseCountsFromTheEnd(t *testing.T) {
	far := now.AddDate(-50, 0, 0) // the gateway's clock
	n := newNode("n", corev1.ConditionTrue)
	hear := func(p *Pulse, at time.Duration, node *coordinationv1.Lease, renewed time.Duration) time.Duration {
		believed := p.Gateway("g", lease("g", false, far.Add(renewed)), now.Add(at))
		return p.Node(n, node, believed, now.Add(at)).Sub(now)
	}
	ended := lease("g", true, far.Add(20*time.Second)) // ended 20 s in, told 30 s later
	var p Pulse
	hear(&p, 0, lease("g", false, far), 0)
	hear(&p, 40*time.Second, lease("g", false, far), 40*time.Second)
	if got := hear(&p, 52*time.Second, ended, 50*time.Second); got != 22*time.Second {
		t.Errorf("heard at %v, want 30 s before it was told", got)
	}
	if got := hear(&p, 62*time.Second, ended, 60*time.Second); got != 22*time.Second {
		t.Errorf("heard at %v when looked at again", got)
	}
	var fresh Pulse
	if got := hear(&fresh, 52*time.Second, ended, 50*time.Second); got != 52*time.Second {
		t.Errorf("a process that starts heard at %v, want the whole time anew", got)
	}
}

func TestEvictAt(t *testing.T) {
	tolerate := func(key string, seconds *int64) *corev1.Pod {
		return &corev1.Pod{Spec: corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: key, Operator: corev1.TolerationOpExists, TolerationSeconds: seconds}}}}
	}
	lost := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: now}}
	other := corev1.Taint{Key: "mine", Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: now.Add(time.Hour)}}
	for name, tc := range map[string]struct {
		pod    *corev1.Pod
		taints []corev1.Taint
		at     time.Time
		ok     bool
	}{
		"not tolerated":               {&corev1.Pod{}, []corev1.Taint{lost}, now, true},
		"tolerated for a time":        {tolerate(lost.Key, ptr.To(int64(300))), []corev1.Taint{lost}, now.Add(5 * time.Minute), true},
		"tolerated for no time":       {tolerate(lost.Key, ptr.To(int64(-1))), []corev1.Taint{lost}, now, true},
		"tolerated for ever":          {tolerate(lost.Key, nil), []corev1.Taint{lost}, time.Time{}, false},
		"one of two":                  {tolerate(lost.Key, nil), []corev1.Taint{lost, other}, now.Add(time.Hour), true},
		"the first that ends":         {tolerate("", ptr.To(int64(60))), []corev1.Taint{other, lost}, now.Add(time.Minute), true},
		"a taint that does not evict": {&corev1.Pod{}, []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}, time.Time{}, false},
	} {
		if at, ok := EvictAt(tc.pod, tc.taints); ok != tc.ok || !at.Equal(tc.at) {
			t.Errorf("%s: at %v %v, want %v %v", name, at, ok, tc.at, tc.ok)
		}
	}
}

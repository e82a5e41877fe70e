package service

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
)

func svc(change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.0.0.5", ClusterIPs: []string{"10.0.0.5"}, Selector: map[string]string{"a": "b"},
			Ports: []corev1.ServicePort{{Name: "a", Port: 80, Protocol: "TCP"}},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func typed(t corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = t }
}

func ported(n ...int32) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeNodePort
		s.Spec.Ports = nil
		for i, p := range n {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: int32(80 + i), Protocol: "TCP", NodePort: p})
		}
	}
}

func TestReconcile(t *testing.T) {
	external := func(s *corev1.Service) {
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.org"
	}
	for name, tc := range map[string]struct {
		old, obj *corev1.Service
		check    func(*corev1.Service) bool
	}{
		"address left out":     {svc(), svc(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil }), func(s *corev1.Service) bool { return s.Spec.ClusterIP == "10.0.0.5" && len(s.Spec.ClusterIPs) == 1 }},
		"list left out":        {svc(), svc(func(s *corev1.Service) { s.Spec.ClusterIPs = nil }), func(s *corev1.Service) bool { return len(s.Spec.ClusterIPs) == 1 }},
		"address changed":      {svc(), svc(func(s *corev1.Service) { s.Spec.ClusterIP = "10.0.0.6" }), func(s *corev1.Service) bool { return s.Spec.ClusterIPs[0] == "10.0.0.6" }},
		"to external":          {svc(), svc(external), func(s *corev1.Service) bool { return s.Spec.ClusterIP == "" && s.Spec.ClusterIPs == nil }},
		"to external, changed": {svc(), svc(external, func(s *corev1.Service) { s.Spec.ClusterIP = "10.0.0.9" }), func(s *corev1.Service) bool { return s.Spec.ClusterIP == "10.0.0.9" }},
		"node port left out":   {svc(ported(30001)), svc(ported(0)), func(s *corev1.Service) bool { return s.Spec.Ports[0].NodePort == 30001 }},
		"node port moved": {svc(ported(30001, 30002)), svc(ported(30002, 0)), func(s *corev1.Service) bool {
			return s.Spec.Ports[0].NodePort == 30002 && s.Spec.Ports[1].NodePort == 0
		}},
		"to cluster IP": {svc(ported(30001)), svc(ported(30001), typed(corev1.ServiceTypeClusterIP)), func(s *corev1.Service) bool { return s.Spec.Ports[0].NodePort == 0 }},
		"policy goes with the type": {
			svc(ported(30001), func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster }),
			svc(func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster }),
			func(s *corev1.Service) bool { return s.Spec.ExternalTrafficPolicy == "" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			Reconcile(tc.obj, tc.old)
			if !tc.check(tc.obj) {
				t.Errorf("got %+v", tc.obj.Spec)
			}
			once := tc.obj.DeepCopy()
			Reconcile(tc.obj, tc.old)
			if !equalSpec(once, tc.obj) {
				t.Errorf("a second time changes it: %+v", tc.obj.Spec)
			}
		})
	}
}

func equalSpec(a, b *corev1.Service) bool { return a.Spec.String() == b.Spec.String() }

func TestSetFamilies(t *testing.T) {
	headlessOf := func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }
	noSelector := func(s *corev1.Service) { s.Spec.Selector = nil }
	policy := func(p corev1.IPFamilyPolicy) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.IPFamilyPolicy = &p }
	}
	for name, tc := range map[string]struct {
		s        *corev1.Service
		policy   corev1.IPFamilyPolicy
		families int
		errs     int
	}{
		"plain":                      {svc(), "SingleStack", 1, 0},
		"prefers both":               {svc(policy("PreferDualStack")), "PreferDualStack", 1, 0},
		"needs both":                 {svc(policy("RequireDualStack")), "RequireDualStack", 1, 1},
		"the other family":           {svc(func(s *corev1.Service) { s.Spec.IPFamilies = []corev1.IPFamily{"IPv6"} }), "SingleStack", 1, 1},
		"headless":                   {svc(headlessOf), "SingleStack", 1, 0},
		"headless without selector":  {svc(headlessOf, noSelector), "SingleStack", 1, 0},
		"headless, both, no selecto": {svc(headlessOf, noSelector, policy("PreferDualStack")), "PreferDualStack", 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			errs := SetFamilies(tc.s, corev1.IPv4Protocol)
			if len(errs) != tc.errs || *tc.s.Spec.IPFamilyPolicy != tc.policy || len(tc.s.Spec.IPFamilies) != tc.families {
				t.Errorf("got %v, %s, %v", errs, *tc.s.Spec.IPFamilyPolicy, tc.s.Spec.IPFamilies)
			}
		})
	}
	ext := svc(typed(corev1.ServiceTypeExternalName))
	if errs := SetFamilies(ext, corev1.IPv4Protocol); len(errs) != 0 || ext.Spec.IPFamilyPolicy != nil {
		t.Errorf("external names have no family: %v %v", errs, ext.Spec)
	}
}

func TestAddressArithmetic(t *testing.T) {
	small := netip.MustParsePrefix("10.0.0.0/28")
	if hosts(small) != 14 || host(small, 0).String() != "10.0.0.1" || host(small, 13).String() != "10.0.0.14" {
		t.Errorf("/28: %d hosts from %s to %s", hosts(small), host(small, 0), host(small, 13))
	}
	for text, want := range map[string]bool{"10.0.0.0": false, "10.0.0.1": true, "10.0.0.14": true, "10.0.0.15": false, "10.0.1.1": false} {
		if got := usable(small, netip.MustParseAddr(text)); got != want {
			t.Errorf("%s usable: %v", text, got)
		}
	}
	six := netip.MustParsePrefix("fd00::/112")
	if hosts(six) != 65535 || host(six, 65534).String() != "fd00::ffff" || !usable(six, netip.MustParseAddr("fd00::ffff")) {
		t.Errorf("/112: %d hosts to %s", hosts(six), host(six, 65534))
	}
	if got := staticHosts(hosts(netip.MustParsePrefix("10.96.0.0/16"))); got != 256 {
		t.Errorf("static part of a /16: %d", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 96, 0, 0}), rapid.IntRange(8, 30).Draw(t, "bits"))
		i := rapid.Uint64Range(0, hosts(prefix)-1).Draw(t, "i")
		if !usable(prefix.Masked(), host(prefix, i)) {
			t.Fatalf("host %d of %s is %s, which is not usable", i, prefix, host(prefix, i))
		}
	})
}

// TestBitmapGivesEachBitOnce takes bits until there are none, giving some back between.
func TestBitmapGivesEachBitOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "n")
		static := rapid.IntRange(0, n).Draw(t, "static")
		b := bitmap(nil).sized(n)
		taken := map[int]bool{}
		dynamicLeft := func() bool {
			for i := static; i < n; i++ {
				if !taken[i] {
					return true
				}
			}
			return false
		}
		for len(taken) < n {
			left := dynamicLeft()
			bit, err := b.next(n, static, func(m int) int { return rapid.IntRange(0, m-1).Draw(t, "start") })
			if err != nil || taken[bit] || bit < 0 || bit >= n {
				t.Fatalf("bit %d of %d: %v", bit, n, err)
			}
			if left && bit < static {
				t.Fatalf("bit %d of the static part while others are free", bit)
			}
			b.set(bit)
			taken[bit] = true
			if rapid.IntRange(0, 9).Draw(t, "give back") == 0 {
				b.clear(bit)
				delete(taken, bit)
			}
		}
		if _, err := b.next(n, static, func(int) int { return 0 }); err == nil {
			t.Fatal("a full bitmap gave a bit")
		}
	})
}

func TestAssignPorts(t *testing.T) {
	r := PortRange{First: 30000, Last: 30009}
	first := func(int) int { return 0 }
	used := func(ports ...int) bitmap {
		b := bitmap(nil).sized(r.size())
		for _, p := range ports {
			b.set(p - r.First)
		}
		return b
	}
	for name, tc := range map[string]struct {
		b       bitmap
		s, old  *corev1.Service
		want    []int32
		claimed int
		errs    int
	}{
		"any":                   {used(), svc(ported(0)), nil, []int32{30005}, 1, 0},
		"chosen":                {used(), svc(ported(30003)), nil, []int32{30003}, 1, 0},
		"taken":                 {used(30003), svc(ported(30003)), nil, []int32{30003}, 0, 1},
		"outside":               {used(), svc(ported(40000)), nil, []int32{40000}, 0, 1},
		"held already":          {used(30003), svc(ported(30003)), svc(ported(30003)), []int32{30003}, 0, 0},
		"one more":              {used(30003), svc(ported(30003, 0)), svc(ported(30003)), []int32{30003, 30005}, 1, 0},
		"chosen before given":   {used(), svc(ported(0, 30005)), nil, []int32{30006, 30005}, 2, 0},
		"full":                  {used(30000, 30001, 30002, 30003, 30004, 30005, 30006, 30007, 30008, 30009), svc(ported(0)), nil, []int32{0}, 0, 1},
		"cluster IP needs none": {used(), svc(), nil, []int32{0}, 0, 0},
		"balancer without": {
			used(), svc(ported(0), typed(corev1.ServiceTypeLoadBalancer), func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = ptr.To(false) }),
			nil, []int32{0}, 0, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(tc.b)
			plan, errs := assignPorts(tc.b, r, tc.s, tc.old, first)
			if !slices.Equal(plan.nodePorts, tc.want) || len(plan.claimed) != tc.claimed || len(errs) != tc.errs {
				t.Errorf("got %v claimed %v: %v", plan.nodePorts, plan.claimed, errs)
			}
			for _, p := range plan.claimed {
				if !tc.b.has(int(p)-r.First) || before.has(int(p)-r.First) {
					t.Errorf("%d is claimed and was not free, or is not marked", p)
				}
			}
		})
	}
}

func TestPlanRepair(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	prefix := netip.MustParsePrefix("10.0.0.0/24")
	r := PortRange{First: 30000, Last: 30099}
	claim := func(ip, name string, age time.Duration) networkingv1.IPAddress {
		a := addressObject(netip.MustParseAddr(ip), svc(func(s *corev1.Service) { s.Name = name }))
		a.CreationTimestamp = metav1.NewTime(now.Add(-age))
		return *a
	}
	foreign := claim("10.0.0.20", "nobody", time.Hour)
	foreign.Labels = nil
	b := bitmap(nil).sized(r.size())
	b.set(7)  // used
	b.set(8)  // leaked
	b.set(50) // leaked just now
	seen := leaks{30008: now.Add(-time.Hour)}
	got := planRepair(
		[]corev1.Service{*svc(ported(30007, 30009))},
		[]networkingv1.IPAddress{claim("10.0.0.6", "s", time.Hour), claim("10.0.0.7", "s", time.Second), foreign},
		b, prefix, r, seen, now)
	if len(got.missing) != 1 || got.missing[netip.MustParseAddr("10.0.0.5")] == nil {
		t.Errorf("missing: %v", got.missing)
	}
	if len(got.orphans) != 1 || got.orphans[0].Name != "10.0.0.6" {
		t.Errorf("orphans: %v", got.orphans)
	}
	if !slices.Equal(got.lost, []int32{30009}) || !slices.Equal(got.leaked, []int32{30008}) {
		t.Errorf("ports: lost %v leaked %v", got.lost, got.leaked)
	}
	if seen[30050] != now {
		t.Errorf("a fresh suspect is not remembered: %v", seen)
	}
	agree := planRepair([]corev1.Service{*svc()}, []networkingv1.IPAddress{claim("10.0.0.5", "s", time.Hour)}, bitmap(nil).sized(r.size()), prefix, r, leaks{}, now)
	if !agree.empty() {
		t.Errorf("nothing to mend, got %+v", agree)
	}
}

// FuzzStoredPorts reads a bitmap as it comes back from etcd, where anything may have been written.
func FuzzStoredPorts(f *testing.F) {
	f.Add("30000-32767", []byte{1, 2, 3})
	f.Add("30000-30001", []byte{255})
	f.Add("", []byte(nil))
	f.Add("9-1", []byte{1})
	f.Add("-5-70000", []byte{1})
	f.Fuzz(func(t *testing.T, stored string, data []byte) {
		p := &ports{r: PortRange{First: 30000, Last: 32767}}
		b, err := p.bits(&corev1.RangeAllocation{Range: stored, Data: data})
		if err == nil && len(b) != (p.r.size()+7)/8 {
			t.Fatalf("bitmap of %d bytes", len(b))
		}
	})
}

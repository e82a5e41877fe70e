package nodeipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

func newNode(name string, cidrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: cidrs}}
	if len(cidrs) > 0 {
		n.Spec.PodCIDR = cidrs[0]
	}
	return n
}

func TestParsePools(t *testing.T) {
	for in, want := range map[string]string{
		"10.244.0.0/16":                   "[{10.244.0.0/16 24}]",
		"10.244.7.9/16":                   "[{10.244.0.0/16 24}]",
		"10.244.0.0/16, fd00:10:244::/56": "[{10.244.0.0/16 24} {fd00:10:244::/56 64}]",
		"10.0.0.0/8":                      "[{10.0.0.0/8 24}]",
		"10.244.0.0/25":                   "cannot be cut",
		"10.244.0.0":                      "parse the pod range",
		"":                                "parse the pod range",
		"10.0.0.0/16,10.1.0.0/16":         "one of each family",
		"fd00::/16":                       "cannot be cut",
	} {
		pools, err := ParsePools(in, 0)
		if got := fmt.Sprint(pools, err); !strings.Contains(got, want) {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func FuzzParsePools(f *testing.F) {
	f.Add("10.244.0.0/16,fd00::/56", 24)
	f.Add("0.0.0.0/0", 0)
	f.Fuzz(func(t *testing.T, text string, mask int) {
		pools, err := ParsePools(text, mask)
		if err != nil {
			return
		}
		assign, _ := MakePlan(pools, []*corev1.Node{newNode("a"), newNode("b")})
		for _, a := range assign {
			for i, c := range a.CIDRs {
				p := netip.MustParsePrefix(c)
				if p != p.Masked() || !pools[i].Prefix.Contains(p.Addr()) || p.Bits() != pools[i].Bits {
					t.Errorf("%q: gave %s", text, c)
				}
			}
		}
	})
}

func TestKeepsAndReuses(t *testing.T) {
	pools, err := ParsePools("10.244.0.0/22", 24)
	if err != nil {
		t.Fatal(err)
	}
	nodes := []*corev1.Node{newNode("a", "10.244.1.0/24"), newNode("b", "10.244.2.0/23"), newNode("foreign", "192.168.0.0/24"), newNode("c"), newNode("d")}
	assign, full := MakePlan(pools, nodes)
	if got := fmt.Sprint(assign, full); got != "[{c [10.244.0.0/24]}] [d]" {
		t.Errorf("got %s", got)
	}
	assign, full = MakePlan(pools, nodes[2:]) // a and b were deleted
	if got := fmt.Sprint(assign, full); got != "[{c [10.244.0.0/24]} {d [10.244.1.0/24]}] []" {
		t.Errorf("got %s", got)
	}
}

// Nodes come and go: ranges in use never overlap, and nobody goes without while there is one left.
func TestNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pools, err := ParsePools("10.244.0.0/20,fd00::/60", 24)
		if err != nil {
			t.Fatal(err)
		}
		var nodes []*corev1.Node
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(nodes) > 0 && rapid.Bool().Draw(t, "delete") {
				at := rapid.IntRange(0, len(nodes)-1).Draw(t, "which")
				nodes = slices.Delete(nodes, at, at+1)
			} else {
				nodes = append(nodes, newNode(fmt.Sprint("n", i)))
			}
			assign, full := MakePlan(pools, nodes)
			for _, a := range assign {
				for _, n := range nodes {
					if n.Name == a.Node {
						n.Spec.PodCIDR, n.Spec.PodCIDRs = a.CIDRs[0], a.CIDRs
					}
				}
			}
			var used []netip.Prefix
			for _, n := range nodes {
				for _, c := range n.Spec.PodCIDRs {
					p := netip.MustParsePrefix(c)
					for _, u := range used {
						if u.Overlaps(p) {
							t.Fatalf("%s overlaps %s", p, u)
						}
					}
					used = append(used, p)
				}
			}
			if len(full) != max(0, len(nodes)-16) {
				t.Fatalf("%d of %d nodes go without", len(full), len(nodes))
			}
		}
	})
}

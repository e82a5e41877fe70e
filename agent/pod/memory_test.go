package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func TestMemoryPolicy(t *testing.T) {
	const mi = 1 << 20
	src := Sources{MemoryBytes: 1000 * mi, Allocatable: v1.ResourceList{v1.ResourceMemory: resource.MustParse("800Mi")}}
	for name, test := range map[string]struct {
		policy               MemoryPolicy
		c                    v1.Container
		priority             int32
		low, least, high, sw int64
	}{
		"nothing by default":     {MemoryPolicy{}, withSize("a", "1/100Mi", "1/200Mi"), 0, 0, 0, 0, 0},
		"reserved, burstable":    {MemoryPolicy{Reserve: true}, withSize("a", "1/100Mi", "1/200Mi"), 0, 100 * mi, 0, 0, 0},
		"reserved, guaranteed":   {MemoryPolicy{Reserve: true}, withSize("a", "1/100Mi", "1/100Mi"), 0, 0, 100 * mi, 0, 0},
		"reserved, best effort":  {MemoryPolicy{Reserve: true}, container("a"), 0, 0, 0, 0, 0},
		"throttled":              {MemoryPolicy{Throttling: 0.5}, withSize("a", "1/100Mi", "1/200Mi"), 0, 0, 0, 150 * mi, 0},
		"throttled, no limit":    {MemoryPolicy{Throttling: 0.5}, withSize("a", "1/100Mi", "-/-"), 0, 0, 0, 450 * mi, 0},
		"throttled, best effort": {MemoryPolicy{Throttling: 0.5}, container("a"), 0, 0, 0, 400 * mi, 0},
		"throttled, guaranteed":  {MemoryPolicy{Throttling: 0.5}, withSize("a", "1/100Mi", "1/100Mi"), 0, 0, 0, 0, 0},
		"swap":                   {MemoryPolicy{SwapBytes: 500 * mi}, withSize("a", "1/100Mi", "1/200Mi"), 0, 0, 0, 0, 50 * mi},
		"swap, limit asked for":  {MemoryPolicy{SwapBytes: 500 * mi}, withSize("a", "500m/100Mi", "1/100Mi"), 0, 0, 0, 0, 0},
		"swap, best effort":      {MemoryPolicy{SwapBytes: 500 * mi}, container("a"), 0, 0, 0, 0, 0},
		"swap, critical":         {MemoryPolicy{SwapBytes: 500 * mi}, withSize("a", "1/100Mi", "1/200Mi"), systemCriticalPriority, 0, 0, 0, 0},
	} {
		p := newPod(test.c)
		p.Spec.Priority = &test.priority
		src.Memory = test.policy
		got := ResolveResources(p, &p.Spec.Containers[0], src)
		if got.MemoryLow != test.low || got.MemoryMin != test.least || got.MemoryHigh != test.high || got.SwapBytes != test.sw {
			t.Errorf("%s: low %d, min %d, high %d, swap %d", name, got.MemoryLow, got.MemoryMin, got.MemoryHigh, got.SwapBytes)
		}
	}
}

// What the pod as a whole asks for and no container does counts for all of them.
func TestOOMScoreOfPodLevelResources(t *testing.T) {
	const gi = 1 << 30
	p := newPod(withSize("a", "-/1Gi", "-/-"), container("b"))
	if a, b := OOMScoreAdj(p, &p.Spec.Containers[0], 10*gi), OOMScoreAdj(p, &p.Spec.Containers[1], 10*gi); a != 900 || b != 999 {
		t.Errorf("without: %d and %d", a, b)
	}
	p.Spec.Resources = ptr.To(resources("1/3Gi", "-/-"))
	if a, b := OOMScoreAdj(p, &p.Spec.Containers[0], 10*gi), OOMScoreAdj(p, &p.Spec.Containers[1], 10*gi); a != 800 || b != 900 {
		t.Errorf("with 3Gi for the pod: %d and %d", a, b)
	}
}

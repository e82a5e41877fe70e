package service

import (
	"context"
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/storage"
)

// portsKey is where kube-apiserver keeps the same object.
const portsKey = "/ranges/servicenodeports"

// ports claims node ports in one bitmap in etcd, by compare-and-swap.
type ports struct {
	storage storage.Interface
	close   func()
	r       PortRange
}

func newPorts(options generic.RESTOptionsGetter, r PortRange) (*ports, error) {
	resource := schema.GroupResource{Resource: "servicenodeportallocations"}
	opts, err := options.GetRESTOptions(resource, &corev1.RangeAllocation{})
	if err != nil {
		return nil, fmt.Errorf("storage of node ports: %w", err)
	}
	s, closeStorage, err := generic.NewRawStorage(opts.StorageConfig,
		func() runtime.Object { return &corev1.RangeAllocation{} }, func() runtime.Object { return &corev1.RangeAllocation{} }, "/ranges")
	if err != nil {
		return nil, fmt.Errorf("storage of node ports: %w", err)
	}
	return &ports{storage: s, close: closeStorage, r: r}, nil
}

// update changes the bitmap in one transaction. change may run several times; its error ends the attempt. Nothing is
// written when nothing changed.
func (p *ports) update(ctx context.Context, change func(b bitmap) error) error {
	err := p.storage.GuaranteedUpdate(ctx, portsKey, &corev1.RangeAllocation{}, true, nil,
		storage.SimpleUpdate(func(existing runtime.Object) (runtime.Object, error) {
			found := existing.(*corev1.RangeAllocation)
			bits, err := p.bits(found)
			if err != nil {
				return nil, err
			}
			if err := change(bits); err != nil {
				return nil, err
			}
			found.Range, found.Data = p.r.String(), bits
			return found, nil
		}), nil)
	return err
}

// dryRun does what update does and stores nothing.
func (p *ports) dryRun(ctx context.Context, change func(b bitmap) error) error {
	found := &corev1.RangeAllocation{}
	if err := p.storage.Get(ctx, portsKey, storage.GetOptions{IgnoreNotFound: true}, found); err != nil {
		return fmt.Errorf("read node ports: %w", err)
	}
	bits, err := p.bits(found)
	if err != nil {
		return err
	}
	return change(bits)
}

// bits reads the stored bitmap. One of another range is moved over: the configuration changed.
func (p *ports) bits(found *corev1.RangeAllocation) (bitmap, error) {
	out := bitmap(nil).sized(p.r.size())
	if found.Range == "" || found.Range == p.r.String() {
		copy(out, found.Data)
		return out, nil
	}
	var was PortRange
	if _, err := fmt.Sscanf(found.Range, "%d-%d", &was.First, &was.Last); err != nil {
		return nil, fmt.Errorf("read stored range %q: %w", found.Range, err)
	}
	old := bitmap(found.Data)
	for port := max(p.r.First, was.First); port <= min(p.r.Last, was.Last); port++ {
		if old.has(port - was.First) {
			out.set(port - p.r.First)
		}
	}
	return out, nil
}

// random returns a number in [0, n).
func random(n int) int { return rand.IntN(n) }

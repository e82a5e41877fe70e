package coordination

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/registry/kind"
	"coracle/internal/liveness"
)

// Sessions tells which nodes hold a session, here or at another gateway.
type Sessions interface {
	Alive(node string) bool
}

// REST serves leases. A node's lease is written when its session begins or ends and never between, so readers of it are
// shown the present as its renew time while the session lives. What is stored does not change, and watches show what
// is stored.
type REST struct {
	*kind.REST
	sessions Sessions
	now      func() time.Time
}

// Build makes the storage of leases. Without sessions, leases are shown as they are stored.
func Build(env kind.Env, sessions Sessions) (*REST, error) {
	main, _, err := Leases().Build(env)
	if err != nil {
		return nil, err
	}
	return &REST{REST: main, sessions: sessions, now: time.Now}, nil
}

// Get implements rest.Getter.
func (r *REST) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	obj, err := r.REST.Get(ctx, name, options)
	if err != nil {
		return nil, err
	}
	if lease, ok := obj.(*coordinationv1.Lease); ok && r.live(lease) {
		lease = lease.DeepCopy()
		freshen(lease, r.now())
		return lease, nil
	}
	return obj, nil
}

// List implements rest.Lister.
func (r *REST) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	obj, err := r.REST.List(ctx, options)
	if err != nil {
		return nil, err
	}
	list, ok := obj.(*coordinationv1.LeaseList)
	if !ok {
		return obj, nil
	}
	for i := range list.Items {
		if r.live(&list.Items[i]) {
			// The items are copies that share what they point to with the watch cache: pointers are replaced, not followed.
			freshen(&list.Items[i], r.now())
		}
	}
	return list, nil
}

func (r *REST) live(l *coordinationv1.Lease) bool {
	return r.sessions != nil && l.Namespace == liveness.NodeLeaseNamespace && liveness.ReadSession(l).Live() && r.sessions.Alive(l.Name)
}

func freshen(l *coordinationv1.Lease, now time.Time) {
	l.Spec.RenewTime = &metav1.MicroTime{Time: now.Truncate(time.Microsecond)}
}

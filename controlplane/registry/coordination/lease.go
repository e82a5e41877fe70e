package coordination

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
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
// shown the present as its renew time while the session lives.
type REST = kind.Shown[coordinationv1.Lease]

// Build makes the storage of leases. Without sessions, leases are shown as they are stored.
func Build(env kind.Env, sessions Sessions) (*REST, error) {
	main, _, err := Leases().Build(env)
	if err != nil {
		return nil, err
	}
	return &REST{
		REST: main,
		Items: func(list runtime.Object) []coordinationv1.Lease {
			leases, ok := list.(*coordinationv1.LeaseList)
			if !ok {
				return nil
			}
			return leases.Items
		},
		Freshen: func(l *coordinationv1.Lease) { freshen(l, sessions, time.Now()) },
	}, nil
}

func freshen(l *coordinationv1.Lease, sessions Sessions, now time.Time) {
	if sessions != nil && l.Namespace == liveness.NodeLeaseNamespace && liveness.ReadSession(l).Live() && sessions.Alive(l.Name) {
		l.Spec.RenewTime = &metav1.MicroTime{Time: now.Truncate(time.Microsecond)}
	}
}

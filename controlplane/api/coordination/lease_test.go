package coordination

import (
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

func TestLease(t *testing.T) {
	ptr := func(n int32) *int32 { return &n }
	holder, strategy := "h", coordinationv1.CoordinatedLeaseStrategy("a b")
	lease := func(spec coordinationv1.LeaseSpec) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "l", Namespace: "ns", ResourceVersion: "1"}, Spec: spec}
	}
	for _, tc := range []struct {
		name string
		spec coordinationv1.LeaseSpec
		want []string
	}{
		{"empty", coordinationv1.LeaseSpec{}, nil},
		{"sound", coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: ptr(15), LeaseTransitions: ptr(0)}, nil},
		{"numbers", coordinationv1.LeaseSpec{LeaseDurationSeconds: ptr(0), LeaseTransitions: ptr(-1)}, []string{"Invalid spec.leaseDurationSeconds", "Invalid spec.leaseTransitions"}},
		{"strategy", coordinationv1.LeaseSpec{Strategy: &strategy}, []string{"Invalid spec.strategy"}},
		{"holder without strategy", coordinationv1.LeaseSpec{PreferredHolder: &holder}, []string{"Forbidden spec.preferredHolder"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect.Errors(t, ValidateLease(lease(tc.spec)), tc.want...)
			expect.Errors(t, ValidateLeaseUpdate(lease(tc.spec), lease(coordinationv1.LeaseSpec{})), tc.want...)
		})
	}
	expect.Errors(t, ValidateLease(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "A"}}), "Invalid metadata.name", "Required metadata.namespace")
}

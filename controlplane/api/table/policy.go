package table

import (
	"reflect"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/utils/ptr"
)

func policyPrinters() map[reflect.Type]printer {
	return map[reflect.Type]printer{
		typeOf[coordinationv1.Lease](): of(columns(nameColumn, text("Holder"), ageColumn),
			func(o *coordinationv1.Lease, now time.Time) []any {
				return []any{o.Name, ptr.Deref(o.Spec.HolderIdentity, ""), age(o, now)}
			}),
		typeOf[policyv1.PodDisruptionBudget](): of(columns(nameColumn, text("Min Available"), text("Max Unavailable"), number("Allowed Disruptions"), ageColumn),
			func(o *policyv1.PodDisruptionBudget, now time.Time) []any {
				least, most := "N/A", "N/A"
				if o.Spec.MinAvailable != nil {
					least = o.Spec.MinAvailable.String()
				} else if o.Spec.MaxUnavailable != nil {
					most = o.Spec.MaxUnavailable.String()
				}
				return []any{o.Name, least, most, int64(o.Status.DisruptionsAllowed), age(o, now)}
			}),
		typeOf[schedulingv1.PriorityClass](): of(columns(nameColumn, number("Value"), boolean("Global-Default"), ageColumn, text("PreemptionPolicy")),
			func(o *schedulingv1.PriorityClass, now time.Time) []any {
				return []any{o.Name, int64(o.Value), o.GlobalDefault, age(o, now), string(ptr.Deref(o.PreemptionPolicy, corev1.PreemptLowerPriority))}
			}),
		typeOf[nodev1.RuntimeClass](): of(columns(nameColumn, text("Handler"), ageColumn),
			func(o *nodev1.RuntimeClass, now time.Time) []any { return []any{o.Name, o.Handler, age(o, now)} }),
	}
}

package policy

import (
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"coracle/controlplane/api/expect"
)

func TestEviction(t *testing.T) {
	orphan, policy := true, metav1.DeletePropagationOrphan
	expect.Errors(t, ValidateEviction(&policyv1.Eviction{}))
	expect.Errors(t, ValidateEviction(&policyv1.Eviction{DeleteOptions: &metav1.DeleteOptions{OrphanDependents: &orphan, PropagationPolicy: &policy}}), "Invalid propagationPolicy")
	expect.Errors(t, ValidateEviction(&policyv1.Eviction{DeleteOptions: &metav1.DeleteOptions{DryRun: []string{"Some"}}}), "NotSupported dryRun")
}

func TestPodDisruptionBudget(t *testing.T) {
	value := func(v intstr.IntOrString) *intstr.IntOrString { return &v }
	sometimes := policyv1.UnhealthyPodEvictionPolicyType("Sometimes")
	budget := func(spec policyv1.PodDisruptionBudgetSpec) *policyv1.PodDisruptionBudget {
		return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "ns", ResourceVersion: "1"}, Spec: spec}
	}
	sound := budget(policyv1.PodDisruptionBudgetSpec{MinAvailable: value(intstr.FromString("50%"))})
	expect.Errors(t, ValidatePodDisruptionBudget(sound))
	expect.Errors(t, ValidatePodDisruptionBudget(budget(policyv1.PodDisruptionBudgetSpec{
		MinAvailable: value(intstr.FromString("101%")), MaxUnavailable: value(intstr.FromInt32(-1)), UnhealthyPodEvictionPolicy: &sometimes,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b c"}},
	})), "Invalid spec", "Invalid spec.minAvailable", "Invalid spec.maxUnavailable", "NotSupported spec.unhealthyPodEvictionPolicy", "Invalid spec.selector.matchLabels")
	expect.Errors(t, ValidatePodDisruptionBudgetUpdate(budget(policyv1.PodDisruptionBudgetSpec{MinAvailable: value(intstr.FromString("x"))}), sound), "Invalid spec.minAvailable")
	bad := sound.DeepCopy()
	bad.Status.DesiredHealthy = -1
	expect.Errors(t, ValidatePodDisruptionBudgetStatusUpdate(bad, sound), "Invalid status.desiredHealthy")
}

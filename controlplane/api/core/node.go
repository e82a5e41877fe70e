package core

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateNode judges a node about to be created.
func ValidateNode(n *corev1.Node) field.ErrorList {
	errs := validateMeta(&n.ObjectMeta, false, subdomainName)
	errs = append(errs, validateTaints(n.Spec.Taints, specPath.Child("taints"))...)
	errs = append(errs, validateNodeResources(n)...)
	return append(errs, validatePodCIDRs(n.Spec.PodCIDRs, specPath.Child("podCIDRs"))...)
}

func validateTaints(list []corev1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type pair struct {
		key    string
		effect corev1.TaintEffect
	}
	seen := map[pair]bool{}
	for i, t := range list {
		at := path.Index(i)
		errs = append(errs, metavalidation.ValidateLabelName(t.Key, at.Child("key"))...)
		errs = append(errs, invalidEach(at.Child("value"), t.Value, validation.IsValidLabelValue(t.Value))...)
		errs = append(errs, oneOf(t.Effect, at.Child("effect"), corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)...)
		p := pair{t.Key, t.Effect}
		if seen[p] {
			dup := field.Duplicate(at, t)
			dup.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, dup)
		}
		seen[p] = true
	}
	return errs
}

func validateNodeResources(n *corev1.Node) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct {
		name string
		list corev1.ResourceList
	}{{"capacity", n.Status.Capacity}, {"allocatable", n.Status.Allocatable}} {
		for _, name := range names(part.list) {
			errs = append(errs, validateQuantity(name, part.list[name], statusPath.Child(part.name, string(name)))...)
		}
	}
	return errs
}

// validatePodCIDRs wants one range, or one of each family.
func validatePodCIDRs(list []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	four, six := 0, 0
	for i, c := range list {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), c, strictIPs, nil)...)
		if slices.Contains(list[:i], c) {
			errs = append(errs, field.Duplicate(path.Index(i), c))
		}
		switch p, err := netip.ParsePrefix(c); {
		case err != nil:
		case p.Addr().Is4():
			four++
		default:
			six++
		}
	}
	if four > 1 || six > 1 {
		errs = append(errs, field.Invalid(path, list, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

// ValidateNodeUpdate judges an update: address range and provider's name may be
// given once.
func ValidateNodeUpdate(n, old *corev1.Node) field.ErrorList {
	errs := validateMetaUpdate(&n.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateNodeResources(n)...)
	seen := map[corev1.NodeAddress]bool{}
	for i, a := range n.Status.Addresses {
		if seen[a] {
			errs = append(errs, field.Duplicate(statusPath.Child("addresses").Index(i), a))
		}
		seen[a] = true
	}
	if len(old.Spec.PodCIDRs) > 0 {
		if !slices.Equal(n.Spec.PodCIDRs, old.Spec.PodCIDRs) {
			errs = append(errs, field.Forbidden(specPath.Child("podCIDRs"), `node updates may not change podCIDR except from "" to valid`))
		}
	} else {
		errs = append(errs, validatePodCIDRs(n.Spec.PodCIDRs, specPath.Child("podCIDRs"))...)
	}
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(specPath.Child("providerID"), `node updates may not change providerID except from "" to valid`))
	}
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(specPath.Child("externalID"), "may not be updated"))
	}
	return append(errs, validateTaints(n.Spec.Taints, specPath.Child("taints"))...)
}

// ValidateNodeStatusUpdate judges an update of the status.
func ValidateNodeStatusUpdate(n, old *corev1.Node) field.ErrorList {
	return ValidateNodeUpdate(n, old)
}

package networking

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

// ValidateServiceCIDR judges a range of cluster IPs about to be created: one range, or one of each family.
func ValidateServiceCIDR(c *networkingv1.ServiceCIDR) field.ErrorList {
	return append(validateMeta(&c.ObjectMeta, false), validateCIDRs(c.Spec.CIDRs, specPath.Child("cidrs"))...)
}

// ValidateServiceCIDRUpdate judges an update: the ranges stay, but the other family may be added.
func ValidateServiceCIDRUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	errs := validateMetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	at := specPath.Child("cidrs")
	if len(old.Spec.CIDRs) == 1 && len(c.Spec.CIDRs) == 2 && c.Spec.CIDRs[0] == old.Spec.CIDRs[0] {
		return append(errs, validateCIDRs(c.Spec.CIDRs, at)...)
	}
	if !slices.Equal(c.Spec.CIDRs, old.Spec.CIDRs) {
		errs = append(errs, field.Invalid(at, c.Spec.CIDRs, apivalidation.FieldImmutableErrorMsg))
	}
	return errs
}

// ValidateServiceCIDRStatusUpdate judges an update of the status.
func ValidateServiceCIDRStatusUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	return validateMetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
}

func validateCIDRs(cidrs []string, at *field.Path) field.ErrorList {
	switch {
	case len(cidrs) == 0:
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	case len(cidrs) > 2:
		return field.ErrorList{field.Invalid(at, cidrs, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	for i, text := range cidrs {
		errs = append(errs, validation.IsValidCIDR(at.Index(i), text)...)
	}
	if len(cidrs) == 2 && len(errs) == 0 && netutils.IsIPv6CIDRString(cidrs[0]) == netutils.IsIPv6CIDRString(cidrs[1]) {
		errs = append(errs, field.Invalid(at, cidrs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96"))
	}
	return errs
}

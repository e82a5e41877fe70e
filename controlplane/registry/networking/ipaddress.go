// Package networking serves ingresses and their classes, networkpolicies, servicecidrs and ipaddresses: one object for each
// cluster IP in use. That such an object can be created once and no more is what keeps two control planes from giving one
// address to two services.
package networking

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/registry/kind"
)

// IPAddresses describes ipaddresses.
func IPAddresses() kind.Kind[*networkingv1.IPAddress] {
	return kind.Kind[*networkingv1.IPAddress]{
		Group: networkingv1.GroupName, Versions: versions, Resource: "ipaddresses", Singular: "ipaddress", Short: []string{"ip"}, ClusterScoped: true,
		New:     func() *networkingv1.IPAddress { return &networkingv1.IPAddress{} },
		NewList: func() runtime.Object { return &networkingv1.IPAddressList{} },
		Fields:  func(*networkingv1.IPAddress) fields.Set { return fields.Set{} },
		Main: kind.Strategy[*networkingv1.IPAddress]{
			Validate: ValidateIPAddress, ValidateUpdate: ValidateIPAddressUpdate,
		},
	}
}

// ValidateIPAddress judges a new object: its name is an address in canonical form, and it has a parent.
func ValidateIPAddress(a *networkingv1.IPAddress) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&a.ObjectMeta, false, validateName, field.NewPath("metadata"))
	parent := field.NewPath("spec", "parentRef")
	if a.Spec.ParentRef == nil {
		return append(errs, field.Required(parent, ""))
	}
	ref := a.Spec.ParentRef
	if ref.Group != "" {
		for _, msg := range validation.IsDNS1123Subdomain(ref.Group) {
			errs = append(errs, field.Invalid(parent.Child("group"), ref.Group, msg))
		}
	}
	errs = append(errs, segment(parent.Child("resource"), ref.Resource, true)...)
	errs = append(errs, segment(parent.Child("name"), ref.Name, true)...)
	return append(errs, segment(parent.Child("namespace"), ref.Namespace, false)...)
}

// ValidateIPAddressUpdate judges an update: the parent never changes.
func ValidateIPAddressUpdate(a, old *networkingv1.IPAddress) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaUpdate(&a.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	if !apiequality.Semantic.DeepEqual(a.Spec.ParentRef, old.Spec.ParentRef) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "parentRef"), a.Spec.ParentRef, apivalidation.FieldImmutableErrorMsg))
	}
	return errs
}

func validateName(name string, prefix bool) []string {
	if prefix {
		return nil
	}
	ip, err := netip.ParseAddr(name)
	if err != nil {
		return []string{"must be a valid IP address"}
	}
	if ip.String() != name {
		return []string{"must be a canonical IP address (" + ip.String() + ")"}
	}
	return nil
}

func segment(at *field.Path, value string, required bool) field.ErrorList {
	if value == "" {
		if required {
			return field.ErrorList{field.Required(at, "")}
		}
		return nil
	}
	var errs field.ErrorList
	for _, msg := range path.IsValidPathSegmentName(value) {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

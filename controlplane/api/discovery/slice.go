// Package discovery holds the defaults and validation of EndpointSlices.
package discovery

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/core"
)

// Bounds of a slice.
const (
	maxTopologyLabels = 16
	maxAddresses      = 100
	maxPorts          = 20000
	maxEndpoints      = 1000
	maxZoneHints      = 8
	maxNodeHints      = 8
)

// ValidateEndpointSlice judges a slice about to be created.
func ValidateEndpointSlice(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&s.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	types := []discoveryv1.AddressType{discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	at := field.NewPath("addressType")
	switch {
	case s.AddressType == "":
		errs = append(errs, field.Required(at, ""))
	case !slices.Contains(types, s.AddressType):
		errs = append(errs, field.NotSupported(at, s.AddressType, types))
	}
	errs = append(errs, validateEndpoints(s.Endpoints, s.AddressType, field.NewPath("endpoints"))...)
	return append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
}

// ValidateEndpointSliceUpdate judges an update; the sort of addresses stays.
func ValidateEndpointSliceUpdate(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	errs := ValidateEndpointSlice(s)
	errs = append(errs, apivalidation.ValidateObjectMetaUpdate(&s.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))...)
	return append(errs, apivalidation.ValidateImmutableField(s.AddressType, old.AddressType, field.NewPath("addressType"))...)
}

func validateEndpoints(list []discoveryv1.Endpoint, kind discoveryv1.AddressType, path *field.Path) field.ErrorList {
	if len(list) > maxEndpoints {
		return field.ErrorList{field.TooMany(path, len(list), maxEndpoints)}
	}
	var errs field.ErrorList
	for i := range list {
		e, at := &list[i], path.Index(i)
		errs = append(errs, validateAddresses(e.Addresses, kind, at.Child("addresses"))...)
		if n := e.NodeName; n != nil {
			for _, m := range apivalidation.NameIsDNSSubdomain(*n, false) {
				errs = append(errs, field.Invalid(at.Child("nodeName"), *n, m))
			}
		}
		topology := at.Child("deprecatedTopology")
		if n := len(e.DeprecatedTopology); n > maxTopologyLabels {
			errs = append(errs, field.TooMany(topology, n, maxTopologyLabels))
		}
		for _, k := range slices.Sorted(maps.Keys(e.DeprecatedTopology)) {
			errs = append(errs, metavalidation.ValidateLabelName(k, topology)...)
			// Node and zone have fields of their own.
			if k == corev1.LabelHostname || k == corev1.LabelTopologyZone {
				errs = append(errs, field.Invalid(topology.Key(k), e.DeprecatedTopology[k], "may not be set here"))
			}
		}
		if h := e.Hostname; h != nil {
			for _, m := range validation.IsDNS1123Label(*h) {
				errs = append(errs, field.Invalid(at.Child("hostname"), *h, m))
			}
		}
		errs = append(errs, validateHints(e.Hints, at.Child("hints"))...)
	}
	return errs
}

func validateAddresses(list []string, kind discoveryv1.AddressType, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) == 0 {
		errs = append(errs, field.Required(path, "must contain at least 1 address"))
	} else if len(list) > maxAddresses {
		errs = append(errs, field.TooMany(path, len(list), maxAddresses))
	}
	for i, a := range list {
		at := path.Index(i)
		switch kind {
		case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
			errs = append(errs, validateAddress(a, kind, at)...)
		case discoveryv1.AddressTypeFQDN:
			errs = append(errs, validation.IsFullyQualifiedDomainName(at, a)...)
		}
	}
	return errs
}

func validateAddress(a string, kind discoveryv1.AddressType, at *field.Path) field.ErrorList {
	if errs := validation.IsValidIPForLegacyField(at, a, true, nil); len(errs) > 0 {
		return errs
	}
	ip, err := netip.ParseAddr(a)
	if err != nil || ip.Is4() != (kind == discoveryv1.AddressTypeIPv4) {
		return field.ErrorList{field.Invalid(at, a, "must be a valid "+string(kind)+" address")}
	}
	return core.ValidateEndpointIP(a, at)
}

func validatePorts(list []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(list) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(list), maxPorts)}
	}
	var errs field.ErrorList
	seen := map[string]bool{}
	protocols := []corev1.Protocol{corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP}
	for i, p := range list {
		at := path.Index(i)
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		if name != "" {
			for _, m := range validation.IsDNS1123Label(name) {
				errs = append(errs, field.Invalid(at.Child("name"), name, m))
			}
		}
		if seen[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		seen[name] = true
		switch {
		case p.Protocol == nil:
			errs = append(errs, field.Required(at.Child("protocol"), ""))
		case !slices.Contains(protocols, *p.Protocol):
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, protocols))
		}
		if p.AppProtocol != nil {
			for _, m := range validation.IsQualifiedName(*p.AppProtocol) {
				errs = append(errs, field.Invalid(at.Child("appProtocol"), *p.AppProtocol, m))
			}
		}
	}
	return errs
}

func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	if h == nil {
		return nil
	}
	zones, nodes := make([]string, len(h.ForZones)), make([]string, len(h.ForNodes))
	for i := range h.ForZones {
		zones[i] = h.ForZones[i].Name
	}
	for i := range h.ForNodes {
		nodes[i] = h.ForNodes[i].Name
	}
	errs := validateHintNames(zones, maxZoneHints, validation.IsValidLabelValue, path.Child("forZones"))
	subdomain := func(name string) []string { return apivalidation.NameIsDNSSubdomain(name, false) }
	return append(errs, validateHintNames(nodes, maxNodeHints, subdomain, path.Child("forNodes"))...)
}

func validateHintNames(list []string, most int, check func(string) []string, path *field.Path) field.ErrorList {
	if len(list) > most {
		return field.ErrorList{field.TooMany(path, len(list), most)}
	}
	var errs field.ErrorList
	for i, name := range list {
		at := path.Index(i).Child("name")
		if slices.Contains(list[:i], name) {
			errs = append(errs, field.Duplicate(at, name))
		}
		if name == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		for _, m := range check(name) {
			errs = append(errs, field.Invalid(at, name, m))
		}
	}
	return errs
}

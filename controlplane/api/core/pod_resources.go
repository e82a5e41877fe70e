package core

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// names returns the names of a list in order, so that errors come in order too.
func names(list corev1.ResourceList) []corev1.ResourceName {
	return slices.Sorted(maps.Keys(list))
}

// validateResources judges a container's requests and limits. claims holds the
// names of the pod's resource claims.
func validateResources(r *corev1.ResourceRequirements, claims map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	hugePages, cpuOrMemory := false, false
	for _, part := range []struct {
		list corev1.ResourceList
		path *field.Path
	}{{r.Limits, limits}, {r.Requests, requests}} {
		for _, name := range names(part.list) {
			at, q := part.path.Key(string(name)), part.list[name]
			errs = append(errs, validateContainerResourceName(name, at)...)
			errs = append(errs, validateQuantity(name, q, at)...)
			if isHugePage(name) {
				hugePages = true
				errs = append(errs, validateHugePages(name, q, at)...)
			}
			if name == corev1.ResourceCPU || name == corev1.ResourceMemory {
				cpuOrMemory = true
			}
		}
	}
	errs = append(errs, validateRequestsWithinLimits(r, limits, requests)...)
	if hugePages && !cpuOrMemory {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return append(errs, validateClaimNames(r.Claims, claims, path.Child("claims"))...)
}

func validateRequestsWithinLimits(r *corev1.ResourceRequirements, limits, requests *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range names(r.Requests) {
		q := r.Requests[name]
		limit, ok := r.Limits[name]
		switch {
		case !ok && !mayOvercommit(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		case !ok:
		case !mayOvercommit(name) && q.Cmp(limit) != 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, q.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		}
	}
	return errs
}

// validateClaimNames checks which of the pod's claims a container uses.
func validateClaimNames(used []corev1.ResourceClaim, claims map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type claim struct{ name, request string }
	seen, whole := sets.New[claim](), sets.New[string]()
	for i, u := range used {
		at := path.Index(i)
		if u.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
			continue
		}
		c := claim{u.Name, u.Request}
		if u.Request != "" {
			errs = append(errs, validateDNSLabel(u.Request, at.Child("request"))...)
		}
		if seen.Has(c) || whole.Has(u.Name) {
			errs = append(errs, field.Duplicate(at, u.Name))
		} else if !claims[u.Name] {
			errs = append(errs, field.NotFound(at.Child("name"), u.Name))
		}
		seen.Insert(c)
		if u.Request == "" {
			whole.Insert(u.Name)
		}
	}
	return errs
}

// validatePodClaims checks the resource claims of a pod and returns their names.
func validatePodClaims(list []corev1.PodResourceClaim, _ *metav1.ObjectMeta, path *field.Path) (map[string]bool, field.ErrorList) {
	var errs field.ErrorList
	found := map[string]bool{}
	for i, c := range list {
		at := path.Index(i)
		switch {
		case c.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case found[c.Name]:
			errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
		default:
			errs = append(errs, validateDNSLabel(c.Name, at.Child("name"))...)
			found[c.Name] = true
		}
		direct, template := c.ResourceClaimName, c.ResourceClaimTemplateName
		if direct != nil && template != nil {
			errs = append(errs, field.Invalid(at, *direct, "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))
		}
		if direct == nil && template == nil {
			errs = append(errs, field.Invalid(at, "", "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"))
		}
		if direct != nil {
			errs = append(errs, validateDNSSubdomain(*direct, at.Child("resourceClaimName"))...)
		}
		if template != nil {
			errs = append(errs, validateDNSSubdomain(*template, at.Child("resourceClaimTemplateName"))...)
		}
	}
	return found, errs
}

// validatePodResources judges the resources of the pod as a whole, which bound
// those of its containers.
func validatePodResources(spec *corev1.PodSpec, path *field.Path) field.ErrorList {
	r := spec.Resources
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	limits, requests := path.Child("limits"), path.Child("requests")
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(path.Child("claims"), "claims may not be set for Resources at pod-level"))
	}
	for _, part := range []struct {
		list corev1.ResourceList
		path *field.Path
	}{{r.Limits, limits}, {r.Requests, requests}} {
		for _, name := range names(part.list) {
			at, q := part.path.Key(string(name)), part.list[name]
			if !podLevelResource(name) {
				errs = append(errs, field.NotSupported(at, name, []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceHugePagesPrefix}))
				continue
			}
			errs = append(errs, validateQuantity(name, q, at)...)
			if isHugePage(name) {
				errs = append(errs, validateHugePages(name, q, at)...)
			}
		}
	}
	errs = append(errs, validateRequestsWithinLimits(r, limits, requests)...)
	total := containerRequests(spec)
	for _, name := range names(total) {
		if q, ok := r.Requests[name]; ok && podLevelResource(name) {
			errs = append(errs, atMost(total[name], q, requests.Key(string(name)), "must be greater than or equal to aggregate container requests of")...)
		}
	}
	eachContainer(spec, field.NewPath("spec"), func(c *corev1.Container, at *field.Path) {
		for _, name := range names(c.Resources.Limits) {
			bound, ok := r.Limits[name]
			if q := c.Resources.Limits[name]; ok && q.Cmp(bound) > 0 {
				errs = append(errs, field.Invalid(at.Child("resources", "limits").Key(string(name)), q.String(),
					fmt.Sprintf("must be less than or equal to pod limits of %s", bound.String())))
			}
		}
	})
	return errs
}

func atMost(sum, bound resource.Quantity, path *field.Path, message string) field.ErrorList {
	if sum.Cmp(bound) > 0 {
		return field.ErrorList{field.Invalid(path, bound.String(), fmt.Sprintf("%s %s", message, sum.String()))}
	}
	return nil
}

// Package scheduling holds the defaults and validation of PriorityClasses.
package scheduling

import (
	"strings"

	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/core"
)

const (
	// HighestUserPriority is the highest value that a class of a user's may have.
	HighestUserPriority = int32(1000000000)
	// SystemCriticalPriority is where the range of the system's own classes begins.
	SystemCriticalPriority = 2 * HighestUserPriority

	systemPrefix = "system-"
	// The classes of the system.
	SystemClusterCritical = systemPrefix + "cluster-critical"
	SystemNodeCritical    = systemPrefix + "node-critical"
)

// SystemClasses maps the names of the system's classes to their values.
var SystemClasses = map[string]int32{
	SystemNodeCritical:    SystemCriticalPriority + 1000,
	SystemClusterCritical: SystemCriticalPriority,
}

// ValidatePriorityClass judges a class about to be created.
func ValidatePriorityClass(p *schedulingv1.PriorityClass) field.ErrorList {
	errs := apivalidation.ValidateObjectMeta(&p.ObjectMeta, false, apivalidation.NameIsDNSSubdomain, field.NewPath("metadata"))
	if strings.HasPrefix(p.Name, systemPrefix) {
		if value, ok := SystemClasses[p.Name]; !ok || value != p.Value || p.GlobalDefault {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), "priority class names with '"+systemPrefix+"' prefix are reserved for system use only"))
		}
	} else if p.Value > HighestUserPriority {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "maximum allowed value of a user defined priority is 1000000000"))
	}
	return append(errs, core.ValidatePreemptionPolicy(p.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
}

// ValidatePriorityClassUpdate judges an update; value and preemption stay.
func ValidatePriorityClassUpdate(p, old *schedulingv1.PriorityClass) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaUpdate(&p.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	if p.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(errs, apivalidation.ValidateImmutableField(p.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
}

package core

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Fields of a pod that environment variables, and files of volumes, may show.
var (
	envFieldPaths = sets.New("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs")
	fileFieldPaths = sets.New("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")
	// knownFieldPaths are those that convert to a field at all.
	knownFieldPaths = envFieldPaths.Union(fileFieldPaths).Insert("spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host")
	// resourceFields are the resources of a container that may be shown.
	resourceFields = sets.New("limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage")
)

func validateEnv(vars []corev1.EnvVar, pc podContext, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range vars {
		at := path.Index(i)
		if vars[i].Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, invalidEach(at.Child("name"), vars[i].Name, validation.IsRelaxedEnvVarName(vars[i].Name))...)
		}
		errs = append(errs, validateEnvSource(&vars[i], pc, at.Child("valueFrom"))...)
	}
	return errs
}

func validateEnvSource(v *corev1.EnvVar, pc podContext, path *field.Path) field.ErrorList {
	from := v.ValueFrom
	if from == nil {
		return nil
	}
	var errs field.ErrorList
	sources := 0
	if from.FieldRef != nil {
		sources++
		errs = append(errs, validateFieldRef(from.FieldRef, envFieldPaths, path.Child("fieldRef"))...)
	}
	if from.ResourceFieldRef != nil {
		sources++
		errs = append(errs, validateResourceFieldRef(from.ResourceFieldRef, false, path.Child("resourceFieldRef"))...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		sources++
		errs = append(errs, validateKeyRef(r.Name, r.Key, path.Child("configMapKeyRef"))...)
	}
	if r := from.SecretKeyRef; r != nil {
		sources++
		errs = append(errs, validateKeyRef(r.Name, r.Key, path.Child("secretKeyRef"))...)
	}
	if from.FileKeyRef != nil {
		sources++
		errs = append(errs, validateFileKeyRef(from.FileKeyRef, pc, path.Child("fileKeyRef"))...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapKeyRef`, `fieldRef`, `fileKeyRef`, `resourceFieldRef` or `secretKeyRef`"))
	case v.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

// validateKeyRef checks the name of an object and the key in it.
func validateKeyRef(name, key string, path *field.Path) field.ErrorList {
	errs := required(name, path.Child("name"))
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, invalidEach(path.Child("key"), key, validation.IsConfigMapKey(key))...)
}

// validateFileKeyRef checks a variable read from a file of an emptyDir.
func validateFileKeyRef(r *corev1.FileKeySelector, pc podContext, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.VolumeName == "" {
		errs = append(errs, field.Required(path.Child("volumeName"), ""))
	} else if src, ok := pc.volumes[r.VolumeName]; !ok {
		errs = append(errs, field.NotFound(path.Child("volumeName"), r.VolumeName))
	} else if src.EmptyDir == nil {
		errs = append(errs, field.Invalid(path.Child("volumeName"), r.VolumeName, "must be an emptyDir volume"))
	}
	if r.Path == "" {
		errs = append(errs, field.Required(path.Child("path"), ""))
	} else {
		errs = append(errs, validateRelativePath(r.Path, path.Child("path"))...)
	}
	if r.Key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, invalidEach(path.Child("key"), r.Key, validation.IsRelaxedEnvVarName(r.Key))...)
}

func validateEnvFrom(from []corev1.EnvFromSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range from {
		at, f := path.Index(i), &from[i]
		if f.Prefix != "" {
			errs = append(errs, invalidEach(at.Child("prefix"), f.Prefix, validation.IsRelaxedEnvVarName(f.Prefix))...)
		}
		sources := 0
		if f.ConfigMapRef != nil {
			sources++
			errs = append(errs, required(f.ConfigMapRef.Name, at.Child("configMapRef", "name"))...)
		}
		if f.SecretRef != nil {
			sources++
			errs = append(errs, required(f.SecretRef.Name, at.Child("secretRef", "name"))...)
		}
		switch {
		case sources == 0:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case sources > 1:
			errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// validateFieldRef checks a reference to a field of the pod. A reference such as
// metadata.labels['key'] names one entry of a map.
func validateFieldRef(r *corev1.ObjectFieldSelector, allowed sets.Set[string], path *field.Path) field.ErrorList {
	if r.APIVersion == "" {
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	}
	if r.FieldPath == "" {
		return field.ErrorList{field.Required(path.Child("fieldPath"), "")}
	}
	base, key, subscripted := splitSubscript(r.FieldPath)
	if r.APIVersion != "v1" || (!subscripted && !knownFieldPaths.Has(base)) {
		return field.ErrorList{field.Invalid(path.Child("fieldPath"), r.FieldPath, "is no field of a pod of apiVersion v1")}
	}
	if !subscripted {
		if !allowed.Has(base) {
			return field.ErrorList{field.NotSupported(path.Child("fieldPath"), base, sets.List(allowed))}
		}
		return nil
	}
	switch base {
	case "metadata.annotations":
		// Annotation keys of old may have capitals.
		return invalidEach(path, key, validation.IsQualifiedName(strings.ToLower(key)))
	case "metadata.labels":
		return invalidEach(path, key, validation.IsQualifiedName(key))
	default:
		return field.ErrorList{field.Invalid(path, base, "does not support subscript")}
	}
}

// splitSubscript takes apart a path such as metadata.labels['key'].
func splitSubscript(path string) (base, key string, ok bool) {
	rest, ok := strings.CutSuffix(path, "']")
	if !ok {
		return path, "", false
	}
	base, key, ok = strings.Cut(rest, "['")
	if !ok || base == "" {
		return path, "", false
	}
	return base, key, true
}

// validateResourceFieldRef checks a reference to a container's resources; in a
// volume the container must be named.
func validateResourceFieldRef(r *corev1.ResourceFieldSelector, inVolume bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case inVolume && r.ContainerName == "":
		errs = append(errs, field.Required(path.Child("containerName"), ""))
	case r.Resource == "":
		errs = append(errs, field.Required(path.Child("resource"), ""))
	case !resourceFields.Has(r.Resource) && !isHugePageField(r.Resource):
		errs = append(errs, field.NotSupported(path.Child("resource"), r.Resource, sets.List(resourceFields)))
	}
	return append(errs, validateDivisor(r.Resource, r.Divisor, path)...)
}

func isHugePageField(resource string) bool {
	return strings.HasPrefix(resource, "requests.hugepages-") || strings.HasPrefix(resource, "limits.hugepages-")
}

var (
	cpuDivisors  = []string{"1m", "1"}
	byteDivisors = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)

// validateDivisor checks the unit in which a resource is shown.
func validateDivisor(name string, divisor resource.Quantity, path *field.Path) field.ErrorList {
	if divisor.IsZero() {
		return nil
	}
	allowed := byteDivisors
	switch {
	case name == "limits.cpu" || name == "requests.cpu":
		allowed = cpuDivisors
	case !resourceFields.Has(name) && !isHugePageField(name):
		return nil
	}
	if slices.Contains(allowed, divisor.String()) {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("divisor"), name, "only these divisors are supported: "+strings.Join(allowed, ", "))}
}

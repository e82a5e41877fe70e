package core

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// accessModes are the ways in which a volume may be mounted.
var accessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}

// validateEphemeral judges a volume whose claim is made with the pod.
func validateEphemeral(v *corev1.Volume, pc podContext, at *field.Path) field.ErrorList {
	t := v.Ephemeral.VolumeClaimTemplate
	if t == nil {
		return field.ErrorList{field.Required(at.Child("volumeClaimTemplate"), "")}
	}
	path := at.Child("volumeClaimTemplate")
	var errs field.ErrorList
	meta := t.ObjectMeta.DeepCopy()
	labels, annotations := meta.Labels, meta.Annotations
	meta.Labels, meta.Annotations = nil, nil
	if !equality.Semantic.DeepEqual(*meta, corev1.PersistentVolumeClaimTemplate{}.ObjectMeta) {
		errs = append(errs, field.Forbidden(path.Child("metadata"), "only labels and annotations may be set"))
	}
	errs = append(errs, apivalidation.ValidateAnnotations(annotations, path.Child("metadata", "annotations"))...)
	errs = append(errs, metavalidation.ValidateLabels(labels, path.Child("metadata", "labels"))...)
	errs = append(errs, validateClaimSpec(&t.Spec, path.Child("spec"))...)
	// The claim is named after pod and volume, and that must be a name too.
	if pc.meta != nil && pc.meta.Name != "" {
		name := pc.meta.Name + "-" + v.Name
		for _, m := range subdomainName(name, false) {
			errs = append(errs, field.Invalid(at, name, "the claim's name would be invalid: "+m))
		}
	}
	return errs
}

func validateAccessModes(modes []corev1.PersistentVolumeAccessMode, path *field.Path) field.ErrorList {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(path, "at least 1 access mode is required")}
	}
	var errs field.ErrorList
	for _, m := range modes {
		if !slices.Contains(accessModes, m) {
			errs = append(errs, field.NotSupported(path, m, accessModes))
		}
	}
	if slices.Contains(modes, corev1.ReadWriteOncePod) && len(modes) > 1 {
		errs = append(errs, field.Forbidden(path, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func validateClaimSpec(spec *corev1.PersistentVolumeClaimSpec, path *field.Path) field.ErrorList {
	errs := validateAccessModes(spec.AccessModes, path.Child("accessModes"))
	errs = append(errs, validateSelector(spec.Selector, path.Child("selector"))...)
	storage, ok := spec.Resources.Requests[corev1.ResourceStorage]
	at := path.Child("resources").Key(string(corev1.ResourceStorage))
	if !ok {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, validateResourceName(corev1.ResourceStorage, at)...)
		errs = append(errs, positiveQuantity(storage, at)...)
	}
	for _, f := range []struct {
		name  string
		class *string
	}{{"storageClassName", spec.StorageClassName}, {"volumeAttributesClassName", spec.VolumeAttributesClassName}} {
		if f.class != nil && *f.class != "" {
			errs = append(errs, invalidEach(path.Child(f.name), *f.class, subdomainName(*f.class, false))...)
		}
	}
	errs = append(errs, oneOfPointer(spec.VolumeMode, path.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	if d := spec.DataSource; d != nil {
		errs = append(errs, validateDataSource(d.Kind, d.Name, d.APIGroup, path.Child("dataSource"))...)
	}
	if d := spec.DataSourceRef; d != nil {
		errs = append(errs, validateDataSource(d.Kind, d.Name, d.APIGroup, path.Child("dataSourceRef"))...)
		if d.Namespace != nil && *d.Namespace != "" {
			errs = append(errs, invalidEach(path.Child("dataSourceRef", "namespace"), *d.Namespace, labelName(*d.Namespace, false))...)
			if spec.DataSource != nil {
				errs = append(errs, field.Invalid(path.Child("dataSource"), spec.DataSource.Name, "may not be set where dataSourceRef names a namespace"))
			}
			return errs
		}
		if spec.DataSource != nil && (d.Kind != spec.DataSource.Kind || d.Name != spec.DataSource.Name || !equality.Semantic.DeepEqual(d.APIGroup, spec.DataSource.APIGroup)) {
			errs = append(errs, field.Invalid(path, spec.DataSource.Name, "must match dataSourceRef"))
		}
	}
	return errs
}

func validateDataSource(kind, name string, group *string, path *field.Path) field.ErrorList {
	errs := required(name, path.Child("name"))
	errs = append(errs, required(kind, path.Child("kind"))...)
	if (group == nil || *group == "") && kind != "PersistentVolumeClaim" {
		errs = append(errs, field.Invalid(path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
	}
	if group != nil && *group != "" {
		errs = append(errs, validateDNSSubdomain(*group, path.Child("apiGroup"))...)
	}
	return errs
}

// ValidatePersistentVolumeClaim judges a claim about to be created.
func ValidatePersistentVolumeClaim(c *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := validateMeta(&c.ObjectMeta, true, subdomainName)
	return append(errs, validateClaimSpec(&c.Spec, specPath)...)
}

// ValidatePersistentVolumeClaimUpdate judges an update: once bound, only the
// amount of storage may grow, and the attributes class may change.
func ValidatePersistentVolumeClaimUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := validateMetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, ValidatePersistentVolumeClaim(c)...)
	same := c.Spec.DeepCopy()
	if old.Spec.VolumeName == "" {
		// The binder gives a claim its volume.
		same.VolumeName = old.Spec.VolumeName
	}
	if old.Spec.StorageClassName == nil && old.Spec.VolumeName == "" {
		same.StorageClassName = old.Spec.StorageClassName
	}
	same.VolumeAttributesClassName = old.Spec.VolumeAttributesClassName
	if old.Status.Phase == corev1.ClaimBound {
		was := old.Spec.Resources.Requests[corev1.ResourceStorage]
		is := c.Spec.Resources.Requests[corev1.ResourceStorage]
		if is.Cmp(was) < 0 && is.Cmp(old.Status.Capacity[corev1.ResourceStorage]) <= 0 {
			errs = append(errs, field.Forbidden(specPath.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
		}
		same.Resources.Requests = old.Spec.Resources.Requests
	}
	if !equality.Semantic.DeepEqual(*same, old.Spec) {
		errs = append(errs, field.Forbidden(specPath, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"))
	}
	return errs
}

// ValidatePersistentVolumeClaimStatusUpdate judges an update of the status.
func ValidatePersistentVolumeClaimStatusUpdate(c, old *corev1.PersistentVolumeClaim) field.ErrorList {
	errs := validateMetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if len(c.ResourceVersion) == 0 {
		errs = append(errs, field.Required(field.NewPath("resourceVersion"), ""))
	}
	for _, name := range names(c.Status.Capacity) {
		at := statusPath.Child("capacity").Key(string(name))
		errs = append(errs, validateResourceName(name, at)...)
		errs = append(errs, validateQuantity(name, c.Status.Capacity[name], at)...)
	}
	return errs
}

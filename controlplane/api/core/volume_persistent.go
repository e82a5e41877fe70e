package core

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePersistentVolume judges a volume about to be created.
func ValidatePersistentVolume(pv *corev1.PersistentVolume) field.ErrorList {
	errs := validateMeta(&pv.ObjectMeta, false, subdomainName)
	spec := &pv.Spec
	errs = append(errs, validateAccessModes(spec.AccessModes, specPath.Child("accessModes"))...)
	capacity := specPath.Child("capacity")
	if len(spec.Capacity) == 0 {
		errs = append(errs, field.Required(capacity, ""))
	} else if _, ok := spec.Capacity[corev1.ResourceStorage]; !ok || len(spec.Capacity) > 1 {
		errs = append(errs, field.NotSupported(capacity, spec.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for _, name := range names(spec.Capacity) {
		errs = append(errs, positiveQuantity(spec.Capacity[name], capacity.Key(string(name)))...)
	}
	errs = append(errs, oneOfOrEmpty(spec.PersistentVolumeReclaimPolicy, specPath.Child("persistentVolumeReclaimPolicy"),
		corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	errs = append(errs, validatePersistentSource(pv)...)
	if spec.StorageClassName != "" {
		errs = append(errs, invalidEach(specPath.Child("storageClassName"), spec.StorageClassName, subdomainName(spec.StorageClassName, false))...)
	}
	errs = append(errs, oneOfPointer(spec.VolumeMode, specPath.Child("volumeMode"), corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem)...)
	if a := spec.NodeAffinity; a != nil {
		at := specPath.Child("nodeAffinity", "required")
		if a.Required == nil {
			errs = append(errs, field.Required(at, "must specify required node constraints"))
		} else {
			errs = append(errs, ValidateNodeSelector(a.Required, at)...)
		}
	}
	return errs
}

// validatePersistentSource wants exactly one source, and checks those that are
// served on a bare node and by drivers.
func validatePersistentSource(pv *corev1.PersistentVolume) field.ErrorList {
	s := &sources{path: specPath}
	src := &pv.Spec.PersistentVolumeSource
	s.use(src.HostPath != nil, "hostPath", func(at *field.Path) field.ErrorList {
		errs := validateHostPath(src.HostPath, at)
		if src.HostPath.Path == "/" && pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
			errs = append(errs, field.Forbidden(specPath.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
		}
		return errs
	})
	s.use(src.Local != nil, "local", func(at *field.Path) field.ErrorList {
		errs := requiredNoBacksteps(src.Local.Path, at.Child("path"))
		if a := pv.Spec.NodeAffinity; a == nil || a.Required == nil || len(a.Required.NodeSelectorTerms) == 0 {
			errs = append(errs, field.Required(affinityPath, "Local volume requires node affinity"))
		}
		return errs
	})
	s.use(src.CSI != nil, "csi", func(at *field.Path) field.ErrorList {
		errs := validateDriverName(src.CSI.Driver, at.Child("driver"))
		return append(errs, required(src.CSI.VolumeHandle, at.Child("volumeHandle"))...)
	})
	s.use(src.NFS != nil, "nfs", func(at *field.Path) field.ErrorList { return validateNFS(src.NFS, at) })
	s.use(src.FC != nil, "fc", func(at *field.Path) field.ErrorList { return validateFC(src.FC, at) })
	s.use(src.AzureDisk != nil, "azureDisk", func(at *field.Path) field.ErrorList { return validateAzureDisk(src.AzureDisk, at) })
	s.use(src.FlexVolume != nil, "flexVolume", func(at *field.Path) field.ErrorList {
		return validateFlex(src.FlexVolume.Driver, src.FlexVolume.Options, at)
	})
	// The other built-in sources are taken as they are: drivers judge them.
	set := 0
	v := reflect.ValueOf(*src)
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			set++
		}
	}
	switch {
	case set == 0:
		s.errs = append(s.errs, field.Required(specPath, "must specify a volume type"))
	case set > 1 && s.count < 2:
		s.errs = append(s.errs, field.Forbidden(specPath, "may not specify more than 1 volume type"))
	}
	return s.errs
}

// affinityPath is where a volume says on which nodes it can be reached.
var affinityPath = specPath.Child("nodeAffinity")

// ValidatePersistentVolumeUpdate judges an update; the source stays.
func ValidatePersistentVolumeUpdate(pv, old *corev1.PersistentVolume) field.ErrorList {
	errs := ValidatePersistentVolume(pv)
	errs = append(errs, validateMetaUpdate(&pv.ObjectMeta, &old.ObjectMeta)...)
	if !equality.Semantic.DeepEqual(pv.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(specPath.Child("persistentvolumesource"), "spec.persistentvolumesource is immutable after creation"))
	}
	errs = append(errs, immutable(pv.Spec.VolumeMode, old.Spec.VolumeMode, specPath.Child("volumeMode"))...)
	if old.Spec.NodeAffinity != nil {
		errs = append(errs, immutable(pv.Spec.NodeAffinity, old.Spec.NodeAffinity, affinityPath)...)
	}
	return errs
}

// ValidatePersistentVolumeStatusUpdate judges an update of the status.
func ValidatePersistentVolumeStatusUpdate(pv, old *corev1.PersistentVolume) field.ErrorList {
	errs := validateMetaUpdate(&pv.ObjectMeta, &old.ObjectMeta)
	if pv.ResourceVersion == "" {
		errs = append(errs, field.Required(field.NewPath("resourceVersion"), ""))
	}
	return errs
}

package core

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxFileMode is the highest mode of files made from API objects.
const maxFileMode = 0o777

// validateVolumes judges volumes and returns the sound ones by name. A mount of
// one that is not sound is an error too.
func validateVolumes(list []corev1.Volume, pc podContext, path *field.Path) (map[string]corev1.VolumeSource, field.ErrorList) {
	var errs field.ErrorList
	sound := map[string]corev1.VolumeSource{}
	for i := range list {
		v, at := &list[i], path.Index(i)
		found := validateVolumeSource(v, pc, at)
		if v.Name == "" {
			found = append(found, field.Required(at.Child("name"), ""))
		} else {
			found = append(found, validateDNSLabel(v.Name, at.Child("name"))...)
		}
		if _, ok := sound[v.Name]; ok {
			found = append(found, field.Duplicate(at.Child("name"), v.Name))
		}
		if len(found) == 0 {
			sound[v.Name] = v.VolumeSource
		}
		errs = append(errs, found...)
	}
	return sound, errs
}

// sources collects the sources of one volume, of which there must be exactly one.
type sources struct {
	path  *field.Path
	count int
	errs  field.ErrorList
}

// use checks a source if it is set and is the first one.
func (s *sources) use(set bool, name string, check func(at *field.Path) field.ErrorList) {
	if !set {
		return
	}
	if s.count++; s.count > 1 {
		s.errs = append(s.errs, field.Forbidden(s.path.Child(name), "may not specify more than 1 volume type"))
		return
	}
	s.errs = append(s.errs, check(s.path.Child(name))...)
}

func validateVolumeSource(v *corev1.Volume, pc podContext, path *field.Path) field.ErrorList {
	s := &sources{path: path}
	s.use(v.EmptyDir != nil, "emptyDir", func(at *field.Path) field.ErrorList { return validateEmptyDir(v.EmptyDir, at) })
	s.use(v.HostPath != nil, "hostPath", func(at *field.Path) field.ErrorList { return validateHostPath(v.HostPath, at) })
	s.use(v.Secret != nil, "secret", func(at *field.Path) field.ErrorList {
		errs := required(v.Secret.SecretName, at.Child("secretName"))
		errs = append(errs, validateFileDefaults(v.Secret.DefaultMode, v.Secret.DefaultUser, at)...)
		return append(errs, validateItems(v.Secret.Items, at.Child("items"))...)
	})
	s.use(v.ConfigMap != nil, "configMap", func(at *field.Path) field.ErrorList {
		errs := required(v.ConfigMap.Name, at.Child("name"))
		errs = append(errs, validateFileDefaults(v.ConfigMap.DefaultMode, v.ConfigMap.DefaultUser, at)...)
		return append(errs, validateItems(v.ConfigMap.Items, at.Child("items"))...)
	})
	s.use(v.DownwardAPI != nil, "downwardAPI", func(at *field.Path) field.ErrorList {
		errs := validateFileDefaults(v.DownwardAPI.DefaultMode, v.DownwardAPI.DefaultUser, at)
		for i := range v.DownwardAPI.Items {
			errs = append(errs, validateDownwardFile(&v.DownwardAPI.Items[i], at)...)
		}
		return errs
	})
	s.use(v.Projected != nil, "projected", func(at *field.Path) field.ErrorList {
		errs := validateFileDefaults(v.Projected.DefaultMode, v.Projected.DefaultUser, at)
		return append(errs, validateProjections(v.Projected.Sources, at)...)
	})
	s.use(v.PersistentVolumeClaim != nil, "persistentVolumeClaim", func(at *field.Path) field.ErrorList {
		return required(v.PersistentVolumeClaim.ClaimName, at.Child("claimName"))
	})
	s.use(v.Ephemeral != nil, "ephemeral", func(at *field.Path) field.ErrorList { return validateEphemeral(v, pc, at) })
	s.use(v.CSI != nil, "csi", func(at *field.Path) field.ErrorList {
		errs := validateDriverName(v.CSI.Driver, at.Child("driver"))
		if r := v.CSI.NodePublishSecretRef; r != nil {
			errs = append(errs, required(r.Name, at.Child("nodePublishSecretRef", "name"))...)
		}
		return errs
	})
	s.use(v.Image != nil, "image", func(at *field.Path) field.ErrorList {
		errs := validatePullPolicy(v.Image.PullPolicy, at.Child("pullPolicy"))
		if pc.meta != nil {
			// A template may leave the reference to be filled in later.
			errs = append(errs, required(v.Image.Reference, at.Child("reference"))...)
		}
		return errs
	})
	validateRemoteSource(s, &v.VolumeSource)
	if s.count == 0 {
		s.errs = append(s.errs, field.Required(path, "must specify a volume type"))
	}
	return s.errs
}

func validateEmptyDir(e *corev1.EmptyDirVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e.SizeLimit != nil && e.SizeLimit.Sign() < 0 {
		errs = append(errs, field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity"))
	}
	return append(errs, validateFileMode(e.Mode, 0o1777, at.Child("mode"))...)
}

// hostPathTypes say what must be at the path, or is made there.
var hostPathTypes = []corev1.HostPathType{
	corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
	corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev,
}

func validateHostPath(h *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if h.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs := validateNoBacksteps(h.Path, at.Child("path"))
	if h.Type != nil && !slices.Contains(hostPathTypes, *h.Type) {
		errs = append(errs, field.NotSupported(at.Child("type"), *h.Type, hostPathTypes))
	}
	return errs
}

// validateFileDefaults checks what files of a volume get unless their item says
// otherwise.
func validateFileDefaults(mode *int32, user *int64, at *field.Path) field.ErrorList {
	errs := validateFileMode(mode, maxFileMode, at.Child("defaultMode"))
	return append(errs, validateFileUser(user, at.Child("defaultUser"))...)
}

func validateFileMode(mode *int32, highest int32, path *field.Path) field.ErrorList {
	if mode == nil || (*mode >= 0 && *mode <= highest) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
}

func validateFileUser(user *int64, path *field.Path) field.ErrorList {
	if user == nil {
		return nil
	}
	return invalidEach(path, *user, validation.IsValidUserID(*user))
}

func validateItems(items []corev1.KeyToPath, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		errs = append(errs, validateItem(&items[i], path.Index(i))...)
	}
	return errs
}

func validateItem(k *corev1.KeyToPath, at *field.Path) field.ErrorList {
	errs := required(k.Key, at.Child("key"))
	errs = append(errs, requiredFilePath(k.Path, at.Child("path"))...)
	errs = append(errs, validateFileMode(k.Mode, maxFileMode, at.Child("mode"))...)
	return append(errs, validateFileUser(k.User, at.Child("user"))...)
}

func requiredFilePath(path string, at *field.Path) field.ErrorList {
	if path == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return validateFilePath(path, at)
}

func validateDownwardFile(f *corev1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	errs := requiredFilePath(f.Path, at.Child("path"))
	switch {
	case f.FieldRef != nil:
		errs = append(errs, validateFieldRef(f.FieldRef, fileFieldPaths, at.Child("fieldRef"))...)
		if f.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case f.ResourceFieldRef != nil:
		errs = append(errs, validateResourceFieldRef(f.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
	default:
		errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
	}
	errs = append(errs, validateFileMode(f.Mode, maxFileMode, at.Child("mode"))...)
	return append(errs, validateFileUser(f.User, at.Child("user"))...)
}

// maxDriverName bounds the name of a CSI driver.
const maxDriverName = 63

func validateDriverName(name string, path *field.Path) field.ErrorList {
	errs := required(name, path)
	if len(name) > maxDriverName {
		errs = append(errs, field.TooLong(path, name, maxDriverName))
	}
	if name != "" {
		errs = append(errs, invalidEach(path, name, lowerSubdomain(name))...)
	}
	return errs
}

func validatePartition(p int32, path *field.Path) field.ErrorList {
	if p < 0 || p > math.MaxUint8 {
		return field.ErrorList{field.Invalid(path, p, validation.InclusiveRangeError(0, math.MaxUint8))}
	}
	return nil
}

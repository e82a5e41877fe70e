package core

import (
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// lowerSubdomain checks a subdomain in which capitals are taken as small letters.
func lowerSubdomain(name string) []string {
	return validation.IsDNS1123Subdomain(strings.ToLower(name))
}

// validateRemoteSource checks the network volumes that were once built in. They
// are kept because objects may name them; CSI drivers serve them today.
func validateRemoteSource(s *sources, v *corev1.VolumeSource) {
	s.use(v.GitRepo != nil, "gitRepo", func(at *field.Path) field.ErrorList {
		errs := required(v.GitRepo.Repository, at.Child("repository"))
		return append(errs, validateRelativePath(v.GitRepo.Directory, at.Child("directory"))...)
	})
	s.use(v.NFS != nil, "nfs", func(at *field.Path) field.ErrorList { return validateNFS(v.NFS, at) })
	s.use(v.ISCSI != nil, "iscsi", func(at *field.Path) field.ErrorList { return validateISCSI(v.ISCSI, at) })
	s.use(v.GCEPersistentDisk != nil, "gcePersistentDisk", func(at *field.Path) field.ErrorList {
		errs := required(v.GCEPersistentDisk.PDName, at.Child("pdName"))
		return append(errs, validatePartition(v.GCEPersistentDisk.Partition, at.Child("partition"))...)
	})
	s.use(v.AWSElasticBlockStore != nil, "awsElasticBlockStore", func(at *field.Path) field.ErrorList {
		errs := required(v.AWSElasticBlockStore.VolumeID, at.Child("volumeID"))
		return append(errs, validatePartition(v.AWSElasticBlockStore.Partition, at.Child("partition"))...)
	})
	s.use(v.Glusterfs != nil, "glusterfs", func(at *field.Path) field.ErrorList {
		errs := required(v.Glusterfs.EndpointsName, at.Child("endpoints"))
		return append(errs, requiredNoBacksteps(v.Glusterfs.Path, at.Child("path"))...)
	})
	s.use(v.Flocker != nil, "flocker", func(at *field.Path) field.ErrorList { return validateFlocker(v.Flocker, at) })
	s.use(v.RBD != nil, "rbd", func(at *field.Path) field.ErrorList {
		errs := requiredList(v.RBD.CephMonitors, at.Child("monitors"))
		return append(errs, required(v.RBD.RBDImage, at.Child("image"))...)
	})
	s.use(v.Cinder != nil, "cinder", func(at *field.Path) field.ErrorList {
		errs := required(v.Cinder.VolumeID, at.Child("volumeID"))
		if r := v.Cinder.SecretRef; r != nil {
			errs = append(errs, required(r.Name, at.Child("secretRef", "name"))...)
		}
		return errs
	})
	s.use(v.CephFS != nil, "cephfs", func(at *field.Path) field.ErrorList {
		return requiredList(v.CephFS.Monitors, at.Child("monitors"))
	})
	s.use(v.Quobyte != nil, "quobyte", func(at *field.Path) field.ErrorList { return validateQuobyte(v.Quobyte, at) })
	s.use(v.FC != nil, "fc", func(at *field.Path) field.ErrorList { return validateFC(v.FC, at) })
	s.use(v.FlexVolume != nil, "flexVolume", func(at *field.Path) field.ErrorList {
		return validateFlex(v.FlexVolume.Driver, v.FlexVolume.Options, at)
	})
	s.use(v.AzureFile != nil, "azureFile", func(at *field.Path) field.ErrorList {
		errs := required(v.AzureFile.SecretName, at.Child("secretName"))
		return append(errs, required(v.AzureFile.ShareName, at.Child("shareName"))...)
	})
	s.use(v.VsphereVolume != nil, "vsphereVolume", func(at *field.Path) field.ErrorList {
		return required(v.VsphereVolume.VolumePath, at.Child("volumePath"))
	})
	s.use(v.PhotonPersistentDisk != nil, "photonPersistentDisk", func(at *field.Path) field.ErrorList {
		return required(v.PhotonPersistentDisk.PdID, at.Child("pdID"))
	})
	s.use(v.PortworxVolume != nil, "portworxVolume", func(at *field.Path) field.ErrorList {
		return required(v.PortworxVolume.VolumeID, at.Child("volumeID"))
	})
	s.use(v.AzureDisk != nil, "azureDisk", func(at *field.Path) field.ErrorList { return validateAzureDisk(v.AzureDisk, at) })
	s.use(v.StorageOS != nil, "storageos", func(at *field.Path) field.ErrorList {
		errs := required(v.StorageOS.VolumeName, at.Child("volumeName"))
		if r := v.StorageOS.SecretRef; r != nil {
			errs = append(errs, required(r.Name, at.Child("secretRef", "name"))...)
		}
		return errs
	})
	s.use(v.ScaleIO != nil, "scaleIO", func(at *field.Path) field.ErrorList {
		errs := required(v.ScaleIO.Gateway, at.Child("gateway"))
		errs = append(errs, required(v.ScaleIO.System, at.Child("system"))...)
		return append(errs, required(v.ScaleIO.VolumeName, at.Child("volumeName"))...)
	})
}

func requiredList(list []string, path *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

func requiredNoBacksteps(path string, at *field.Path) field.ErrorList {
	return append(required(path, at), validateNoBacksteps(path, at)...)
}

func validateNFS(n *corev1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := required(n.Server, at.Child("server"))
	errs = append(errs, required(n.Path, at.Child("path"))...)
	if !strings.HasPrefix(n.Path, "/") {
		errs = append(errs, field.Invalid(at.Child("path"), n.Path, "must be an absolute path"))
	}
	return errs
}

// iscsiName is an initiator's or target's name in one of its three forms.
var iscsiName = regexp.MustCompile(`^(iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)|eui\.[[:alnum:]]{16}|naa\.[[:alnum:]]{32})$`)

func validateISCSI(v *corev1.ISCSIVolumeSource, at *field.Path) field.ErrorList {
	errs := required(v.TargetPortal, at.Child("targetPortal"))
	switch {
	case v.IQN == "":
		errs = append(errs, field.Required(at.Child("iqn"), ""))
	case !iscsiName.MatchString(v.IQN):
		errs = append(errs, field.Invalid(at.Child("iqn"), v.IQN, "must be a valid iqn, eui or naa name"))
	}
	errs = append(errs, validatePartition(v.Lun, at.Child("lun"))...)
	if (v.DiscoveryCHAPAuth || v.SessionCHAPAuth) && v.SecretRef == nil {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if n := v.InitiatorName; n != nil && !iscsiName.MatchString(*n) {
		errs = append(errs, field.Invalid(at.Child("initiatorname"), *n, "must be a valid iqn, eui or naa name"))
	}
	return errs
}

func validateFlocker(f *corev1.FlockerVolumeSource, at *field.Path) field.ErrorList {
	switch {
	case f.DatasetName == "" && f.DatasetUUID == "":
		return field.ErrorList{field.Required(at, "one of datasetName and datasetUUID is required")}
	case f.DatasetName != "" && f.DatasetUUID != "":
		return field.ErrorList{field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously")}
	case strings.Contains(f.DatasetName, "/"):
		return field.ErrorList{field.Invalid(at.Child("datasetName"), f.DatasetName, "must not contain '/'")}
	}
	return nil
}

func validateQuobyte(q *corev1.QuobyteVolumeSource, at *field.Path) field.ErrorList {
	errs := required(q.Volume, at.Child("volume"))
	if q.Registry == "" {
		return append(errs, field.Required(at.Child("registry"), "must be a host:port pair or multiple pairs separated by commas"))
	}
	for _, pair := range strings.Split(q.Registry, ",") {
		if host, port, ok := strings.Cut(pair, ":"); !ok || host == "" || port == "" {
			errs = append(errs, field.Invalid(at.Child("registry"), q.Registry, "must be a host:port pair or multiple pairs separated by commas"))
			break
		}
	}
	return errs
}

func validateFC(f *corev1.FCVolumeSource, at *field.Path) field.ErrorList {
	switch {
	case len(f.TargetWWNs) == 0 && len(f.WWIDs) == 0:
		return field.ErrorList{field.Required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both")}
	case len(f.TargetWWNs) > 0 && len(f.WWIDs) > 0:
		return field.ErrorList{field.Invalid(at.Child("targetWWNs"), f.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")}
	case len(f.TargetWWNs) == 0:
		return nil
	case f.Lun == nil:
		return field.ErrorList{field.Required(at.Child("lun"), "lun is required if targetWWNs is specified")}
	case *f.Lun < 0 || *f.Lun > math.MaxUint8:
		return field.ErrorList{field.Invalid(at.Child("lun"), *f.Lun, validation.InclusiveRangeError(0, math.MaxUint8))}
	}
	return nil
}

func validateFlex(driver string, options map[string]string, at *field.Path) field.ErrorList {
	errs := required(driver, at.Child("driver"))
	for _, k := range slices.Sorted(maps.Keys(options)) {
		domain, _, _ := strings.Cut(strings.ToLower(k), "/")
		for _, reserved := range []string{"kubernetes.io", "k8s.io"} {
			if domain == reserved || strings.HasSuffix(domain, "."+reserved) {
				errs = append(errs, field.Invalid(at.Child("options").Key(k), k, "must not use the reserved domain "+reserved))
			}
		}
	}
	return errs
}

func validateAzureDisk(d *corev1.AzureDiskVolumeSource, at *field.Path) field.ErrorList {
	errs := required(d.DiskName, at.Child("diskName"))
	errs = append(errs, required(d.DataDiskURI, at.Child("diskURI"))...)
	errs = append(errs, oneOfPointer(d.CachingMode, at.Child("cachingMode"), corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)...)
	errs = append(errs, oneOfPointer(d.Kind, at.Child("kind"), corev1.AzureSharedBlobDisk, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk)...)
	if d.Kind == nil {
		return errs
	}
	managed := strings.HasPrefix(strings.ToLower(d.DataDiskURI), "/subscriptions/")
	if *d.Kind == corev1.AzureManagedDisk && !managed {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), d.DataDiskURI, []string{"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"}))
	}
	if *d.Kind != corev1.AzureManagedDisk && strings.HasPrefix(d.DataDiskURI, "/") {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), d.DataDiskURI, []string{"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"}))
	}
	return errs
}

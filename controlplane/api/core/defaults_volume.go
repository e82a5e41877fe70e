package core

import (
	corev1 "k8s.io/api/core/v1"

	"coracle/controlplane/api/fill"
)

// fileMode is the mode of files made from API objects.
const fileMode = int32(0o644)

// tokenSeconds is the life of a projected service account token.
const tokenSeconds = int64(60 * 60)

// defaultVolume gives a volume's source its defaults; a volume without a source
// is an emptyDir.
func defaultVolume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		return
	}
	if v.HostPath != nil {
		fill.Pointer(&v.HostPath.Type, corev1.HostPathUnset)
	}
	if v.Secret != nil {
		fill.Pointer(&v.Secret.DefaultMode, fileMode)
	}
	if v.ConfigMap != nil {
		fill.Pointer(&v.ConfigMap.DefaultMode, fileMode)
	}
	if v.DownwardAPI != nil {
		fill.Pointer(&v.DownwardAPI.DefaultMode, fileMode)
		defaultDownward(v.DownwardAPI.Items)
	}
	if v.Projected != nil {
		fill.Pointer(&v.Projected.DefaultMode, fileMode)
		for i := range v.Projected.Sources {
			if d := v.Projected.Sources[i].DownwardAPI; d != nil {
				defaultDownward(d.Items)
			}
			if t := v.Projected.Sources[i].ServiceAccountToken; t != nil {
				fill.Pointer(&t.ExpirationSeconds, tokenSeconds)
			}
		}
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		defaultClaimSpec(&v.Ephemeral.VolumeClaimTemplate.Spec)
	}
	if v.Image != nil {
		fill.Value(&v.Image.PullPolicy, pullPolicyFor(v.Image.Reference))
	}
	defaultRemoteVolume(v)
}

// defaultRemoteVolume holds the defaults of the old in-tree network volumes.
func defaultRemoteVolume(v *corev1.Volume) {
	if v.ISCSI != nil {
		fill.Value(&v.ISCSI.ISCSIInterface, "default")
	}
	if v.RBD != nil {
		fill.Value(&v.RBD.RBDPool, "rbd")
		fill.Value(&v.RBD.RadosUser, "admin")
		fill.Value(&v.RBD.Keyring, "/etc/ceph/keyring")
	}
	defaultAzureDisk(v.AzureDisk)
	if v.ScaleIO != nil {
		fill.Value(&v.ScaleIO.StorageMode, "ThinProvisioned")
		fill.Value(&v.ScaleIO.FSType, "xfs")
	}
}

func defaultAzureDisk(d *corev1.AzureDiskVolumeSource) {
	if d == nil {
		return
	}
	fill.Pointer(&d.CachingMode, corev1.AzureDataDiskCachingReadWrite)
	fill.Pointer(&d.Kind, corev1.AzureSharedBlobDisk)
	fill.Pointer(&d.FSType, "ext4")
	fill.Pointer(&d.ReadOnly, false)
}

func defaultDownward(items []corev1.DownwardAPIVolumeFile) {
	for i := range items {
		if items[i].FieldRef != nil {
			fill.Value(&items[i].FieldRef.APIVersion, "v1")
		}
	}
}

func defaultPersistentVolume(pv *corev1.PersistentVolume) {
	fill.Value(&pv.Status.Phase, corev1.VolumePending)
	fill.Value(&pv.Spec.PersistentVolumeReclaimPolicy, corev1.PersistentVolumeReclaimRetain)
	fill.Pointer(&pv.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundList(pv.Spec.Capacity)
	src := &pv.Spec.PersistentVolumeSource
	if src.HostPath != nil {
		fill.Pointer(&src.HostPath.Type, corev1.HostPathUnset)
	}
	if src.ISCSI != nil {
		fill.Value(&src.ISCSI.ISCSIInterface, "default")
	}
	if src.RBD != nil {
		fill.Value(&src.RBD.RBDPool, "rbd")
		fill.Value(&src.RBD.RadosUser, "admin")
		fill.Value(&src.RBD.Keyring, "/etc/ceph/keyring")
	}
	defaultAzureDisk(src.AzureDisk)
	if src.ScaleIO != nil {
		fill.Value(&src.ScaleIO.StorageMode, "ThinProvisioned")
		fill.Value(&src.ScaleIO.FSType, "xfs")
	}
}

func defaultPersistentVolumeClaim(pvc *corev1.PersistentVolumeClaim) {
	DefaultPersistentVolumeClaim(pvc)
}

// DefaultPersistentVolumeClaim gives a claim its defaults, alone or as a template.
func DefaultPersistentVolumeClaim(pvc *corev1.PersistentVolumeClaim) {
	fill.Value(&pvc.Status.Phase, corev1.ClaimPending)
	defaultClaimSpec(&pvc.Spec)
	roundList(pvc.Status.Capacity)
	roundList(pvc.Status.AllocatedResources)
}

func defaultClaimSpec(spec *corev1.PersistentVolumeClaimSpec) {
	fill.Pointer(&spec.VolumeMode, corev1.PersistentVolumeFilesystem)
	roundList(spec.Resources.Limits)
	roundList(spec.Resources.Requests)
}

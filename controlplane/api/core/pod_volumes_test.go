package core

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestVolumes(t *testing.T) {
	const at = "spec.volumes[2]"
	mode := ptr(int32(0o1000))
	runPods(t, []podCase{
		{"no source", volumeWith(corev1.VolumeSource{}), []string{"Required " + at}},
		{"two sources", volumeWith(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}, NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/p"}}), []string{"Forbidden " + at + ".nfs"}},
		{"no name", podWith(func(p *corev1.Pod) { p.Spec.Volumes[0].Name = "" }), []string{"Required spec.volumes[0].name"}},
		{"bad name", podWith(func(p *corev1.Pod) { p.Spec.Volumes[0].Name = "a.b" }), []string{"Invalid spec.volumes[0].name"}},
		{"same name", podWith(func(p *corev1.Pod) { p.Spec.Volumes[1].Name = "v" }), []string{"Duplicate spec.volumes[1].name"}},
		{"emptyDir size", volumeWith(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr(resource.MustParse("-1"))}}), []string{"Forbidden " + at + ".emptyDir.sizeLimit"}},
		{"hostPath empty", volumeWith(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}), []string{"Required " + at + ".hostPath.path"}},
		{"hostPath up", volumeWith(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/a/../b", Type: ptr(corev1.HostPathType("Thing"))}}), []string{"Invalid " + at + ".hostPath.path", "NotSupported " + at + ".hostPath.type"}},
		{"secret", volumeWith(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{DefaultMode: mode, Items: []corev1.KeyToPath{{}, {Key: "k", Path: "../x", Mode: mode}, {Key: "k", Path: "..x"}}}}), []string{
			"Required " + at + ".secret.secretName", "Invalid " + at + ".secret.defaultMode", "Required " + at + ".secret.items[0].key", "Required " + at + ".secret.items[0].path",
			"Invalid " + at + ".secret.items[1].path", "Invalid " + at + ".secret.items[1].mode", "Invalid " + at + ".secret.items[2].path",
		}},
		{"configMap", volumeWith(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}), []string{"Required " + at + ".configMap.name"}},
		{"downward", volumeWith(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "/abs"}}}}), []string{"Invalid " + at + ".downwardAPI.path", "Required " + at + ".downwardAPI"}},
		{"downward field of the status", volumeWith(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "p", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}}}}), []string{"NotSupported " + at + ".downwardAPI.fieldRef.fieldPath"}},
		{"downward resource", volumeWith(corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "p", ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}}}}), []string{"Required " + at + ".downwardAPI.resourceFieldRef.containerName"}},
		{"claim", volumeWith(corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}), []string{"Required " + at + ".persistentVolumeClaim.claimName"}},
		{"csi", volumeWith(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "a_b", NodePublishSecretRef: &corev1.LocalObjectReference{}}}), []string{"Invalid " + at + ".csi.driver", "Required " + at + ".csi.nodePublishSecretRef.name"}},
		{"image", volumeWith(corev1.VolumeSource{Image: &corev1.ImageVolumeSource{PullPolicy: "x"}}), []string{"Required " + at + ".image.reference", "NotSupported " + at + ".image.pullPolicy"}},
		{"ephemeral without template", volumeWith(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}), []string{"Required " + at + ".ephemeral.volumeClaimTemplate"}},
		{"ephemeral", volumeWith(corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Name: "n"}}}}), []string{
			"Forbidden " + at + ".ephemeral.volumeClaimTemplate.metadata", "Required " + at + ".ephemeral.volumeClaimTemplate.spec.accessModes", "Required " + at + ".ephemeral.volumeClaimTemplate.spec.resources[storage]",
		}},
		{"projected", volumeWith(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: mode, Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: ptr(int64(599)), Path: "t"}},
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: ptr(int64(1<<32 + 1))}, Secret: &corev1.SecretProjection{}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: []corev1.KeyToPath{{Key: "a", Path: "t"}}}},
		}}}), []string{
			"Invalid " + at + ".projected.defaultMode",
			"Invalid " + at + ".projected.sources[0].serviceAccountToken.expirationSeconds",
			"Invalid " + at + ".projected.sources[1].serviceAccountToken.expirationSeconds", "Required " + at + ".projected.sources[1].serviceAccountToken.path",
			"Required " + at + ".projected.sources[1].secret.name", "Forbidden " + at + ".projected.sources[1]",
			"Invalid " + at + ".projected",
		}},
		{"trust bundle", volumeWith(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Path: "a"}},
			{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Name: ptr("n"), SignerName: ptr("s"), Path: "b"}},
		}}}), []string{"Required " + at + ".projected.sources[0].clusterTrustBundle", "Invalid " + at + ".projected.sources[1].clusterTrustBundle"}},
		{"pod certificate", volumeWith(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{PodCertificate: &corev1.PodCertificateProjection{KeyType: "DSA", MaxExpirationSeconds: ptr(int32(60))}},
		}}}), []string{
			"Required " + at + ".projected.sources[0].podCertificate.signerName", "NotSupported " + at + ".projected.sources[0].podCertificate.keyType",
			"Invalid " + at + ".projected.sources[0].podCertificate.maxExpirationSeconds", "Required " + at + ".projected.sources[0].podCertificate",
		}},
	})
}

func TestRemoteVolumes(t *testing.T) {
	const at = "spec.volumes[2]."
	runPods(t, []podCase{
		{"nfs", volumeWith(corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Path: "rel"}}), []string{"Required " + at + "nfs.server", "Invalid " + at + "nfs.path"}},
		{"iscsi", volumeWith(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{IQN: "x", Lun: 256, SessionCHAPAuth: true}}), []string{"Required " + at + "iscsi.targetPortal", "Invalid " + at + "iscsi.iqn", "Invalid " + at + "iscsi.lun", "Required " + at + "iscsi.secretRef"}},
		{"iscsi sound", volumeWith(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{TargetPortal: "127.0.0.1", IQN: "iqn.2015-02.example.com:test"}}), nil},
		{"gitRepo", volumeWith(corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Directory: "../x"}}), []string{"Required " + at + "gitRepo.repository", "Invalid " + at + "gitRepo.directory"}},
		{"gce", volumeWith(corev1.VolumeSource{GCEPersistentDisk: &corev1.GCEPersistentDiskVolumeSource{Partition: 256}}), []string{"Required " + at + "gcePersistentDisk.pdName", "Invalid " + at + "gcePersistentDisk.partition"}},
		{"aws", volumeWith(corev1.VolumeSource{AWSElasticBlockStore: &corev1.AWSElasticBlockStoreVolumeSource{}}), []string{"Required " + at + "awsElasticBlockStore.volumeID"}},
		{"glusterfs", volumeWith(corev1.VolumeSource{Glusterfs: &corev1.GlusterfsVolumeSource{}}), []string{"Required " + at + "glusterfs.endpoints", "Required " + at + "glusterfs.path"}},
		{"flocker", volumeWith(corev1.VolumeSource{Flocker: &corev1.FlockerVolumeSource{}}), []string{"Required " + at + "flocker"}},
		{"rbd", volumeWith(corev1.VolumeSource{RBD: &corev1.RBDVolumeSource{}}), []string{"Required " + at + "rbd.monitors", "Required " + at + "rbd.image"}},
		{"cinder", volumeWith(corev1.VolumeSource{Cinder: &corev1.CinderVolumeSource{SecretRef: &corev1.LocalObjectReference{}}}), []string{"Required " + at + "cinder.volumeID", "Required " + at + "cinder.secretRef.name"}},
		{"cephfs", volumeWith(corev1.VolumeSource{CephFS: &corev1.CephFSVolumeSource{}}), []string{"Required " + at + "cephfs.monitors"}},
		{"quobyte", volumeWith(corev1.VolumeSource{Quobyte: &corev1.QuobyteVolumeSource{Registry: "a"}}), []string{"Required " + at + "quobyte.volume", "Invalid " + at + "quobyte.registry"}},
		{"fc", volumeWith(corev1.VolumeSource{FC: &corev1.FCVolumeSource{TargetWWNs: []string{"w"}}}), []string{"Required " + at + "fc.lun"}},
		{"flexVolume", volumeWith(corev1.VolumeSource{FlexVolume: &corev1.FlexVolumeSource{Options: map[string]string{"x.kubernetes.io/a": "b"}}}), []string{"Required " + at + "flexVolume.driver", "Invalid " + at + "flexVolume.options[x.kubernetes.io/a]"}},
		{"azureFile", volumeWith(corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{}}), []string{"Required " + at + "azureFile.secretName", "Required " + at + "azureFile.shareName"}},
		{"azureDisk", volumeWith(corev1.VolumeSource{AzureDisk: &corev1.AzureDiskVolumeSource{Kind: ptr(corev1.AzureManagedDisk), CachingMode: ptr(corev1.AzureDataDiskCachingMode("x")), DataDiskURI: "https://x"}}), []string{"Required " + at + "azureDisk.diskName", "NotSupported " + at + "azureDisk.cachingMode", "NotSupported " + at + "azureDisk.diskURI"}},
		{"vsphere", volumeWith(corev1.VolumeSource{VsphereVolume: &corev1.VsphereVirtualDiskVolumeSource{}}), []string{"Required " + at + "vsphereVolume.volumePath"}},
		{"photon", volumeWith(corev1.VolumeSource{PhotonPersistentDisk: &corev1.PhotonPersistentDiskVolumeSource{}}), []string{"Required " + at + "photonPersistentDisk.pdID"}},
		{"portworx", volumeWith(corev1.VolumeSource{PortworxVolume: &corev1.PortworxVolumeSource{}}), []string{"Required " + at + "portworxVolume.volumeID"}},
		{"storageos", volumeWith(corev1.VolumeSource{StorageOS: &corev1.StorageOSVolumeSource{}}), []string{"Required " + at + "storageos.volumeName"}},
		{"scaleIO", volumeWith(corev1.VolumeSource{ScaleIO: &corev1.ScaleIOVolumeSource{}}), []string{"Required " + at + "scaleIO.gateway", "Required " + at + "scaleIO.system", "Required " + at + "scaleIO.volumeName"}},
	})
}

func TestMounts(t *testing.T) {
	mount := func(m ...corev1.VolumeMount) *corev1.Pod {
		return containerWith(func(c *corev1.Container) { c.VolumeMounts = m })
	}
	const list = "spec.containers[0].volumeMounts"
	runPods(t, []podCase{
		{"sound", mount(corev1.VolumeMount{Name: "v", MountPath: "/v", SubPath: "a/b"}), nil},
		{"nothing", mount(corev1.VolumeMount{}), []string{"Required " + list + "[0].name", "NotFound " + list + "[0].name", "Required " + list + "[0].mountPath"}},
		{"unknown", mount(corev1.VolumeMount{Name: "w", MountPath: "/w"}), []string{"NotFound " + list + "[0].name"}},
		{"same path", mount(corev1.VolumeMount{Name: "v", MountPath: "/v"}, corev1.VolumeMount{Name: "v", MountPath: "/v"}), []string{"Invalid " + list + "[1].mountPath"}},
		{"sub path", mount(corev1.VolumeMount{Name: "v", MountPath: "/v", SubPath: "/abs"}, corev1.VolumeMount{Name: "v", MountPath: "/w", SubPath: "a/../b"}), []string{"Invalid " + list + ".subPath", "Invalid " + list + ".subPath"}},
		{"both sub paths", mount(corev1.VolumeMount{Name: "v", MountPath: "/v", SubPath: "a", SubPathExpr: "b"}), []string{"Invalid " + list + "[0].subPathExpr"}},
		{"propagation", mount(corev1.VolumeMount{Name: "v", MountPath: "/v", MountPropagation: ptr(corev1.MountPropagationBidirectional)}), []string{"Forbidden " + list + ".mountPropagation"}},
		{"propagation of a privileged one", containerWith(func(c *corev1.Container) {
			c.SecurityContext = &corev1.SecurityContext{Privileged: ptr(true)}
			c.VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", MountPropagation: ptr(corev1.MountPropagationBidirectional)}}
		}), nil},
		{"recursive", mount(corev1.VolumeMount{Name: "v", MountPath: "/v", RecursiveReadOnly: ptr(corev1.RecursiveReadOnlyEnabled), MountPropagation: ptr(corev1.MountPropagationHostToContainer)}), []string{"Forbidden " + list + ".recursiveReadOnly", "Forbidden " + list + ".recursiveReadOnly"}},
		{"bind options", mount(corev1.VolumeMount{Name: "v", MountPath: "/v", BindMountOptions: []string{"noexec", "suid", "noexec"}}), []string{"NotSupported " + list + "[0].bindMountOptions[1]", "Duplicate " + list + "[0].bindMountOptions[2]"}},
		{"devices", containerWith(func(c *corev1.Container) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "claim", MountPath: "/m"}}
			c.VolumeDevices = []corev1.VolumeDevice{{Name: "claim", DevicePath: "/m"}, {Name: "v", DevicePath: "/dev/../x"}, {}}
		}), []string{
			"Invalid " + list + "[0].name", "Invalid " + list + "[0].mountPath",
			"Invalid spec.containers[0].volumeDevices[0].name", "Invalid spec.containers[0].volumeDevices[0].devicePath",
			"Invalid spec.containers[0].volumeDevices[1].name", "Invalid spec.containers[0].volumeDevices[1].devicePath",
			"Required spec.containers[0].volumeDevices[2].name", "NotFound spec.containers[0].volumeDevices[2].name", "Required spec.containers[0].volumeDevices[2].devicePath",
		}},
	})
}

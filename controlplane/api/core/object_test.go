package core

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

var objectMeta = metav1.ObjectMeta{Name: "x", Namespace: "ns", ResourceVersion: "1"}
var clusterMeta = metav1.ObjectMeta{Name: "x", ResourceVersion: "1"}

func TestConfigMap(t *testing.T) {
	big := strings.Repeat("x", corev1.MaxSecretSize/2+1)
	for _, tc := range []struct {
		name string
		c    corev1.ConfigMap
		want []string
	}{
		{"sound", corev1.ConfigMap{Data: map[string]string{"a.b_c-D": "x"}, BinaryData: map[string][]byte{"b": {0}}}, nil},
		{"keys", corev1.ConfigMap{Data: map[string]string{"a/b": "x", "..": "x"}, BinaryData: map[string][]byte{"a b": {0}}}, []string{"Invalid data[..]", "Invalid data[a/b]", "Invalid binaryData[a b]"}},
		{"key in both", corev1.ConfigMap{Data: map[string]string{"a": "x"}, BinaryData: map[string][]byte{"a": {0}}}, []string{"Invalid data[a]"}},
		{"too big together", corev1.ConfigMap{Data: map[string]string{"a": big}, BinaryData: map[string][]byte{"b": []byte(big)}}, []string{"TooLong []"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.c.ObjectMeta = objectMeta
			expect.Errors(t, ValidateConfigMap(&tc.c), tc.want...)
		})
	}
	old := &corev1.ConfigMap{ObjectMeta: objectMeta, Immutable: ptr(true), Data: map[string]string{"a": "b"}, BinaryData: map[string][]byte{"c": {0}}}
	now := &corev1.ConfigMap{ObjectMeta: objectMeta, Data: map[string]string{"a": "c"}}
	expect.Errors(t, ValidateConfigMapUpdate(now, old), "Forbidden immutable", "Forbidden data", "Forbidden binaryData")
	expect.Errors(t, ValidateConfigMapUpdate(old, now))
}

func TestSecret(t *testing.T) {
	data := func(pairs ...string) map[string][]byte {
		m := map[string][]byte{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = []byte(pairs[i+1])
		}
		return m
	}
	for _, tc := range []struct {
		name string
		s    corev1.Secret
		want []string
	}{
		{"sound", corev1.Secret{Type: corev1.SecretTypeOpaque, Data: data("a", "b")}, nil},
		{"key", corev1.Secret{Data: data("a/b", "x")}, []string{"Invalid data[a/b]"}},
		{"too big", corev1.Secret{Data: data("a", strings.Repeat("x", corev1.MaxSecretSize+1))}, []string{"TooLong data"}},
		{"token without account", corev1.Secret{Type: corev1.SecretTypeServiceAccountToken}, []string{"Required metadata.annotations[kubernetes.io/service-account.name]"}},
		{"docker", corev1.Secret{Type: corev1.SecretTypeDockerConfigJson}, []string{"Required data[.dockerconfigjson]"}},
		{"docker no json", corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: data(".dockerconfigjson", "{")}, []string{"Invalid data[.dockerconfigjson]"}},
		{"old docker", corev1.Secret{Type: corev1.SecretTypeDockercfg, Data: data(".dockercfg", "[]")}, []string{"Invalid data[.dockercfg]"}},
		{"basic auth", corev1.Secret{Type: corev1.SecretTypeBasicAuth}, []string{"Required data[username]", "Required data[password]"}},
		{"basic auth with one", corev1.Secret{Type: corev1.SecretTypeBasicAuth, Data: data("password", "x")}, nil},
		{"ssh", corev1.Secret{Type: corev1.SecretTypeSSHAuth, Data: data("ssh-privatekey", "")}, []string{"Required data[ssh-privatekey]"}},
		{"tls", corev1.Secret{Type: corev1.SecretTypeTLS, Data: data("tls.crt", "")}, []string{"Required data[tls.key]"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.s.ObjectMeta = objectMeta
			errs := ValidateSecret(&tc.s)
			expect.Errors(t, errs, tc.want...)
			for _, e := range errs {
				if v, ok := e.BadValue.(string); ok && strings.HasPrefix(v, "{") {
					t.Errorf("the error shows the secret: %v", e)
				}
			}
		})
	}
	old := &corev1.Secret{ObjectMeta: objectMeta, Type: "a", Immutable: ptr(true), Data: data("a", "b")}
	expect.Errors(t, ValidateSecretUpdate(&corev1.Secret{ObjectMeta: objectMeta, Type: "b"}, old), "Invalid type", "Forbidden immutable", "Forbidden data")
}

func TestNamespace(t *testing.T) {
	expect.Errors(t, ValidateNamespace(&corev1.Namespace{ObjectMeta: clusterMeta}))
	expect.Errors(t, ValidateNamespace(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a.b"}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes", "x.com/y", "z", "a b"}}}),
		"Invalid metadata.name", "Invalid spec.finalizers[2]", "Invalid spec.finalizers")
	gone := clusterMeta
	gone.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	active := &corev1.Namespace{ObjectMeta: clusterMeta, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}}
	ending := &corev1.Namespace{ObjectMeta: gone, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
	expect.Errors(t, ValidateNamespaceStatusUpdate(active, active))
	expect.Errors(t, ValidateNamespaceStatusUpdate(ending, ending))
	expect.Errors(t, ValidateNamespaceStatusUpdate(&corev1.Namespace{ObjectMeta: clusterMeta, Status: ending.Status}, active), "Invalid status.Phase")
	expect.Errors(t, ValidateNamespaceStatusUpdate(&corev1.Namespace{ObjectMeta: gone, Status: active.Status}, ending), "Invalid status.Phase")
	expect.Errors(t, ValidateNamespaceFinalizeUpdate(&corev1.Namespace{ObjectMeta: clusterMeta, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"z"}}}, active), "Invalid spec.finalizers[0]")
}

func TestNode(t *testing.T) {
	node := func(change func(n *corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: clusterMeta, Spec: corev1.NodeSpec{PodCIDR: "10.0.0.0/24", PodCIDRs: []string{"10.0.0.0/24"}, ProviderID: "a://b"}}
		if change != nil {
			change(n)
		}
		return n
	}
	expect.Errors(t, ValidateNode(node(nil)))
	expect.Errors(t, ValidateNode(node(func(n *corev1.Node) {
		n.Name = "A"
		n.Spec.Taints = []corev1.Taint{{Key: "a b", Value: "c d", Effect: "Never"}, {Key: "k"}, {Key: "l", Effect: "NoSchedule"}, {Key: "l", Effect: "NoSchedule"}}
		n.Spec.PodCIDRs = []string{"10.0.0.0/24", "10.0.1.0/24", "x"}
		n.Status.Capacity = amounts("cpu", "-1", "example.com/x", "100m")
	})), "Invalid metadata.name", "Invalid spec.taints[0].key", "Invalid spec.taints[0].value", "NotSupported spec.taints[0].effect", "Required spec.taints[1].effect", "Duplicate spec.taints[3]",
		"Invalid spec.podCIDRs[2]", "Invalid spec.podCIDRs", "Invalid status.capacity.cpu", "Invalid status.capacity.example.com/x")
	expect.Errors(t, ValidateNodeUpdate(node(func(n *corev1.Node) {
		n.Spec.PodCIDR, n.Spec.PodCIDRs, n.Spec.ProviderID, n.Spec.DoNotUseExternalID = "10.0.1.0/24", []string{"10.0.1.0/24"}, "c://d", "x"
		n.Status.Addresses = []corev1.NodeAddress{{Type: "InternalIP", Address: "1.2.3.4"}, {Type: "InternalIP", Address: "1.2.3.4"}}
	}), node(nil)), "Forbidden spec.podCIDRs", "Forbidden spec.providerID", "Forbidden spec.externalID", "Duplicate status.addresses[1]")
	bare := &corev1.Node{ObjectMeta: clusterMeta}
	expect.Errors(t, ValidateNodeUpdate(node(func(n *corev1.Node) { n.Spec.Unschedulable = true }), bare))
}

func TestEvent(t *testing.T) {
	old := corev1.Event{ObjectMeta: objectMeta, InvolvedObject: corev1.ObjectReference{Namespace: "ns"}}
	expect.Errors(t, ValidateEvent(&old))
	other := old
	other.InvolvedObject.Namespace = "other"
	expect.Errors(t, ValidateEvent(&other), "Invalid involvedObject.namespace")
	onNode := corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "default"}}
	expect.Errors(t, ValidateEvent(&onNode))
	onNode.Namespace = "elsewhere"
	expect.Errors(t, ValidateEvent(&onNode), "Invalid involvedObject.namespace")
	modern := old
	modern.EventTime = metav1.NewMicroTime(time.Unix(1, 0))
	modern.Message = strings.Repeat("x", MaxEventMessage+1)
	modern.Action = strings.Repeat("x", MaxEventWord+1)
	expect.Errors(t, ValidateEvent(&modern),
		// Nothing is no qualified name in two ways.
		"Required reportingComponent", "Invalid reportingComponent", "Invalid reportingComponent",
		"Required reportingInstance", "Invalid action", "Required reason", "Invalid message")
}

func TestReplicationController(t *testing.T) {
	rc := func(change func(rc *corev1.ReplicationController)) *corev1.ReplicationController {
		rc := &corev1.ReplicationController{ObjectMeta: objectMeta, Spec: corev1.ReplicationControllerSpec{Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}}}
		defaultReplicationController(rc)
		change(rc)
		return rc
	}
	expect.Errors(t, ValidateReplicationController(rc(func(*corev1.ReplicationController) {})))
	expect.Errors(t, ValidateReplicationController(rc(func(rc *corev1.ReplicationController) {
		rc.Spec = corev1.ReplicationControllerSpec{MinReadySeconds: -1}
	})),
		"Invalid spec.minReadySeconds", "Required spec.selector", "Required spec.replicas", "Required spec.template")
	expect.Errors(t, ValidateReplicationController(rc(func(rc *corev1.ReplicationController) {
		rc.Spec.Selector, rc.Spec.Replicas = map[string]string{"app": "y"}, ptr(int32(-1))
		rc.Spec.Template.Spec.RestartPolicy, rc.Spec.Template.Spec.ActiveDeadlineSeconds = "Never", ptr(int64(1))
	})), "Invalid spec.replicas", "Invalid spec.template.metadata.labels", "NotSupported spec.template.spec.restartPolicy", "Forbidden spec.template.spec.activeDeadlineSeconds")
	sound := rc(func(*corev1.ReplicationController) {})
	expect.Errors(t, ValidateReplicationControllerStatusUpdate(rc(func(rc *corev1.ReplicationController) {
		rc.Status = corev1.ReplicationControllerStatus{Replicas: 1, FullyLabeledReplicas: 2, ReadyReplicas: 2, AvailableReplicas: 3, ObservedGeneration: -1}
	}), sound), "Invalid status.fullyLabeledReplicas", "Invalid status.readyReplicas", "Invalid status.availableReplicas", "Invalid status.availableReplicas", "Invalid status.observedGeneration")
}

func TestLimitRange(t *testing.T) {
	l := func(items ...corev1.LimitRangeItem) *corev1.LimitRange {
		return &corev1.LimitRange{ObjectMeta: objectMeta, Spec: corev1.LimitRangeSpec{Limits: items}}
	}
	expect.Errors(t, ValidateLimitRange(l(corev1.LimitRangeItem{Type: "Container", Max: amounts("cpu", "2"), Min: amounts("cpu", "1"), Default: amounts("cpu", "2"), DefaultRequest: amounts("cpu", "1"), MaxLimitRequestRatio: amounts("cpu", "2")})))
	expect.Errors(t, ValidateLimitRange(l(
		corev1.LimitRangeItem{Type: "Container", Max: amounts("cpu", "1"), Min: amounts("cpu", "2")},
		corev1.LimitRangeItem{Type: "Container", Max: amounts("disk", "1")},
		corev1.LimitRangeItem{Type: "Pod", Default: amounts("cpu", "1"), DefaultRequest: amounts("cpu", "2"), MaxLimitRequestRatio: amounts("cpu", "500m")},
		corev1.LimitRangeItem{Type: "PersistentVolumeClaim"}, corev1.LimitRangeItem{Type: "Thing"},
	)), "Invalid spec.limits[0].min[cpu]", "Duplicate spec.limits[1].type", "Invalid spec.limits[1].max[disk]", "Invalid spec.limits[1].max[disk]",
		"Forbidden spec.limits[2].default", "Forbidden spec.limits[2].defaultRequest", "Invalid spec.limits[2].defaultRequest[cpu]", "Invalid spec.limits[2].maxLimitRequestRatio[cpu]",
		"Required spec.limits[3].limits", "Invalid spec.limits[4].type")
	expect.Errors(t, ValidateLimitRange(l(corev1.LimitRangeItem{Type: "Container", Max: amounts("cpu", "2"), Min: amounts("cpu", "1"), MaxLimitRequestRatio: amounts("cpu", "3")})), "Invalid spec.limits[0].maxLimitRequestRatio[cpu]")
}

func TestResourceQuota(t *testing.T) {
	q := func(spec corev1.ResourceQuotaSpec) *corev1.ResourceQuota {
		return &corev1.ResourceQuota{ObjectMeta: objectMeta, Spec: spec}
	}
	expect.Errors(t, ValidateResourceQuota(q(corev1.ResourceQuotaSpec{Hard: amounts("pods", "1", "requests.cpu", "500m", "count/deployments.apps", "3", "requests.nvidia.com/gpu", "1")})))
	expect.Errors(t, ValidateResourceQuota(q(corev1.ResourceQuotaSpec{Hard: amounts("pods", "500m", "disk", "1", "cpu", "-1")})), "Invalid spec.hard[cpu]", "Invalid spec.hard[disk]", "Invalid spec.hard[pods]")
	expect.Errors(t, ValidateResourceQuota(q(corev1.ResourceQuotaSpec{Hard: amounts("pods", "1"), Scopes: []corev1.ResourceQuotaScope{"BestEffort", "NotBestEffort", "x"}})), "NotSupported spec.scopes", "Invalid spec.scopes")
	expect.Errors(t, ValidateResourceQuota(q(corev1.ResourceQuotaSpec{Hard: amounts("secrets", "1"), Scopes: []corev1.ResourceQuotaScope{"Terminating"}})), "Invalid spec.scopes")
	expect.Errors(t, ValidateResourceQuota(q(corev1.ResourceQuotaSpec{Hard: amounts("pods", "1"), ScopeSelector: &corev1.ScopeSelector{MatchExpressions: []corev1.ScopedResourceSelectorRequirement{
		{ScopeName: "PriorityClass", Operator: "In"}, {ScopeName: "PriorityClass", Operator: "Exists", Values: []string{"x"}}, {ScopeName: "BestEffort", Operator: "Near"},
	}}})), "Required spec.scopeSelector.matchExpressions.values", "Invalid spec.scopeSelector.matchExpressions.values", "Invalid spec.scopeSelector.matchExpressions.operator", "Invalid spec.scopeSelector.matchExpressions.operator")
	old := q(corev1.ResourceQuotaSpec{Hard: amounts("pods", "1")})
	expect.Errors(t, ValidateResourceQuotaUpdate(q(corev1.ResourceQuotaSpec{Hard: amounts("pods", "1"), Scopes: []corev1.ResourceQuotaScope{"BestEffort"}}), old), "Invalid spec.scopes")
	bad := old.DeepCopy()
	bad.ResourceVersion, bad.Status.Used = "", amounts("pods", "-1")
	expect.Errors(t, ValidateResourceQuotaStatusUpdate(bad, old), "Invalid metadata.resourceVersion", "Required resourceVersion", "Invalid status.used[pods]")
}

func TestPersistentVolume(t *testing.T) {
	pv := func(change func(pv *corev1.PersistentVolume)) *corev1.PersistentVolume {
		pv := &corev1.PersistentVolume{ObjectMeta: clusterMeta, Spec: corev1.PersistentVolumeSpec{
			Capacity: amounts("storage", "1Gi"), AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x"}},
		}}
		change(pv)
		return pv
	}
	sound := pv(func(*corev1.PersistentVolume) {})
	expect.Errors(t, ValidatePersistentVolume(sound))
	expect.Errors(t, ValidatePersistentVolume(pv(func(pv *corev1.PersistentVolume) { pv.Spec = corev1.PersistentVolumeSpec{} })), "Required spec.accessModes", "Required spec.capacity", "Required spec")
	expect.Errors(t, ValidatePersistentVolume(pv(func(pv *corev1.PersistentVolume) {
		pv.Spec.AccessModes, pv.Spec.Capacity, pv.Spec.PersistentVolumeReclaimPolicy = []corev1.PersistentVolumeAccessMode{"x"}, amounts("cpu", "0"), "Keep"
		pv.Spec.Local = &corev1.LocalVolumeSource{}
		pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{}
	})), "NotSupported spec.accessModes", "NotSupported spec.capacity", "Invalid spec.capacity[cpu]", "NotSupported spec.persistentVolumeReclaimPolicy", "Forbidden spec.local", "Required spec.nodeAffinity.required")
	expect.Errors(t, ValidatePersistentVolume(pv(func(pv *corev1.PersistentVolume) {
		pv.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/x"}}
	})), "Required spec.nodeAffinity")
	expect.Errors(t, ValidatePersistentVolumeUpdate(pv(func(pv *corev1.PersistentVolume) { pv.Spec.HostPath.Path = "/y" }), sound), "Forbidden spec.persistentvolumesource")
}

func TestPersistentVolumeClaim(t *testing.T) {
	claim := func(change func(c *corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: objectMeta, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{"ReadWriteOnce"}, Resources: corev1.VolumeResourceRequirements{Requests: amounts("storage", "1Gi")},
		}}
		DefaultPersistentVolumeClaim(c)
		change(c)
		return c
	}
	bound := claim(func(c *corev1.PersistentVolumeClaim) {
		c.Spec.VolumeName, c.Status.Phase, c.Status.Capacity = "pv", corev1.ClaimBound, amounts("storage", "1Gi")
	})
	expect.Errors(t, ValidatePersistentVolumeClaim(bound))
	expect.Errors(t, ValidatePersistentVolumeClaim(claim(func(c *corev1.PersistentVolumeClaim) {
		c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{"ReadWriteOncePod", "ReadOnlyMany"}
		c.Spec.Resources.Requests = amounts("storage", "0")
		c.Spec.StorageClassName, c.Spec.VolumeMode = ptr("A"), ptr(corev1.PersistentVolumeMode("x"))
		c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "X"}
	})), "Forbidden spec.accessModes", "Invalid spec.resources[storage]", "Invalid spec.storageClassName", "NotSupported spec.volumeMode", "Required spec.dataSource.name", "Invalid spec.dataSource")
	grown := bound.DeepCopy()
	grown.Spec.Resources.Requests = amounts("storage", "2Gi")
	expect.Errors(t, ValidatePersistentVolumeClaimUpdate(grown, bound))
	shrunk := bound.DeepCopy()
	shrunk.Spec.Resources.Requests = amounts("storage", "512Mi")
	expect.Errors(t, ValidatePersistentVolumeClaimUpdate(shrunk, bound), "Forbidden spec.resources.requests.storage")
	other := bound.DeepCopy()
	other.Spec.VolumeName = "other"
	expect.Errors(t, ValidatePersistentVolumeClaimUpdate(other, bound), "Forbidden spec")
}

func TestPodLogOptions(t *testing.T) {
	expect.Errors(t, ValidatePodLogOptions(&corev1.PodLogOptions{TailLines: ptr(int64(0)), LimitBytes: ptr(int64(1)), SinceSeconds: ptr(int64(1))}))
	expect.Errors(t, ValidatePodLogOptions(&corev1.PodLogOptions{TailLines: ptr(int64(-1)), LimitBytes: ptr(int64(0)), SinceSeconds: ptr(int64(0))}), "Invalid tailLines", "Invalid limitBytes", "Invalid sinceSeconds")
	expect.Errors(t, ValidatePodLogOptions(&corev1.PodLogOptions{SinceSeconds: ptr(int64(1)), SinceTime: &metav1.Time{}, Stream: ptr("both")}), "Forbidden []", "NotSupported stream")
	expect.Errors(t, ValidatePodLogOptions(&corev1.PodLogOptions{TailLines: ptr(int64(1)), Stream: ptr("Stdout")}), "Forbidden []")
}

package table

import (
	"reflect"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/ptr"
)

// everyPrinter is every printer with an empty object of its kind.
func everyPrinter() map[runtime.Object]printer {
	all := map[runtime.Object]printer{}
	for t, p := range printers {
		if o, ok := reflect.New(t.Elem()).Interface().(runtime.Object); ok {
			all[o] = p
		}
	}
	return all
}

var template = corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx:1.27"}, {Name: "side", Image: "busybox"}}}}

var selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}

func TestNodes(t *testing.T) {
	node := func(name string, change func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: object(name)}
		change(n)
		return n
	}
	golden(t, "nodes",
		node("pi", func(n *corev1.Node) {
			n.Labels = map[string]string{"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": "", "kubernetes.io/role": "edge"}
			n.Status = corev1.NodeStatus{
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "pi"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"}},
				NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.37.2+coracle", OSImage: "Debian GNU/Linux 12", KernelVersion: "6.1.0", ContainerRuntimeVersion: "containerd://1.6.20"},
			}
		}),
		node("gone", func(n *corev1.Node) {
			n.Spec.Unschedulable = true
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
		}),
		node("new", func(*corev1.Node) {}))
}

func TestServices(t *testing.T) {
	service := func(name string, spec corev1.ServiceSpec, ingress ...corev1.LoadBalancerIngress) *corev1.Service {
		return &corev1.Service{ObjectMeta: object(name), Spec: spec, Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: ingress}}}
	}
	http := corev1.ServicePort{Port: 80, Protocol: corev1.ProtocolTCP}
	golden(t, "services",
		service("plain", corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.5", Ports: []corev1.ServicePort{http, {Port: 53, Protocol: corev1.ProtocolUDP}}, Selector: map[string]string{"b": "2", "a": "1"}}),
		service("headless", corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "None"}),
		service("node", corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.6", ExternalIPs: []string{"198.51.100.1"}, Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}}}),
		service("waiting", corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{http}}),
		service("balanced", corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.8", Ports: []corev1.ServicePort{http}}, corev1.LoadBalancerIngress{IP: "203.0.113.1"}, corev1.LoadBalancerIngress{Hostname: "lb.example.com"}),
		service("outside", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "db.example.com"}))
}

func TestEndpoints(t *testing.T) {
	addresses := func(ips ...string) (list []corev1.EndpointAddress) {
		for _, ip := range ips {
			list = append(list, corev1.EndpointAddress{IP: ip})
		}
		return list
	}
	golden(t, "endpoints",
		&corev1.Endpoints{ObjectMeta: object("some"), Subsets: []corev1.EndpointSubset{{Addresses: addresses("10.0.0.1", "10.0.0.2"), Ports: []corev1.EndpointPort{{Port: 80}}}}},
		&corev1.Endpoints{ObjectMeta: object("many"), Subsets: []corev1.EndpointSubset{{Addresses: addresses("10.0.0.1", "10.0.0.2"), Ports: []corev1.EndpointPort{{Port: 80}, {Port: 443}}}, {Addresses: addresses("fd00::1"), Ports: []corev1.EndpointPort{{Port: 80}}}}},
		&corev1.Endpoints{ObjectMeta: object("portless"), Subsets: []corev1.EndpointSubset{{Addresses: addresses("10.0.0.1")}}},
		&corev1.Endpoints{ObjectMeta: object("none")})
	golden(t, "endpointslices",
		&discoveryv1.EndpointSlice{ObjectMeta: object("web-abcde"), AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr.To[int32](80)}, {}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}}, {Addresses: []string{"10.0.0.2"}}, {Addresses: []string{"10.0.0.3"}}, {Addresses: []string{"10.0.0.4"}}}},
		&discoveryv1.EndpointSlice{ObjectMeta: object("empty"), AddressType: discoveryv1.AddressTypeIPv6})
}

func TestEvents(t *testing.T) {
	about := corev1.ObjectReference{Kind: "Pod", Name: "web", FieldPath: "spec.containers{web}"}
	golden(t, "events",
		&corev1.Event{ObjectMeta: object("web.1"), InvolvedObject: about, Type: "Normal", Reason: "Pulled", Message: "Container image already present\n", Count: 3,
			FirstTimestamp: ago(10 * time.Minute), LastTimestamp: ago(time.Minute), Source: corev1.EventSource{Component: "kubelet", Host: "pi"}},
		&corev1.Event{ObjectMeta: object("web.2"), InvolvedObject: about, Type: "Warning", Reason: "BackOff", Message: "Back-off", EventTime: metav1.NewMicroTime(now.Add(-time.Hour)),
			Series: &corev1.EventSeries{Count: 9, LastObservedTime: metav1.NewMicroTime(now.Add(-2 * time.Second))}, ReportingController: "kubelet", ReportingInstance: "pi"},
		&corev1.Event{ObjectMeta: object("web.3"), InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: "pi"}, Type: "Normal", Reason: "Starting", EventTime: metav1.NewMicroTime(now.Add(-5 * time.Second)), ReportingController: "coracle"},
		&corev1.Event{ObjectMeta: object("web.4"), Type: "Normal", Reason: "Odd"})
}

func TestWorkloads(t *testing.T) {
	golden(t, "deployments", &appsv1.Deployment{ObjectMeta: object("web"), Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](3), Selector: selector, Template: template},
		Status: appsv1.DeploymentStatus{Replicas: 3, ReadyReplicas: 2, UpdatedReplicas: 3, AvailableReplicas: 2}})
	golden(t, "replicasets", &appsv1.ReplicaSet{ObjectMeta: object("web-5d4f"), Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](3), Selector: selector, Template: template},
		Status: appsv1.ReplicaSetStatus{Replicas: 3, ReadyReplicas: 2}})
	golden(t, "replicationcontrollers", &corev1.ReplicationController{ObjectMeta: object("old"), Spec: corev1.ReplicationControllerSpec{Replicas: ptr.To[int32](2), Selector: map[string]string{"app": "web"}, Template: &template},
		Status: corev1.ReplicationControllerStatus{Replicas: 2, ReadyReplicas: 1}})
	golden(t, "statefulsets", &appsv1.StatefulSet{ObjectMeta: object("db"), Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](3), Template: template}, Status: appsv1.StatefulSetStatus{ReadyReplicas: 1}})
	golden(t, "daemonsets", &appsv1.DaemonSet{ObjectMeta: object("log"), Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template},
		Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 4, CurrentNumberScheduled: 3, NumberReady: 2, UpdatedNumberScheduled: 3, NumberAvailable: 2}})
	golden(t, "jobs",
		&batchv1.Job{ObjectMeta: object("done"), Spec: batchv1.JobSpec{Completions: ptr.To[int32](1), Selector: selector, Template: template},
			Status: batchv1.JobStatus{Succeeded: 1, StartTime: ptr.To(ago(time.Hour)), CompletionTime: ptr.To(ago(50 * time.Minute)), Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}},
		&batchv1.Job{ObjectMeta: object("going"), Spec: batchv1.JobSpec{Parallelism: ptr.To[int32](4), Template: template}, Status: batchv1.JobStatus{StartTime: ptr.To(ago(90 * time.Second))}})
	golden(t, "cronjobs", &batchv1.CronJob{ObjectMeta: object("nightly"), Spec: batchv1.CronJobSpec{Schedule: "0 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}},
		Status: batchv1.CronJobStatus{LastScheduleTime: ptr.To(ago(9 * time.Hour))}})
	golden(t, "controllerrevisions", &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "db-1", CreationTimestamp: ago(time.Hour),
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", Controller: ptr.To(true)}}}, Revision: 2})
}

func TestSmallKinds(t *testing.T) {
	golden(t, "namespaces", &corev1.Namespace{ObjectMeta: object("default"), Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive}})
	golden(t, "configmaps", &corev1.ConfigMap{ObjectMeta: object("conf"), Data: map[string]string{"a": ""}, BinaryData: map[string][]byte{"b": nil}})
	golden(t, "secrets", &corev1.Secret{ObjectMeta: object("key"), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{"a": nil}})
	golden(t, "serviceaccounts", &corev1.ServiceAccount{ObjectMeta: object("default"), Secrets: []corev1.ObjectReference{{Name: "x"}}})
	golden(t, "leases", &coordinationv1.Lease{ObjectMeta: object("pi"), Spec: coordinationv1.LeaseSpec{HolderIdentity: ptr.To("gateway-1")}})
	golden(t, "podtemplates", &corev1.PodTemplate{ObjectMeta: object("t"), Template: template})
	golden(t, "limitranges", &corev1.LimitRange{ObjectMeta: object("small")})
	golden(t, "resourcequotas", &corev1.ResourceQuota{ObjectMeta: object("team"), Status: corev1.ResourceQuotaStatus{
		Hard: corev1.ResourceList{"pods": resource.MustParse("10"), "limits.cpu": resource.MustParse("4"), "cpu": resource.MustParse("2")},
		Used: corev1.ResourceList{"pods": resource.MustParse("3")},
	}})
	golden(t, "priorityclasses", &schedulingv1.PriorityClass{ObjectMeta: object("high"), Value: 1000})
	golden(t, "runtimeclasses", &nodev1.RuntimeClass{ObjectMeta: object("crun"), Handler: "crun"})
	golden(t, "poddisruptionbudgets", &policyv1.PodDisruptionBudget{ObjectMeta: object("web"), Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromString("50%"))}, Status: policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: 1}})
	golden(t, "unknown-kind", &flowcontrolv1.FlowSchema{ObjectMeta: object("x")})
}

func TestMetrics(t *testing.T) {
	used := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	window := metav1.Duration{Duration: 15 * time.Second}
	golden(t, "nodes.metrics", &metricsv1beta1.NodeMetrics{ObjectMeta: object("pi"), Usage: used("250m", "100Mi"), Window: window})
	golden(t, "pods.metrics", &metricsv1beta1.PodMetrics{ObjectMeta: object("web"), Window: window, Containers: []metricsv1beta1.ContainerMetrics{
		{Name: "c", Usage: used("1500n", "10Mi")}, {Name: "d", Usage: used("500n", "1Mi")}}}, &metricsv1beta1.PodMetrics{ObjectMeta: object("none")})
}

func TestAccess(t *testing.T) {
	golden(t, "roles", &rbacv1.Role{ObjectMeta: object("reader")})
	golden(t, "clusterroles", &rbacv1.ClusterRole{ObjectMeta: object("admin")})
	subjects := []rbacv1.Subject{{Kind: "User", Name: "jane"}, {Kind: "User", Name: "joe"}, {Kind: "Group", Name: "dev"}, {Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}}
	golden(t, "rolebindings", &rbacv1.RoleBinding{ObjectMeta: object("readers"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "reader"}, Subjects: subjects})
	golden(t, "clusterrolebindings", &rbacv1.ClusterRoleBinding{ObjectMeta: object("admins"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "admin"}})
	golden(t, "certificatesigningrequests", &certificatesv1.CertificateSigningRequest{ObjectMeta: object("csr"), Spec: certificatesv1.CertificateSigningRequestSpec{SignerName: "x/y", Username: "jane", ExpirationSeconds: ptr.To[int32](3600)},
		Status: certificatesv1.CertificateSigningRequestStatus{Certificate: []byte("x"), Conditions: []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved}}}})
}

func TestNetworkAndStorage(t *testing.T) {
	golden(t, "ingresses", &networkingv1.Ingress{ObjectMeta: object("web"), Spec: networkingv1.IngressSpec{IngressClassName: ptr.To("nginx"), TLS: []networkingv1.IngressTLS{{}},
		Rules: []networkingv1.IngressRule{{Host: "a.example.com"}, {Host: "b.example.com"}}}, Status: networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{Ingress: []networkingv1.IngressLoadBalancerIngress{{IP: "203.0.113.1"}}}}},
		&networkingv1.Ingress{ObjectMeta: object("any")})
	golden(t, "networkpolicies", &networkingv1.NetworkPolicy{ObjectMeta: object("deny"), Spec: networkingv1.NetworkPolicySpec{PodSelector: *selector}}, &networkingv1.NetworkPolicy{ObjectMeta: object("all")})
	golden(t, "ipaddresses", &networkingv1.IPAddress{ObjectMeta: object("10.96.0.1"), Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: "default", Name: "kubernetes"}}})
	golden(t, "persistentvolumes", &corev1.PersistentVolume{ObjectMeta: object("pv"), Spec: corev1.PersistentVolumeSpec{Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany, corev1.ReadWriteOnce}, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		ClaimRef: &corev1.ObjectReference{Namespace: "ns", Name: "data"}, StorageClassName: "fast", VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem)}, Status: corev1.PersistentVolumeStatus{Phase: corev1.VolumeBound}})
	golden(t, "persistentvolumeclaims", &corev1.PersistentVolumeClaim{ObjectMeta: object("data"), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv", StorageClassName: ptr.To("fast")},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}}},
		&corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "waiting", DeletionTimestamp: ptr.To(ago(time.Minute)), CreationTimestamp: ago(time.Hour)}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}})
	golden(t, "storageclasses", &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast", CreationTimestamp: ago(time.Hour), Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}, Provisioner: "csi.example.com"})
}

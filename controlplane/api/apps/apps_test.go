package apps

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"coracle/controlplane/api/expect"
)

func ptr[T any](v T) *T { return &v }

var (
	meta     = metav1.ObjectMeta{Name: "x", Namespace: "ns", ResourceVersion: "1"}
	selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
	template = corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "x", "more": "y"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i:1"}}},
	}
)

func deployment(change func(d *appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector.DeepCopy(), Template: *template.DeepCopy()}}
	defaultDeployment(d)
	if change != nil {
		change(d)
	}
	return d
}

func TestDeployment(t *testing.T) {
	rolling := func(down, up intstr.IntOrString) *appsv1.Deployment {
		return deployment(func(d *appsv1.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: &down, MaxSurge: &up}
		})
	}
	const at = "spec.strategy.rollingUpdate"
	for _, tc := range []struct {
		name string
		d    *appsv1.Deployment
		want []string
	}{
		{"sound", deployment(nil), nil},
		{"name", deployment(func(d *appsv1.Deployment) { d.Name = "A" }), []string{"Invalid metadata.name"}},
		{"numbers", deployment(func(d *appsv1.Deployment) {
			d.Spec.Replicas, d.Spec.MinReadySeconds, d.Spec.RevisionHistoryLimit, d.Spec.ProgressDeadlineSeconds = ptr(int32(-1)), -1, ptr(int32(-1)), ptr(int32(-2))
		}), []string{"Invalid spec.replicas", "Invalid spec.minReadySeconds", "Invalid spec.revisionHistoryLimit", "Invalid spec.progressDeadlineSeconds", "Invalid spec.progressDeadlineSeconds"}},
		{"deadline before ready", deployment(func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 600 }), []string{"Invalid spec.progressDeadlineSeconds"}},
		{"no selector", deployment(func(d *appsv1.Deployment) { d.Spec.Selector = nil }), []string{"Required spec.selector"}},
		{"empty selector", deployment(func(d *appsv1.Deployment) { d.Spec.Selector = &metav1.LabelSelector{} }), []string{"Invalid spec.selector"}},
		{"bad selector", deployment(func(d *appsv1.Deployment) {
			d.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "k", Operator: "Near"}}
		}), []string{"Invalid spec.selector.matchExpressions[0].operator"}},
		{"selector misses template", deployment(func(d *appsv1.Deployment) { d.Spec.Template.Labels = nil }), []string{"Invalid spec.template.metadata.labels"}},
		{"template", deployment(func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.RestartPolicy, d.Spec.Template.Spec.Containers[0].Name = corev1.RestartPolicyNever, ""
		}), []string{"NotSupported spec.template.spec.restartPolicy", "Required spec.template.spec.containers[0].name"}},
		{"strategy", deployment(func(d *appsv1.Deployment) { d.Spec.Strategy.Type = "x" }), []string{"NotSupported spec.strategy"}},
		{"recreate with parameters", deployment(func(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }), []string{"Forbidden " + at}},
		{"no movement", rolling(intstr.FromInt32(0), intstr.FromString("0%")), []string{"Invalid " + at + ".maxUnavailable"}},
		{"more than all", rolling(intstr.FromString("101%"), intstr.FromString("200%")), []string{"Invalid " + at + ".maxUnavailable"}},
		{"not numbers", rolling(intstr.FromString("half"), intstr.FromInt32(-1)), []string{"Invalid " + at + ".maxUnavailable", "Invalid " + at + ".maxSurge"}},
	} {
		t.Run(tc.name, func(t *testing.T) { expect.Errors(t, ValidateDeployment(tc.d), tc.want...) })
	}
}

func TestDeploymentUpdate(t *testing.T) {
	expect.Errors(t, ValidateDeploymentUpdate(deployment(func(d *appsv1.Deployment) { d.Spec.Replicas = ptr(int32(3)) }), deployment(nil)))
	expect.Errors(t, ValidateDeploymentUpdate(deployment(func(d *appsv1.Deployment) { d.Spec.Selector.MatchLabels["more"] = "y" }), deployment(nil)), "Invalid spec.selector")
	old := deployment(func(d *appsv1.Deployment) { d.Status.CollisionCount = ptr(int32(2)) })
	expect.Errors(t, ValidateDeploymentStatusUpdate(deployment(func(d *appsv1.Deployment) {
		d.Status = appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 2, ReadyReplicas: 1, AvailableReplicas: 1, UnavailableReplicas: -1, CollisionCount: ptr(int32(1)), TerminatingReplicas: ptr(int32(-1))}
	}), old), "Invalid status.updatedReplicas", "Invalid status.unavailableReplicas", "Invalid status.collisionCount", "Invalid status.terminatingReplicas")
	expect.Errors(t, ValidateDeploymentStatusUpdate(deployment(nil), old), "Invalid status.collisionCount")
}

func TestReplicaSet(t *testing.T) {
	rs := func(change func(r *appsv1.ReplicaSet)) *appsv1.ReplicaSet {
		r := &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector.DeepCopy(), Template: *template.DeepCopy()}}
		defaultReplicaSet(r)
		change(r)
		return r
	}
	sound := rs(func(*appsv1.ReplicaSet) {})
	expect.Errors(t, ValidateReplicaSet(sound))
	expect.Errors(t, ValidateReplicaSet(rs(func(r *appsv1.ReplicaSet) {
		r.Spec.Replicas, r.Spec.MinReadySeconds, r.Spec.Selector = ptr(int32(-1)), -1, nil
	})), "Invalid spec.replicas", "Invalid spec.minReadySeconds", "Required spec.selector")
	expect.Errors(t, ValidateReplicaSetUpdate(rs(func(r *appsv1.ReplicaSet) { r.Spec.Selector.MatchLabels["more"] = "y" }), sound), "Invalid spec.selector")
	expect.Errors(t, ValidateReplicaSetStatusUpdate(rs(func(r *appsv1.ReplicaSet) {
		r.Status = appsv1.ReplicaSetStatus{Replicas: 1, FullyLabeledReplicas: 2, ReadyReplicas: 0, AvailableReplicas: 1}
	}), sound), "Invalid status.fullyLabeledReplicas", "Invalid status.availableReplicas")
}

func TestDaemonSet(t *testing.T) {
	ds := func(change func(d *appsv1.DaemonSet)) *appsv1.DaemonSet {
		d := &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector.DeepCopy(), Template: *template.DeepCopy()}}
		defaultDaemonSet(d)
		change(d)
		return d
	}
	sound := ds(func(*appsv1.DaemonSet) {})
	expect.Errors(t, ValidateDaemonSet(sound))
	expect.Errors(t, ValidateDaemonSet(ds(func(d *appsv1.DaemonSet) { d.Spec.UpdateStrategy.Type = "x" })), "NotSupported spec.updateStrategy")
	expect.Errors(t, ValidateDaemonSet(ds(func(d *appsv1.DaemonSet) {
		d.Spec.UpdateStrategy.RollingUpdate.MaxSurge = ptr(intstr.FromInt32(1))
	})), "Invalid spec.updateStrategy.rollingUpdate.maxSurge")
	expect.Errors(t, ValidateDaemonSet(ds(func(d *appsv1.DaemonSet) {
		d.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable = ptr(intstr.FromInt32(0))
	})), "Required spec.updateStrategy.rollingUpdate.maxUnavailable")
	expect.Errors(t, ValidateDaemonSetUpdate(ds(func(d *appsv1.DaemonSet) { d.Spec.Selector.MatchLabels["more"] = "y" }), sound), "Invalid spec.selector")
	expect.Errors(t, ValidateDaemonSetStatusUpdate(ds(func(d *appsv1.DaemonSet) { d.Status.NumberReady = -1 }), sound), "Invalid status.numberReady")
}

func TestStatefulSet(t *testing.T) {
	sts := func(change func(s *appsv1.StatefulSet)) *appsv1.StatefulSet {
		s := &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector.DeepCopy(), Template: *template.DeepCopy()}}
		s.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
		s.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
		defaultStatefulSet(s)
		change(s)
		return s
	}
	sound := sts(func(*appsv1.StatefulSet) {})
	expect.Errors(t, ValidateStatefulSet(sound))
	expect.Errors(t, ValidateStatefulSet(sts(func(s *appsv1.StatefulSet) {
		s.Name, s.Spec.PodManagementPolicy, s.Spec.Replicas = "a.b", "x", ptr(int32(-1))
		s.Spec.UpdateStrategy.RollingUpdate.Partition = ptr(int32(-1))
		s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled = "Burn"
		s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: -1}
	})), "Invalid metadata.name", "Invalid spec.podManagementPolicy", "Invalid spec.replicas", "Invalid spec.updateStrategy.rollingUpdate.partition",
		"NotSupported spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Invalid spec.ordinals.start")
	expect.Errors(t, ValidateStatefulSet(sts(func(s *appsv1.StatefulSet) { s.Spec.VolumeClaimTemplates = nil })), "NotFound spec.template.spec.containers[0].volumeMounts[0].name")
	expect.Errors(t, ValidateStatefulSet(sts(func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType })), "Invalid spec.updateStrategy.rollingUpdate")
	expect.Errors(t, ValidateStatefulSetUpdate(sts(func(s *appsv1.StatefulSet) { s.Spec.ServiceName = "other" }), sound), "Forbidden spec")
	expect.Errors(t, ValidateStatefulSetUpdate(sts(func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr(int32(5)) }), sound))
	expect.Errors(t, ValidateStatefulSetStatusUpdate(sts(func(s *appsv1.StatefulSet) { s.Status.CurrentReplicas = 1 }), sound), "Invalid status.currentReplicas")
}

func TestControllerRevision(t *testing.T) {
	r := &appsv1.ControllerRevision{ObjectMeta: meta, Data: runtime.RawExtension{Raw: []byte("{}")}}
	expect.Errors(t, ValidateControllerRevision(r))
	expect.Errors(t, ValidateControllerRevision(&appsv1.ControllerRevision{ObjectMeta: meta, Revision: -1}), "Required data", "Invalid revision")
	expect.Errors(t, ValidateControllerRevisionUpdate(&appsv1.ControllerRevision{ObjectMeta: meta, Data: runtime.RawExtension{Raw: []byte("1")}}, r), "Invalid data")
}

package apps

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"coracle/controlplane/api/core"
	"coracle/controlplane/api/fill"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(s *runtime.Scheme) error {
	fill.Kind(s, defaultDeployment)
	fill.List(s, func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items }, defaultDeployment)
	fill.Kind(s, defaultReplicaSet)
	fill.List(s, func(l *appsv1.ReplicaSetList) []appsv1.ReplicaSet { return l.Items }, defaultReplicaSet)
	fill.Kind(s, defaultDaemonSet)
	fill.List(s, func(l *appsv1.DaemonSetList) []appsv1.DaemonSet { return l.Items }, defaultDaemonSet)
	fill.Kind(s, defaultStatefulSet)
	fill.List(s, func(l *appsv1.StatefulSetList) []appsv1.StatefulSet { return l.Items }, defaultStatefulSet)
	return nil
}

func defaultDeployment(d *appsv1.Deployment) {
	fill.Pointer(&d.Spec.Replicas, 1)
	strategy := &d.Spec.Strategy
	fill.Value(&strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		fill.Pointer(&strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		fill.Pointer(&strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		fill.Pointer(&strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	fill.Pointer(&d.Spec.RevisionHistoryLimit, 10)
	fill.Pointer(&d.Spec.ProgressDeadlineSeconds, 600)
	core.DefaultPodTemplateSpec(&d.Spec.Template)
}

func defaultReplicaSet(r *appsv1.ReplicaSet) {
	fill.Pointer(&r.Spec.Replicas, 1)
	core.DefaultPodTemplateSpec(&r.Spec.Template)
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	strategy := &d.Spec.UpdateStrategy
	fill.Value(&strategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if strategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		fill.Pointer(&strategy.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		fill.Pointer(&strategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		fill.Pointer(&strategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	fill.Pointer(&d.Spec.RevisionHistoryLimit, 10)
	core.DefaultPodTemplateSpec(&d.Spec.Template)
}

func defaultStatefulSet(s *appsv1.StatefulSet) {
	fill.Value(&s.Spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	strategy := &s.Spec.UpdateStrategy
	if strategy.Type == "" {
		strategy.Type = appsv1.RollingUpdateStatefulSetStrategyType
		fill.Pointer(&strategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
	}
	if strategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && strategy.RollingUpdate != nil {
		fill.Pointer(&strategy.RollingUpdate.Partition, 0)
		fill.Pointer(&strategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
	}
	fill.Pointer(&s.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	retention := s.Spec.PersistentVolumeClaimRetentionPolicy
	fill.Value(&retention.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	fill.Value(&retention.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	fill.Pointer(&s.Spec.Replicas, 1)
	fill.Pointer(&s.Spec.RevisionHistoryLimit, 10)
	core.DefaultPodTemplateSpec(&s.Spec.Template)
	for i := range s.Spec.VolumeClaimTemplates {
		core.DefaultPersistentVolumeClaim(&s.Spec.VolumeClaimTemplates[i])
	}
}

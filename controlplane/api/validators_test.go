package api

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/apps"
	"coracle/controlplane/api/authentication"
	"coracle/controlplane/api/authorization"
	"coracle/controlplane/api/autoscaling"
	"coracle/controlplane/api/batch"
	"coracle/controlplane/api/coordination"
	"coracle/controlplane/api/core"
	"coracle/controlplane/api/discovery"
	"coracle/controlplane/api/events"
	"coracle/controlplane/api/networking"
	"coracle/controlplane/api/node"
	"coracle/controlplane/api/policy"
	"coracle/controlplane/api/rbac"
	"coracle/controlplane/api/scheduling"
)

// validator joins what judges one kind. updates hold all that compare two objects.
type validator struct {
	obj     runtime.Object
	create  func(runtime.Object) field.ErrorList
	updates []func(now, old runtime.Object) field.ErrorList
}

// kind makes a validator from the typed functions of a group.
func kind[T any, P interface {
	*T
	runtime.Object
}](create func(P) field.ErrorList, updates ...func(now, old P) field.ErrorList) validator {
	v := validator{obj: P(new(T)), create: func(o runtime.Object) field.ErrorList { return create(o.(P)) }}
	for _, u := range updates {
		v.updates = append(v.updates, func(now, old runtime.Object) field.ErrorList { return u(now.(P), old.(P)) })
	}
	return v
}

// validators lists every kind that is judged.
var validators = []validator{
	kind[corev1.Namespace](core.ValidateNamespace, core.ValidateNamespaceUpdate, core.ValidateNamespaceStatusUpdate, core.ValidateNamespaceFinalizeUpdate),
	kind[corev1.Node](core.ValidateNode, core.ValidateNodeUpdate, core.ValidateNodeStatusUpdate),
	kind[corev1.Pod](core.ValidatePod, core.ValidatePodUpdate, core.ValidatePodStatusUpdate, core.ValidatePodEphemeralContainersUpdate, core.ValidatePodResize),
	kind[corev1.PodTemplate](core.ValidatePodTemplate, core.ValidatePodTemplateUpdate),
	kind[corev1.ConfigMap](core.ValidateConfigMap, core.ValidateConfigMapUpdate),
	kind[corev1.Secret](core.ValidateSecret, core.ValidateSecretUpdate),
	kind[corev1.ServiceAccount](core.ValidateServiceAccount, core.ValidateServiceAccountUpdate),
	kind[corev1.Service](core.ValidateService, core.ValidateServiceUpdate, core.ValidateServiceStatusUpdate),
	kind[corev1.Endpoints](core.ValidateEndpoints, core.ValidateEndpointsUpdate),
	kind[corev1.Event](core.ValidateEvent, core.ValidateEventUpdate, events.ValidateEventUpdate),
	kind[corev1.Event](events.ValidateEvent),
	kind[corev1.ReplicationController](core.ValidateReplicationController, core.ValidateReplicationControllerUpdate, core.ValidateReplicationControllerStatusUpdate),
	kind[corev1.LimitRange](core.ValidateLimitRange, core.ValidateLimitRangeUpdate),
	kind[corev1.ResourceQuota](core.ValidateResourceQuota, core.ValidateResourceQuotaUpdate, core.ValidateResourceQuotaStatusUpdate),
	kind[corev1.PersistentVolume](core.ValidatePersistentVolume, core.ValidatePersistentVolumeUpdate, core.ValidatePersistentVolumeStatusUpdate),
	kind[corev1.PersistentVolumeClaim](core.ValidatePersistentVolumeClaim, core.ValidatePersistentVolumeClaimUpdate, core.ValidatePersistentVolumeClaimStatusUpdate),
	kind[corev1.Binding](core.ValidateBinding),
	kind[corev1.PodLogOptions](core.ValidatePodLogOptions),
	kind[appsv1.Deployment](apps.ValidateDeployment, apps.ValidateDeploymentUpdate, apps.ValidateDeploymentStatusUpdate),
	kind[appsv1.ReplicaSet](apps.ValidateReplicaSet, apps.ValidateReplicaSetUpdate, apps.ValidateReplicaSetStatusUpdate),
	kind[appsv1.DaemonSet](apps.ValidateDaemonSet, apps.ValidateDaemonSetUpdate, apps.ValidateDaemonSetStatusUpdate),
	kind[appsv1.StatefulSet](apps.ValidateStatefulSet, apps.ValidateStatefulSetUpdate, apps.ValidateStatefulSetStatusUpdate),
	kind[appsv1.ControllerRevision](apps.ValidateControllerRevision, apps.ValidateControllerRevisionUpdate),
	kind[batchv1.Job](batch.ValidateJob, batch.ValidateJobUpdate, batch.ValidateJobStatusUpdate),
	kind[batchv1.CronJob](batch.ValidateCronJob, batch.ValidateCronJobUpdate, batch.ValidateCronJobStatusUpdate),
	kind[networkingv1.Ingress](networking.ValidateIngress, networking.ValidateIngressUpdate, networking.ValidateIngressStatusUpdate),
	kind[networkingv1.IngressClass](networking.ValidateIngressClass, networking.ValidateIngressClassUpdate),
	kind[networkingv1.NetworkPolicy](networking.ValidateNetworkPolicy, networking.ValidateNetworkPolicyUpdate),
	kind[networkingv1.ServiceCIDR](networking.ValidateServiceCIDR, networking.ValidateServiceCIDRUpdate, networking.ValidateServiceCIDRStatusUpdate),
	kind[rbacv1.Role](rbac.ValidateRole, rbac.ValidateRoleUpdate),
	kind[rbacv1.ClusterRole](rbac.ValidateClusterRole, rbac.ValidateClusterRoleUpdate),
	kind[rbacv1.RoleBinding](rbac.ValidateRoleBinding, rbac.ValidateRoleBindingUpdate),
	kind[rbacv1.ClusterRoleBinding](rbac.ValidateClusterRoleBinding, rbac.ValidateClusterRoleBindingUpdate),
	kind[discoveryv1.EndpointSlice](discovery.ValidateEndpointSlice, discovery.ValidateEndpointSliceUpdate),
	kind[coordinationv1.Lease](coordination.ValidateLease, coordination.ValidateLeaseUpdate),
	kind[authenticationv1.TokenRequest](authentication.ValidateTokenRequest),
	kind[authenticationv1.TokenReview](authentication.ValidateTokenReview),
	kind[authenticationv1.SelfSubjectReview](authentication.ValidateSelfSubjectReview),
	kind[authorizationv1.SubjectAccessReview](authorization.ValidateSubjectAccessReview),
	kind[authorizationv1.SelfSubjectAccessReview](authorization.ValidateSelfSubjectAccessReview),
	kind[authorizationv1.LocalSubjectAccessReview](authorization.ValidateLocalSubjectAccessReview),
	kind[authorizationv1.SelfSubjectRulesReview](authorization.ValidateSelfSubjectRulesReview),
	kind[policyv1.Eviction](policy.ValidateEviction),
	kind[policyv1.PodDisruptionBudget](policy.ValidatePodDisruptionBudget, policy.ValidatePodDisruptionBudgetUpdate, policy.ValidatePodDisruptionBudgetStatusUpdate),
	kind[autoscalingv1.Scale](autoscaling.ValidateScale),
	kind[schedulingv1.PriorityClass](scheduling.ValidatePriorityClass, scheduling.ValidatePriorityClassUpdate),
	kind[nodev1.RuntimeClass](node.ValidateRuntimeClass, node.ValidateRuntimeClassUpdate),
}

// TestValidatorsAreTotal: whatever an object holds, judging it ends with a list of
// errors, the same list each time, and leaves the object as it was.
func TestValidatorsAreTotal(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for _, v := range validators {
		name := reflect.TypeOf(v.obj).Elem().String()
		t.Run(name, func(t *testing.T) {
			f := filler(int64(len(name)))
			for i := range rounds {
				now, old := v.obj.DeepCopyObject(), v.obj.DeepCopyObject()
				f.Fill(now)
				f.Fill(old)
				if i%2 == 0 {
					Scheme.Default(now)
					Scheme.Default(old)
				}
				if i%3 == 0 {
					old = now.DeepCopyObject()
				}
				nowBefore, oldBefore := now.DeepCopyObject(), old.DeepCopyObject()
				judge := func() []string {
					found := summary(v.create(now))
					for _, u := range v.updates {
						found = append(found, summary(u(now, old))...)
					}
					return found
				}
				first, second := judge(), judge()
				if diff := cmp.Diff(first, second); diff != "" {
					t.Fatalf("judged differently the second time:\n%s", diff)
				}
				if !reflect.DeepEqual(now, nowBefore) || !reflect.DeepEqual(old, oldBefore) {
					t.Fatal("judging changed the object")
				}
			}
		})
	}
}

// summary gives type and path of each error, in order: the library judges labels
// in the order of a map.
func summary(errs field.ErrorList) []string {
	lines := make([]string, len(errs))
	for i, e := range errs {
		lines[i] = string(e.Type) + " " + e.Field
	}
	slices.Sort(lines)
	return lines
}

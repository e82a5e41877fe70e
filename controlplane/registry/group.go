package registry

import (
	"errors"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"coracle/controlplane/registry/apps"
	"coracle/controlplane/registry/authentication"
	"coracle/controlplane/registry/authorization"
	"coracle/controlplane/registry/batch"
	"coracle/controlplane/registry/coordination"
	"coracle/controlplane/registry/discovery"
	"coracle/controlplane/registry/kind"
	"coracle/controlplane/registry/networking"
	"coracle/controlplane/registry/node"
	"coracle/controlplane/registry/policy"
	"coracle/controlplane/registry/rbac"
	"coracle/controlplane/registry/scheduling"
)

var networkingV1 = networkingv1.SchemeGroupVersion

func (r *Registry) addGroups(cfg Config) error {
	leases, err := coordination.Build(cfg.Env, cfg.Sessions)
	if err != nil {
		return err
	}
	r.add(coordinationv1.SchemeGroupVersion, "leases", leases)
	return errors.Join(
		r.addWorkloads(cfg),
		placed(place(r, cfg, networkingV1, networking.Ingresses())),
		placed(place(r, cfg, networkingV1, networking.IngressClasses())),
		placed(place(r, cfg, networkingV1, networking.NetworkPolicies())),
		placed(place(r, cfg, networkingV1, networking.ServiceCIDRs())),
		placed(place(r, cfg, policyv1.SchemeGroupVersion, policy.PodDisruptionBudgets())),
		placed(place(r, cfg, discoveryv1.SchemeGroupVersion, discovery.EndpointSlices())),
		placed(place(r, cfg, schedulingv1.SchemeGroupVersion, scheduling.PriorityClasses())),
		placed(place(r, cfg, nodev1.SchemeGroupVersion, node.RuntimeClasses())),
	)
}

func (r *Registry) addWorkloads(cfg Config) error {
	jobs, err := place(r, cfg, batchv1.SchemeGroupVersion, batch.Jobs())
	if err != nil {
		return err
	}
	r.add(batchv1.SchemeGroupVersion, "jobs", batch.NewJobs(jobs))
	return errors.Join(
		placeScaled(r, cfg, appsv1.SchemeGroupVersion, apps.Deployments(), apps.DeploymentScale()),
		placeScaled(r, cfg, appsv1.SchemeGroupVersion, apps.ReplicaSets(), apps.ReplicaSetScale()),
		placeScaled(r, cfg, appsv1.SchemeGroupVersion, apps.StatefulSets(), apps.StatefulSetScale()),
		placed(place(r, cfg, appsv1.SchemeGroupVersion, apps.DaemonSets())),
		placed(place(r, cfg, appsv1.SchemeGroupVersion, apps.ControllerRevisions())),
		placed(place(r, cfg, batchv1.SchemeGroupVersion, batch.CronJobs())),
	)
}

func (r *Registry) addRBAC(cfg Config) error {
	storage, err := rbac.Build(cfg.Env, cfg.Guard)
	if err != nil {
		return err
	}
	for path, s := range storage {
		r.add(rbacv1.SchemeGroupVersion, path, s)
	}
	return nil
}

func (r *Registry) addReviews(cfg Config) error {
	for path, s := range authentication.Storage(cfg.Authenticator, cfg.Audiences) {
		r.add(authenticationv1.SchemeGroupVersion, path, s)
	}
	for path, s := range authorization.Storage(cfg.Authorizer, cfg.RuleResolver) {
		r.add(authorizationv1.SchemeGroupVersion, path, s)
	}
	return nil
}

func sorted[V any](m map[schema.GroupVersion]V) []schema.GroupVersion {
	return slices.SortedFunc(maps.Keys(m), func(a, b schema.GroupVersion) int { return strings.Compare(a.String(), b.String()) })
}

// placed drops the storage that a place returned and keeps its error.
func placed(_ *kind.REST, err error) error { return err }

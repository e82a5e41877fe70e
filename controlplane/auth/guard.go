package auth

import (
	"context"
	"errors"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"coracle/controlplane/auth/rbac"
)

// Guard keeps callers from granting more than they hold. The storage of Roles and bindings asks it before create and update,
// after validation; old is nil on create. Refusals are Forbidden errors of the API; other errors are the API's too.
//
// A caller passes without a look if they are in system:masters, hold the verb "escalate" (roles) or "bind" (bindings), or only
// touch what the garbage collector needs (owner references and finalizers).
type Guard struct {
	authorizer authorizer.Authorizer
	rules      *rbac.Resolver
}

// Guard returns the guard of this control plane.
func (a *Auth) Guard() *Guard { return &Guard{authorizer: a.authorizer, rules: a.Rules} }

// everything is what the author of an aggregation rule must hold: the parts may be anything later.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

// Role judges a Role.
func (g *Guard) Role(ctx context.Context, obj, old *rbacv1.Role) error {
	u, err := g.caller(ctx)
	if err != nil || u == nil {
		return err
	}
	if old != nil && onlyGarbageCollection(obj, old) || g.may(ctx, u, "escalate", "roles", obj.Namespace, obj.Name) {
		return nil
	}
	return g.confirm(u, obj.Namespace, "roles", obj.Name, obj.Rules)
}

// ClusterRole judges a ClusterRole.
func (g *Guard) ClusterRole(ctx context.Context, obj, old *rbacv1.ClusterRole) error {
	u, err := g.caller(ctx)
	if err != nil || u == nil {
		return err
	}
	if old != nil && onlyGarbageCollection(obj, old) || g.may(ctx, u, "escalate", "clusterroles", "", obj.Name) {
		return nil
	}
	if err := g.confirm(u, "", "clusterroles", obj.Name, obj.Rules); err != nil {
		return err
	}
	aggregates := obj.AggregationRule != nil && len(obj.AggregationRule.ClusterRoleSelectors) > 0
	if aggregates && (old == nil || !equality.Semantic.DeepEqual(obj.AggregationRule, old.AggregationRule)) {
		if err := g.rules.ConfirmNoEscalation(u, "", everything); err != nil {
			return rbac.Forbidden(rbacv1.Resource("clusterroles"), obj.Name,
				errors.New("must have cluster-admin privileges to use the aggregationRule"))
		}
	}
	return nil
}

// RoleBinding judges a RoleBinding.
func (g *Guard) RoleBinding(ctx context.Context, obj, old *rbacv1.RoleBinding) error {
	u, err := g.caller(ctx)
	if err != nil || u == nil || old != nil && onlyGarbageCollection(obj, old) {
		return err
	}
	return g.binding(ctx, u, obj.RoleRef, obj.Namespace, "rolebindings", obj.Name)
}

// ClusterRoleBinding judges a ClusterRoleBinding.
func (g *Guard) ClusterRoleBinding(ctx context.Context, obj, old *rbacv1.ClusterRoleBinding) error {
	u, err := g.caller(ctx)
	if err != nil || u == nil || old != nil && onlyGarbageCollection(obj, old) {
		return err
	}
	return g.binding(ctx, u, obj.RoleRef, "", "clusterrolebindings", obj.Name)
}

func (g *Guard) binding(ctx context.Context, u user.Info, ref rbacv1.RoleRef, namespace, resource, name string) error {
	of := "clusterroles"
	if ref.Kind == "Role" {
		of = "roles"
	}
	if g.may(ctx, u, "bind", of, namespace, ref.Name) {
		return nil
	}
	rules, err := g.rules.RoleRules(ref, namespace)
	if err != nil {
		return err
	}
	return g.confirm(u, namespace, resource, name, rules)
}

// caller returns nil for those who may grant anything.
func (g *Guard) caller(ctx context.Context) (user.Info, error) {
	u, ok := request.UserFrom(ctx)
	if !ok {
		return nil, errors.New("no user in the request's context")
	}
	for _, group := range u.GetGroups() {
		if group == user.SystemPrivilegedGroup {
			return nil, nil
		}
	}
	return u, nil
}

func (g *Guard) may(ctx context.Context, u user.Info, verb, resource, namespace, name string) bool {
	decision, _, err := g.authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: u, Verb: verb, Namespace: namespace, Name: name, Resource: resource,
		APIGroup: rbacv1.GroupName, APIVersion: "v1", ResourceRequest: true,
	})
	return err == nil && decision == authorizer.DecisionAllow
}

func (g *Guard) confirm(u user.Info, namespace, resource, name string, rules []rbacv1.PolicyRule) error {
	if err := g.rules.ConfirmNoEscalation(u, namespace, rules); err != nil {
		return rbac.Forbidden(rbacv1.Resource(resource), name, err)
	}
	return nil
}

// onlyGarbageCollection says whether obj differs from old in owner references and finalizers at most.
func onlyGarbageCollection[T interface {
	metav1.Object
	DeepCopy() T
}](obj, old T) bool {
	same := obj.DeepCopy()
	same.SetOwnerReferences(old.GetOwnerReferences())
	same.SetFinalizers(old.GetFinalizers())
	same.SetManagedFields(old.GetManagedFields())
	return equality.Semantic.DeepEqual(same, old)
}

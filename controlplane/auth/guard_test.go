package auth

import (
	"context"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
)

func TestGuard(t *testing.T) {
	a, client, factory := newAuth(t, newAuthority(t))
	if err := EnsurePolicy(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	pods := rbacv1.PolicyRule{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	grant := func(name, subject string, rules ...rbacv1.PolicyRule) {
		t.Helper()
		_, err := client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:  rbacv1.RoleRef{Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: "User", Name: subject}}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	grant("reader", "ann", pods)
	rbacRule := func(verb, resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{resource}}
	}
	grant("escalator", "eve", rbacRule("escalate", "roles"), rbacRule("escalate", "clusterroles"))
	grant("binder", "bea", rbacRule("bind", "clusterroles"))
	grant("almighty", "god", rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
		rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	g := a.Guard()
	as := func(name string, groups ...string) context.Context {
		return request.WithUser(t.Context(), &user.DefaultInfo{Name: name, Groups: groups})
	}
	secrets := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}}
	role := func(rules ...rbacv1.PolicyRule) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "new"}, Rules: rules}
	}
	sum := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "sum"}, AggregationRule: &rbacv1.AggregationRule{
		ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"a": "b"}}}}}
	to := func(name string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "new"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: name}}
	}
	owned := role(secrets)
	owned.Finalizers, owned.OwnerReferences = []string{"x/y"}, []metav1.OwnerReference{{Name: "o"}}
	everywhere := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "new"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "cluster-admin"}}
	for name, c := range map[string]struct {
		err error
		bad string
	}{
		"a role of what is held":         {err: g.Role(as("ann"), role(pods), nil)},
		"a role of more":                 {err: g.Role(as("ann"), role(secrets), nil), bad: `{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`},
		"a role changed to more":         {err: g.Role(as("ann"), role(pods, secrets), role(pods)), bad: "not currently held"},
		"only for garbage collection":    {err: g.Role(as("ann"), owned, role(secrets))},
		"escalate":                       {err: g.Role(as("eve"), role(secrets), nil)},
		"masters":                        {err: g.Role(as("x", "system:masters"), role(secrets), nil)},
		"a binding of what is held":      {err: g.RoleBinding(as("ann"), to("reader"), nil)},
		"a binding of more":              {err: g.RoleBinding(as("ann"), to("cluster-admin"), nil), bad: "not currently held"},
		"a binding of nothing":           {err: g.RoleBinding(as("ann"), to("nothing"), nil), bad: "not found"},
		"bind":                           {err: g.ClusterRoleBinding(as("bea"), everywhere, nil)},
		"escalate is not bind":           {err: g.ClusterRoleBinding(as("eve"), everywhere, nil), bad: "not currently held"},
		"aggregation":                    {err: g.ClusterRole(as("ann"), sum, nil), bad: "aggregationRule"},
		"aggregation by the almighty":    {err: g.ClusterRole(as("god"), sum, nil)},
		"aggregation as it was":          {err: g.ClusterRole(as("ann"), sum, sum.DeepCopy())},
		"aggregation by one who may":     {err: g.ClusterRole(as("eve"), sum, nil)},
		"a cluster role of what is held": {err: g.ClusterRole(as("ann"), &rbacv1.ClusterRole{Rules: []rbacv1.PolicyRule{pods}}, nil)},
	} {
		switch {
		case c.bad == "" && c.err != nil:
			t.Errorf("%s: %v", name, c.err)
		case c.bad != "" && (c.err == nil || !strings.Contains(c.err.Error(), c.bad)):
			t.Errorf("%s: got %v, want it to say %q", name, c.err, c.bad)
		case c.bad != "" && !apierrors.IsForbidden(c.err) && !apierrors.IsNotFound(c.err):
			t.Errorf("%s: %v is no error of the API", name, c.err)
		}
	}
	if err := g.Role(t.Context(), role(pods), nil); err == nil {
		t.Error("a request of nobody passed")
	}
}

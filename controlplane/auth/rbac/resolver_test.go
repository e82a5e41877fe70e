package rbac

import (
	"context"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// memory is a Reader over maps.
type memory struct {
	roles           map[string][]rbacv1.PolicyRule // by namespace/name
	clusterRoles    map[string][]rbacv1.PolicyRule
	bindings        []*rbacv1.RoleBinding
	clusterBindings []*rbacv1.ClusterRoleBinding
}

func (m memory) Role(namespace, name string) (*rbacv1.Role, error) {
	if rules, ok := m.roles[namespace+"/"+name]; ok {
		return &rbacv1.Role{Rules: rules}, nil
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("role"), name)
}

func (m memory) ClusterRole(name string) (*rbacv1.ClusterRole, error) {
	if rules, ok := m.clusterRoles[name]; ok {
		return &rbacv1.ClusterRole{Rules: rules}, nil
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("clusterrole"), name)
}

func (m memory) RoleBindings(namespace string) ([]*rbacv1.RoleBinding, error) {
	var list []*rbacv1.RoleBinding
	for _, b := range m.bindings {
		if b.Namespace == namespace {
			list = append(list, b)
		}
	}
	return list, nil
}

func (m memory) ClusterRoleBindings() ([]*rbacv1.ClusterRoleBinding, error) {
	return m.clusterBindings, nil
}

func world() memory {
	user := func(name string) []rbacv1.Subject { return []rbacv1.Subject{{Kind: "User", Name: name}} }
	at := func(namespace, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name}
	}
	return memory{
		roles: map[string][]rbacv1.PolicyRule{"a/reader": {rule("get", "core", "pods")}},
		clusterRoles: map[string][]rbacv1.PolicyRule{
			"viewer": {rule("get list", "core", "pods secrets"), {Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}},
		},
		bindings: []*rbacv1.RoleBinding{
			{ObjectMeta: at("a", "r"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "reader"}, Subjects: user("ann")},
			{ObjectMeta: at("a", "v"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "viewer"}, Subjects: user("bob")},
			{ObjectMeta: at("a", "gone"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "gone"}, Subjects: user("eve")},
			{ObjectMeta: at("a", "gone2"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "gone"}, Subjects: user("eve")},
			{ObjectMeta: at("a", "e"), RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "reader"}, Subjects: user("eve")},
		},
		clusterBindings: []*rbacv1.ClusterRoleBinding{
			{ObjectMeta: at("", "all"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "viewer"}, Subjects: user("cat")},
		},
	}
}

func TestAuthorize(t *testing.T) {
	resolver := &Resolver{Reader: world()}
	resource := func(name, verb, namespace, resource string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{User: &user.DefaultInfo{Name: name}, Verb: verb, Namespace: namespace, Resource: resource, ResourceRequest: true}
	}
	path := func(name string) authorizer.AttributesRecord {
		return authorizer.AttributesRecord{User: &user.DefaultInfo{Name: name}, Verb: "get", Path: "/metrics"}
	}
	for name, c := range map[string]struct {
		ask    authorizer.AttributesRecord
		allow  bool
		reason string
	}{
		"role":                            {resource("ann", "get", "a", "pods"), true, `RBAC: allowed by RoleBinding "r/a" of Role "reader" to User "ann"`},
		"role, other verb":                {resource("ann", "list", "a", "pods"), false, ""},
		"role, other namespace":           {resource("ann", "get", "b", "pods"), false, ""},
		"role, all namespaces":            {resource("ann", "get", "", "pods"), false, ""},
		"cluster role in a namespace":     {resource("bob", "list", "a", "secrets"), true, `RBAC: allowed by RoleBinding "v/a" of ClusterRole "viewer" to User "bob"`},
		"cluster role, other namespace":   {resource("bob", "list", "b", "secrets"), false, ""},
		"no paths through a RoleBinding":  {path("bob"), false, ""},
		"cluster-wide":                    {resource("cat", "list", "", "pods"), true, `RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "viewer" to User "cat"`},
		"cluster-wide in a namespace":     {resource("cat", "list", "x", "pods"), true, `RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "viewer" to User "cat"`},
		"paths":                           {path("cat"), true, `RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "viewer" to User "cat"`},
		"a dangling binding is passed by": {resource("eve", "get", "a", "pods"), true, `RBAC: allowed by RoleBinding "e/a" of Role "reader" to User "eve"`},
		"a dangling binding is told":      {resource("eve", "list", "a", "pods"), false, `RBAC: role.rbac.authorization.k8s.io "gone" not found`},
	} {
		decision, reason, err := resolver.Authorize(context.Background(), c.ask)
		if err != nil || (decision == authorizer.DecisionAllow) != c.allow || decision == authorizer.DecisionDeny || reason != c.reason {
			t.Errorf("%s: %v %q %v, want allowed %v %q", name, decision, reason, err, c.allow, c.reason)
		}
	}
}

func TestRulesForListsBothKinds(t *testing.T) {
	resources, paths, incomplete, err := (&Resolver{Reader: world()}).RulesFor(context.Background(), &user.DefaultInfo{Name: "cat"}, "a")
	if err != nil || incomplete || len(resources) != 1 || len(paths) != 1 {
		t.Fatalf("%d resource rules, %d path rules, incomplete %v, %v", len(resources), len(paths), incomplete, err)
	}
}

func TestRefusalListsWhatIsMissing(t *testing.T) {
	resolver := &Resolver{Reader: world()}
	ann := &user.DefaultInfo{Name: "ann", Groups: []string{"dev"}}
	if err := resolver.ConfirmNoEscalation(ann, "a", []rbacv1.PolicyRule{rule("get", "core", "pods", "x")}); err != nil {
		t.Fatalf("a part of what is held: %v", err)
	}
	err := resolver.ConfirmNoEscalation(ann, "a", []rbacv1.PolicyRule{rule("get list watch", "core", "pods"), rule("get", "core", "secrets")})
	want := `user "ann" (groups=["dev"]) is attempting to grant RBAC permissions not currently held:
{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}
{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`
	if err == nil || err.Error() != want {
		t.Fatalf("got\n%v\nwant\n%s", err, want)
	}
	eve := &user.DefaultInfo{Name: "eve"}
	if err := resolver.ConfirmNoEscalation(eve, "a", []rbacv1.PolicyRule{rule("list", "core", "pods")}); err == nil || !strings.Contains(err.Error(), "resolution errors: role") {
		t.Fatalf("unreadable roles are not told: %v", err)
	}
}

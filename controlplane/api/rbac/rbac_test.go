package rbac

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

var (
	meta        = metav1.ObjectMeta{Name: "system:x", Namespace: "ns", ResourceVersion: "1"}
	clusterMeta = metav1.ObjectMeta{Name: "system:x", ResourceVersion: "1"}
)

func TestRules(t *testing.T) {
	for _, tc := range []struct {
		name              string
		rule              rbacv1.PolicyRule
		role, clusterRole []string
	}{
		{name: "sound", rule: rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: []string{"p"}}},
		{name: "nothing", rule: rbacv1.PolicyRule{}, role: []string{"Required rules[0].verbs", "Required rules[0].apiGroups", "Required rules[0].resources"}, clusterRole: []string{"Required rules[0].verbs", "Required rules[0].apiGroups", "Required rules[0].resources"}},
		{name: "url", rule: rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/healthz"}}, role: []string{"Invalid rules[0].nonResourceURLs"}},
		{name: "url and resource", rule: rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}, Resources: []string{"pods"}},
			role: []string{"Invalid rules[0].nonResourceURLs", "Invalid rules[0].nonResourceURLs"}, clusterRole: []string{"Invalid rules[0].nonResourceURLs"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			role := &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{tc.rule}}
			expect.Errors(t, ValidateRole(role), tc.role...)
			expect.Errors(t, ValidateRoleUpdate(role, role), tc.role...)
			cluster := &rbacv1.ClusterRole{ObjectMeta: clusterMeta, Rules: []rbacv1.PolicyRule{tc.rule}}
			expect.Errors(t, ValidateClusterRole(cluster), tc.clusterRole...)
			expect.Errors(t, ValidateClusterRoleUpdate(cluster, cluster), tc.clusterRole...)
		})
	}
	expect.Errors(t, ValidateRole(&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "a/b"}}), "Invalid metadata.name", "Required metadata.namespace")
	expect.Errors(t, ValidateClusterRole(&rbacv1.ClusterRole{ObjectMeta: clusterMeta, AggregationRule: &rbacv1.AggregationRule{}}), "Required aggregationRule.clusterRoleSelectors")
	expect.Errors(t, ValidateClusterRole(&rbacv1.ClusterRole{ObjectMeta: clusterMeta, AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"a": "b c"}}}}}),
		"Invalid aggregationRule.clusterRoleSelectors[0].matchLabels")
}

func TestBindings(t *testing.T) {
	bind := func(ref rbacv1.RoleRef, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
		b := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: subjects}
		defaultRoleBinding(b)
		return b
	}
	sound := bind(rbacv1.RoleRef{Kind: "Role", Name: "r"}, rbacv1.Subject{Kind: "User", Name: "u"}, rbacv1.Subject{Kind: "ServiceAccount", Name: "a", Namespace: "ns"})
	expect.Errors(t, ValidateRoleBinding(sound))
	expect.Errors(t, ValidateRoleBinding(bind(rbacv1.RoleRef{APIGroup: "x", Kind: "Pod"})), "NotSupported roleRef.apiGroup", "NotSupported roleRef.kind", "Required roleRef.name")
	expect.Errors(t, ValidateRoleBinding(bind(rbacv1.RoleRef{Kind: "Role", Name: "a/b"},
		rbacv1.Subject{Kind: "User"}, rbacv1.Subject{Kind: "Group", Name: "g", APIGroup: "x"}, rbacv1.Subject{Kind: "ServiceAccount", Name: "A", APIGroup: "x"}, rbacv1.Subject{Kind: "Robot", Name: "r"},
	)), "Invalid roleRef.name", "Required subjects[0].name", "NotSupported subjects[1].apiGroup", "Invalid subjects[2].name", "NotSupported subjects[2].apiGroup", "NotSupported subjects[3].kind")
	expect.Errors(t, ValidateRoleBindingUpdate(bind(rbacv1.RoleRef{Kind: "Role", Name: "other"}), sound), "Invalid roleRef")

	cluster := &rbacv1.ClusterRoleBinding{ObjectMeta: clusterMeta, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "r"}, Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "a"}}}
	defaultClusterRoleBinding(cluster)
	expect.Errors(t, ValidateClusterRoleBinding(cluster), "NotSupported roleRef.kind", "Required subjects[0].namespace")
	other := cluster.DeepCopy()
	other.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "r"}
	expect.Errors(t, ValidateClusterRoleBindingUpdate(other, cluster), "Required subjects[0].namespace", "Invalid roleRef")
}

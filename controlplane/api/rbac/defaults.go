package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/fill"
)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(s *runtime.Scheme) error {
	fill.Kind(s, defaultRoleBinding)
	fill.List(s, func(l *rbacv1.RoleBindingList) []rbacv1.RoleBinding { return l.Items }, defaultRoleBinding)
	fill.Kind(s, defaultClusterRoleBinding)
	fill.List(s, func(l *rbacv1.ClusterRoleBindingList) []rbacv1.ClusterRoleBinding { return l.Items }, defaultClusterRoleBinding)
	return nil
}

func defaultRoleBinding(b *rbacv1.RoleBinding) {
	fill.Value(&b.RoleRef.APIGroup, rbacv1.GroupName)
	defaultSubjects(b.Subjects)
}

func defaultClusterRoleBinding(b *rbacv1.ClusterRoleBinding) {
	fill.Value(&b.RoleRef.APIGroup, rbacv1.GroupName)
	defaultSubjects(b.Subjects)
}

// defaultSubjects puts users and groups in the RBAC group; service accounts are
// of the core group, whose name is empty.
func defaultSubjects(subjects []rbacv1.Subject) {
	for i := range subjects {
		switch subjects[i].Kind {
		case rbacv1.UserKind, rbacv1.GroupKind:
			fill.Value(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}

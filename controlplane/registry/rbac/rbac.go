// Package rbac serves roles, rolebindings, clusterroles and clusterrolebindings, and sees to it that nobody grants more
// than they hold: whoever writes a role must have its rules, or the verb escalate; whoever writes a binding must have the
// role's rules, or the verb bind.
package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/rbac"
	"coracle/controlplane/registry/kind"
)

var versions = []string{rbacv1.SchemeGroupVersion.String()}

func roles() kind.Kind[*rbacv1.Role] {
	return kind.Kind[*rbacv1.Role]{
		Group: rbacv1.GroupName, Versions: versions, Resource: "roles", Singular: "role",
		New:     func() *rbacv1.Role { return &rbacv1.Role{} },
		NewList: func() runtime.Object { return &rbacv1.RoleList{} },
		Main: kind.Strategy[*rbacv1.Role]{
			Validate: rbac.ValidateRole, ValidateUpdate: rbac.ValidateRoleUpdate, CreateOnUpdate: true,
		},
	}
}

func clusterRoles() kind.Kind[*rbacv1.ClusterRole] {
	return kind.Kind[*rbacv1.ClusterRole]{
		Group: rbacv1.GroupName, Versions: versions, Resource: "clusterroles", Singular: "clusterrole", ClusterScoped: true,
		New:     func() *rbacv1.ClusterRole { return &rbacv1.ClusterRole{} },
		NewList: func() runtime.Object { return &rbacv1.ClusterRoleList{} },
		Main: kind.Strategy[*rbacv1.ClusterRole]{
			Validate: rbac.ValidateClusterRole, ValidateUpdate: rbac.ValidateClusterRoleUpdate, CreateOnUpdate: true,
		},
	}
}

func roleBindings() kind.Kind[*rbacv1.RoleBinding] {
	return kind.Kind[*rbacv1.RoleBinding]{
		Group: rbacv1.GroupName, Versions: versions, Resource: "rolebindings", Singular: "rolebinding",
		New:     func() *rbacv1.RoleBinding { return &rbacv1.RoleBinding{} },
		NewList: func() runtime.Object { return &rbacv1.RoleBindingList{} },
		Main: kind.Strategy[*rbacv1.RoleBinding]{
			Validate: rbac.ValidateRoleBinding, ValidateUpdate: rbac.ValidateRoleBindingUpdate, CreateOnUpdate: true,
		},
	}
}

func clusterRoleBindings() kind.Kind[*rbacv1.ClusterRoleBinding] {
	return kind.Kind[*rbacv1.ClusterRoleBinding]{
		Group: rbacv1.GroupName, Versions: versions, Resource: "clusterrolebindings", Singular: "clusterrolebinding", ClusterScoped: true,
		New:     func() *rbacv1.ClusterRoleBinding { return &rbacv1.ClusterRoleBinding{} },
		NewList: func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
		Main: kind.Strategy[*rbacv1.ClusterRoleBinding]{
			Validate: rbac.ValidateClusterRoleBinding, ValidateUpdate: rbac.ValidateClusterRoleBindingUpdate, CreateOnUpdate: true,
		},
	}
}

// Package rbac holds the defaults and validation of its API group.
package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateRole judges an object about to be created.
func ValidateRole(*rbacv1.Role) field.ErrorList { return nil }

// ValidateRoleUpdate judges an update.
func ValidateRoleUpdate(_, _ *rbacv1.Role) field.ErrorList { return nil }

// ValidateClusterRole judges an object about to be created.
func ValidateClusterRole(*rbacv1.ClusterRole) field.ErrorList { return nil }

// ValidateClusterRoleUpdate judges an update.
func ValidateClusterRoleUpdate(_, _ *rbacv1.ClusterRole) field.ErrorList { return nil }

// ValidateRoleBinding judges an object about to be created.
func ValidateRoleBinding(*rbacv1.RoleBinding) field.ErrorList { return nil }

// ValidateRoleBindingUpdate judges an update.
func ValidateRoleBindingUpdate(_, _ *rbacv1.RoleBinding) field.ErrorList { return nil }

// ValidateClusterRoleBinding judges an object about to be created.
func ValidateClusterRoleBinding(*rbacv1.ClusterRoleBinding) field.ErrorList { return nil }

// ValidateClusterRoleBindingUpdate judges an update.
func ValidateClusterRoleBindingUpdate(_, _ *rbacv1.ClusterRoleBinding) field.ErrorList { return nil }

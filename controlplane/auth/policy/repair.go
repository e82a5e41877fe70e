package policy

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// Protected says that a person opted an object out of repair, by setting the autoupdate annotation to "false".
func Protected(have metav1.Object) bool {
	return have.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] == "false"
}

// RepairClusterRole returns have with what it lacks of want, or nil when nothing is to be done. Rules, labels and annotations
// that were added by hand stay.
func RepairClusterRole(have, want *rbacv1.ClusterRole) *rbacv1.ClusterRole {
	if Protected(have) {
		return nil
	}
	out := have.DeepCopy()
	if want.AggregationRule != nil {
		if out.AggregationRule == nil {
			// The rules were written by hand so far; they are collected from now on.
			out.AggregationRule = &rbacv1.AggregationRule{}
		}
		for _, selector := range want.AggregationRule.ClusterRoleSelectors {
			if !slices.ContainsFunc(out.AggregationRule.ClusterRoleSelectors, func(s metav1.LabelSelector) bool {
				return equality.Semantic.DeepEqual(s, selector)
			}) {
				out.AggregationRule.ClusterRoleSelectors = append(out.AggregationRule.ClusterRoleSelectors, selector)
			}
		}
	} else {
		out.Rules = addRules(out.Rules, want.Rules)
	}
	addMeta(&out.ObjectMeta, &want.ObjectMeta)
	if equality.Semantic.DeepEqual(out, have) {
		return nil
	}
	return out
}

// RepairRole is RepairClusterRole for Roles.
func RepairRole(have, want *rbacv1.Role) *rbacv1.Role {
	if Protected(have) {
		return nil
	}
	out := have.DeepCopy()
	out.Rules = addRules(out.Rules, want.Rules)
	addMeta(&out.ObjectMeta, &want.ObjectMeta)
	if equality.Semantic.DeepEqual(out, have) {
		return nil
	}
	return out
}

// RepairClusterRoleBinding returns have with the subjects it lacks. recreate is true when it refers to another role: that
// cannot be changed in place, so the object must be deleted and out created.
func RepairClusterRoleBinding(have, want *rbacv1.ClusterRoleBinding) (out *rbacv1.ClusterRoleBinding, recreate bool) {
	if Protected(have) {
		return nil, false
	}
	if have.RoleRef != want.RoleRef {
		return want.DeepCopy(), true
	}
	out = have.DeepCopy()
	out.Subjects = addSubjects(out.Subjects, want.Subjects)
	addMeta(&out.ObjectMeta, &want.ObjectMeta)
	if equality.Semantic.DeepEqual(out, have) {
		return nil, false
	}
	return out, false
}

// RepairRoleBinding is RepairClusterRoleBinding for RoleBindings.
func RepairRoleBinding(have, want *rbacv1.RoleBinding) (out *rbacv1.RoleBinding, recreate bool) {
	if Protected(have) {
		return nil, false
	}
	if have.RoleRef != want.RoleRef {
		return want.DeepCopy(), true
	}
	out = have.DeepCopy()
	out.Subjects = addSubjects(out.Subjects, want.Subjects)
	addMeta(&out.ObjectMeta, &want.ObjectMeta)
	if equality.Semantic.DeepEqual(out, have) {
		return nil, false
	}
	return out, false
}

func addRules(have, want []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	if covered, missing := validation.Covers(have, want); !covered {
		have = append(have, missing...)
	}
	return have
}

func addSubjects(have, want []rbacv1.Subject) []rbacv1.Subject {
	for _, s := range want {
		if !slices.Contains(have, s) {
			have = append(have, s)
		}
	}
	return have
}

func addMeta(have, want *metav1.ObjectMeta) {
	merge := func(to *map[string]string, from map[string]string) {
		if *to == nil && len(from) > 0 {
			*to = map[string]string{}
		}
		for key, value := range from {
			if _, ok := (*to)[key]; !ok {
				(*to)[key] = value
			}
		}
	}
	have.Labels, have.Annotations = maps.Clone(have.Labels), maps.Clone(have.Annotations)
	merge(&have.Labels, want.Labels)
	merge(&have.Annotations, want.Annotations)
}

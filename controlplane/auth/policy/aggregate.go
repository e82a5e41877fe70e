package policy

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Aggregate returns the rules that the aggregated role r consists of, collected from roles in the order of their names and
// without repeats. changed is false when r has just these, or is not aggregated.
func Aggregate(r *rbacv1.ClusterRole, roles []*rbacv1.ClusterRole) (rules []rbacv1.PolicyRule, changed bool, err error) {
	if r.AggregationRule == nil {
		return nil, false, nil
	}
	var parts []*rbacv1.ClusterRole
	for i := range r.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&r.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, false, fmt.Errorf("clusterrole %s: aggregation selector %d: %w", r.Name, i, err)
		}
		for _, part := range roles {
			if part.Name != r.Name && selector.Matches(labels.Set(part.Labels)) && !slices.Contains(parts, part) {
				parts = append(parts, part)
			}
		}
	}
	slices.SortFunc(parts, func(a, b *rbacv1.ClusterRole) int { return strings.Compare(a.Name, b.Name) })
	for _, part := range parts {
		for _, rule := range part.Rules {
			if !slices.ContainsFunc(rules, func(have rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(have, rule) }) {
				rules = append(rules, rule)
			}
		}
	}
	return rules, !equality.Semantic.DeepEqual(r.Rules, rules), nil
}

// Package rbac decides, from Roles and bindings, what a user may do. Rule matching, subject matching and the comparison of
// rule sets are pure; Resolver reads Roles and bindings through an interface and adds nothing of its own.
//
// It owns evaluation alone. The default roles are in auth/policy, the storage of Role objects in registry/rbac.
//
// Semantics are those of rbac.authorization.k8s.io/v1: rules only ever allow, order is irrelevant, a RoleBinding acts in its
// own namespace, non-resource rules act through ClusterRoleBindings only.
package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Request is what a rule is held against.
type Request struct {
	Verb        string
	Resource    bool // false: Path is asked for
	APIGroup    string
	Name        string // "" where the request names no object
	ResourceOf  string // plural, without subresource
	Subresource string
	Path        string
}

// Allows says whether any of rules allows r.
func Allows(rules []rbacv1.PolicyRule, r Request) bool {
	for i := range rules {
		if ruleAllows(&rules[i], r) {
			return true
		}
	}
	return false
}

func ruleAllows(rule *rbacv1.PolicyRule, r Request) bool {
	if !holds(rule.Verbs, r.Verb) {
		return false
	}
	if !r.Resource {
		return slices.ContainsFunc(rule.NonResourceURLs, func(pattern string) bool { return pathMatches(pattern, r.Path) })
	}
	return holds(rule.APIGroups, r.APIGroup) &&
		slices.ContainsFunc(rule.Resources, func(pattern string) bool { return resourceMatches(pattern, r.ResourceOf, r.Subresource) }) &&
		(len(rule.ResourceNames) == 0 || r.Name != "" && slices.Contains(rule.ResourceNames, r.Name))
}

// holds is the match of verbs and groups: the exact word, or "*".
func holds(list []string, word string) bool {
	return slices.Contains(list, word) || slices.Contains(list, rbacv1.VerbAll)
}

// resourceMatches knows three patterns: "*" is everything including subresources, "*/sub" that subresource of everything,
// anything else is exact, as "pods" or "pods/log".
func resourceMatches(pattern, resource, subresource string) bool {
	if pattern == rbacv1.ResourceAll {
		return true
	}
	if subresource == "" {
		return pattern == resource
	}
	of, sub, ok := strings.Cut(pattern, "/")
	return ok && sub == subresource && (of == resource || of == rbacv1.ResourceAll)
}

// pathMatches: exact, or a prefix where the pattern ends in "*".
func pathMatches(pattern, path string) bool {
	if pattern == path {
		return true
	}
	prefix, ok := strings.CutSuffix(pattern, "*")
	return ok && strings.HasPrefix(path, strings.TrimRight(prefix, "*"))
}

// subjectIndex finds the first of subjects that is u; a ServiceAccount subject without namespace is taken from the binding's.
func subjectIndex(subjects []rbacv1.Subject, u user.Info, bindingNamespace string) int {
	return slices.IndexFunc(subjects, func(s rbacv1.Subject) bool { return subjectIs(s, u, bindingNamespace) })
}

func subjectIs(s rbacv1.Subject, u user.Info, bindingNamespace string) bool {
	switch s.Kind {
	case rbacv1.UserKind:
		return s.Name == u.GetName()
	case rbacv1.GroupKind:
		return slices.Contains(u.GetGroups(), s.Name)
	case rbacv1.ServiceAccountKind:
		namespace := s.Namespace
		if namespace == "" {
			namespace = bindingNamespace
		}
		return namespace != "" && serviceaccount.MatchesUsername(namespace, s.Name, u.GetName())
	}
	return false
}

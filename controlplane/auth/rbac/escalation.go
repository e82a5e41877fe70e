package rbac

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// ConfirmNoEscalation says whether u, in namespace, holds everything that rules grant. The error lists what is lacking and is
// meant for the person who asked.
func (r *Resolver) ConfirmNoEscalation(u user.Info, namespace string, rules []rbacv1.PolicyRule) error {
	held, resolveErr := r.Rules(u, namespace)
	covered, missing := validation.Covers(held, rules)
	if covered {
		return nil
	}
	var lines []string
	for _, rule := range compact(missing) {
		lines = append(lines, ruleText(rule))
	}
	slices.Sort(lines)
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		u.GetName(), u.GetGroups(), strings.Join(lines, "\n"))
	if resolveErr != nil {
		text += "; resolution errors: " + oneLine(resolveErr)
	}
	return fmt.Errorf("%s", text)
}

// Forbidden wraps the error of ConfirmNoEscalation for the REST API.
func Forbidden(resource schema.GroupResource, name string, err error) error {
	return apierrors.NewForbidden(resource, name, err)
}

// compact joins rules that differ in their verb alone; Covers takes rules apart into single verbs.
func compact(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	at := map[string]int{}
	for _, rule := range rules {
		key := rule.DeepCopy()
		key.Verbs = nil
		text := ruleText(*key)
		i, ok := at[text]
		if !ok {
			at[text] = len(out)
			out = append(out, *rule.DeepCopy())
			continue
		}
		for _, verb := range rule.Verbs {
			if !slices.Contains(out[i].Verbs, verb) {
				out[i].Verbs = append(out[i].Verbs, verb)
			}
		}
	}
	return out
}

// ruleText is a rule as Kubernetes prints it in refusals: {APIGroups:[""], Resources:["pods"], Verbs:["get"]}.
func ruleText(rule rbacv1.PolicyRule) string {
	var parts []string
	add := func(name string, words []string) {
		if len(words) > 0 {
			parts = append(parts, fmt.Sprintf("%s:[%s]", name, quoted(words)))
		}
	}
	add("APIGroups", rule.APIGroups)
	add("Resources", rule.Resources)
	add("NonResourceURLs", rule.NonResourceURLs)
	add("ResourceNames", rule.ResourceNames)
	add("Verbs", rule.Verbs)
	return "{" + strings.Join(parts, ", ") + "}"
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = fmt.Sprintf("%q", word)
	}
	return strings.Join(out, " ")
}

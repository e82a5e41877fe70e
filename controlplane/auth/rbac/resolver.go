package rbac

import (
	"context"
	"errors"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"
)

// Reader gives the Roles and bindings in force. Results are shared and must not be changed. Errors keep the API's NotFound.
type Reader interface {
	Role(namespace, name string) (*rbacv1.Role, error)
	ClusterRole(name string) (*rbacv1.ClusterRole, error)
	RoleBindings(namespace string) ([]*rbacv1.RoleBinding, error)
	ClusterRoleBindings() ([]*rbacv1.ClusterRoleBinding, error)
}

// Listers is a Reader over informers.
type Listers struct {
	Roles         rbaclisters.RoleLister
	Clusters      rbaclisters.ClusterRoleLister
	Bindings      rbaclisters.RoleBindingLister
	ClusterBounds rbaclisters.ClusterRoleBindingLister
}

// Role implements Reader.
func (l Listers) Role(namespace, name string) (*rbacv1.Role, error) {
	return l.Roles.Roles(namespace).Get(name)
}

// ClusterRole implements Reader.
func (l Listers) ClusterRole(name string) (*rbacv1.ClusterRole, error) { return l.Clusters.Get(name) }

// RoleBindings implements Reader.
func (l Listers) RoleBindings(namespace string) ([]*rbacv1.RoleBinding, error) {
	return l.Bindings.RoleBindings(namespace).List(labels.Everything())
}

// ClusterRoleBindings implements Reader.
func (l Listers) ClusterRoleBindings() ([]*rbacv1.ClusterRoleBinding, error) {
	return l.ClusterBounds.List(labels.Everything())
}

// Resolver finds the rules that hold for a user. Safe for concurrent use.
type Resolver struct {
	Reader Reader
}

// grant is one binding that names the user, with the rules behind it.
type grant struct {
	rules []rbacv1.PolicyRule
	// describe is for people: ClusterRoleBinding "x" of ClusterRole "y" to Group "z". Only the grant that decides is asked.
	describe func() string
}

// visit calls f for each grant to u, cluster-wide first, then in namespace unless it is empty. f returns false to stop. Roles
// that cannot be read are skipped and reported together, because one dangling binding must not lock everybody out.
func (r *Resolver) visit(u user.Info, namespace string, f func(grant) bool) error {
	var errs []error
	clusterBindings, err := r.Reader.ClusterRoleBindings()
	if err != nil {
		errs = append(errs, fmt.Errorf("list clusterrolebindings: %w", err))
	}
	for _, b := range clusterBindings {
		i := subjectIndex(b.Subjects, u, "")
		if i < 0 {
			continue
		}
		rules, err := r.RoleRules(b.RoleRef, "")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !f(grant{rules: rules, describe: func() string {
			return describe("ClusterRoleBinding", b.Name, b.RoleRef, b.Subjects[i], "")
		}}) {
			return nil
		}
	}
	if namespace == "" {
		return errors.Join(errs...)
	}
	bindings, err := r.Reader.RoleBindings(namespace)
	if err != nil {
		errs = append(errs, fmt.Errorf("list rolebindings in %s: %w", namespace, err))
	}
	for _, b := range bindings {
		i := subjectIndex(b.Subjects, u, namespace)
		if i < 0 {
			continue
		}
		rules, err := r.RoleRules(b.RoleRef, namespace)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !f(grant{rules: rules, describe: func() string {
			return describe("RoleBinding", b.Name+"/"+namespace, b.RoleRef, b.Subjects[i], namespace)
		}}) {
			return nil
		}
	}
	return errors.Join(errs...)
}

func describe(kind, name string, ref rbacv1.RoleRef, s rbacv1.Subject, bindingNamespace string) string {
	who := s.Name
	if s.Kind == rbacv1.ServiceAccountKind {
		namespace := s.Namespace
		if namespace == "" {
			namespace = bindingNamespace
		}
		who += "/" + namespace
	}
	return fmt.Sprintf("%s %q of %s %q to %s %q", kind, name, ref.Kind, ref.Name, s.Kind, who)
}

// RoleRules are the rules of the role that a binding in namespace (empty for a ClusterRoleBinding) refers to.
func (r *Resolver) RoleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "Role":
		role, err := r.Reader.Role(namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	case "ClusterRole":
		role, err := r.Reader.ClusterRole(ref.Name)
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	}
	return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
}

// Rules are all rules that hold for u in namespace. The error tells what could not be read; the rules are right without it.
func (r *Resolver) Rules(u user.Info, namespace string) ([]rbacv1.PolicyRule, error) {
	var all []rbacv1.PolicyRule
	err := r.visit(u, namespace, func(g grant) bool {
		all = append(all, g.rules...)
		return true
	})
	return all, err
}

// RulesFor implements authorizer.RuleResolver, which selfsubjectrulesreviews and "kubectl auth can-i --list" use.
func (r *Resolver) RulesFor(_ context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	rules, err := r.Rules(u, namespace)
	var resources []authorizer.ResourceRuleInfo
	var paths []authorizer.NonResourceRuleInfo
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			resources = append(resources, &authorizer.DefaultResourceRuleInfo{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			paths = append(paths, &authorizer.DefaultNonResourceRuleInfo{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	return resources, paths, false, err
}

// Authorize allows what some binding allows and has no opinion otherwise. The reason names the binding, or the roles that
// could not be read.
func (r *Resolver) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	request := RequestOf(a)
	var by string
	err := r.visit(a.GetUser(), a.GetNamespace(), func(g grant) bool {
		if !Allows(g.rules, request) {
			return true
		}
		by = g.describe()
		return false
	})
	if by != "" {
		return authorizer.DecisionAllow, "RBAC: allowed by " + by, nil
	}
	if err != nil {
		return authorizer.DecisionNoOpinion, "RBAC: " + oneLine(err), nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// RequestOf takes from a what rules look at.
func RequestOf(a authorizer.Attributes) Request {
	return Request{
		Verb: a.GetVerb(), Resource: a.IsResourceRequest(), APIGroup: a.GetAPIGroup(), ResourceOf: a.GetResource(),
		Subresource: a.GetSubresource(), Name: a.GetName(), Path: a.GetPath(),
	}
}

// oneLine puts joined errors as Kubernetes shows aggregates: one bare, several in brackets; a role that is missing behind two
// bindings is said once.
func oneLine(err error) string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err.Error()
	}
	var texts []string
	seen := map[string]bool{}
	for _, e := range joined.Unwrap() {
		text := e.Error()
		if status := apierrors.APIStatus(nil); errors.As(e, &status) {
			text = status.Status().Message
		}
		if !seen[text] {
			seen[text] = true
			texts = append(texts, text)
		}
	}
	if len(texts) == 1 {
		return texts[0]
	}
	out := "["
	for i, text := range texts {
		if i > 0 {
			out += ", "
		}
		out += text
	}
	return out + "]"
}

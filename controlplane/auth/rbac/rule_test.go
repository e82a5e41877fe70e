package rbac

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"pgregory.net/rapid"
)

func rule(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	split := func(s string) []string {
		var out []string
		for _, w := range strings.Fields(s) {
			out = append(out, strings.ReplaceAll(w, "core", ""))
		}
		return out
	}
	return rbacv1.PolicyRule{Verbs: split(verbs), APIGroups: split(groups), Resources: split(resources), ResourceNames: names}
}

func ask(verb, group, resource, sub, name string) Request {
	return Request{Verb: verb, Resource: true, APIGroup: group, ResourceOf: resource, Subresource: sub, Name: name}
}

func TestAllows(t *testing.T) {
	paths := func(verb string, urls ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: urls}
	}
	path := func(verb, path string) Request { return Request{Verb: verb, Path: path} }
	for name, c := range map[string]struct {
		rule rbacv1.PolicyRule
		ask  Request
		want bool
	}{
		"exact":                            {rule("get", "core", "pods"), ask("get", "", "pods", "", "a"), true},
		"other verb":                       {rule("get", "core", "pods"), ask("list", "", "pods", "", ""), false},
		"other group":                      {rule("get", "apps", "pods"), ask("get", "", "pods", "", "a"), false},
		"any verb":                         {rule("*", "core", "pods"), ask("list", "", "pods", "", ""), true},
		"any group":                        {rule("get", "*", "pods"), ask("get", "x", "pods", "", "a"), true},
		"any resource":                     {rule("get", "core", "*"), ask("get", "", "pods", "log", "a"), true},
		"resource is not its subresource":  {rule("get", "core", "pods"), ask("get", "", "pods", "log", "a"), false},
		"subresource":                      {rule("get", "core", "pods/log"), ask("get", "", "pods", "log", "a"), true},
		"subresource is not its resource":  {rule("get", "core", "pods/log"), ask("get", "", "pods", "", "a"), false},
		"subresource of all":               {rule("get", "*", "*/scale"), ask("get", "apps", "deployments", "scale", "a"), true},
		"subresource of all, another":      {rule("get", "*", "*/scale"), ask("get", "apps", "deployments", "status", "a"), false},
		"subresource of all, the resource": {rule("get", "*", "*/scale"), ask("get", "apps", "scale", "", "a"), false},
		"all subresources is no pattern":   {rule("get", "core", "pods/*"), ask("get", "", "pods", "log", "a"), false},
		"named":                            {rule("get", "core", "pods", "a"), ask("get", "", "pods", "", "a"), true},
		"named another":                    {rule("get", "core", "pods", "a"), ask("get", "", "pods", "", "b"), false},
		"named, list":                      {rule("list", "core", "pods", "a"), ask("list", "", "pods", "", ""), false},
		"named empty, list":                {rule("list", "core", "pods", ""), ask("list", "", "pods", "", ""), false},
		"no groups":                        {rule("get", "", "pods"), ask("get", "", "pods", "", ""), false},
		"path":                             {paths("get", "/healthz"), path("get", "/healthz"), true},
		"path below":                       {paths("get", "/healthz"), path("get", "/healthz/etcd"), false},
		"path prefix":                      {paths("get", "/healthz/*"), path("get", "/healthz/etcd"), true},
		"path prefix without what follows": {paths("get", "/healthz/*"), path("get", "/healthz"), false},
		"any path":                         {paths("get", "*"), path("get", "/x"), true},
		"path is not a resource":           {paths("*", "*"), ask("get", "", "pods", "", ""), false},
		"resource is not a path":           {rule("*", "*", "*"), path("get", "/healthz"), false},
	} {
		if got := Allows([]rbacv1.PolicyRule{c.rule}, c.ask); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestSubjects(t *testing.T) {
	robot := &user.DefaultInfo{Name: "system:serviceaccount:ns:robot", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns"}}
	jane := &user.DefaultInfo{Name: "jane", Groups: []string{"dev"}}
	for name, c := range map[string]struct {
		subject   rbacv1.Subject
		user      user.Info
		namespace string
		want      bool
	}{
		"user":                          {rbacv1.Subject{Kind: "User", Name: "jane"}, jane, "", true},
		"user of another name":          {rbacv1.Subject{Kind: "User", Name: "june"}, jane, "", false},
		"group":                         {rbacv1.Subject{Kind: "Group", Name: "dev"}, jane, "", true},
		"group is no user":              {rbacv1.Subject{Kind: "Group", Name: "jane"}, jane, "", false},
		"star is no wildcard":           {rbacv1.Subject{Kind: "User", Name: "*"}, jane, "", false},
		"account":                       {rbacv1.Subject{Kind: "ServiceAccount", Namespace: "ns", Name: "robot"}, robot, "", true},
		"account of another namespace":  {rbacv1.Subject{Kind: "ServiceAccount", Namespace: "other", Name: "robot"}, robot, "ns", false},
		"account of the binding's":      {rbacv1.Subject{Kind: "ServiceAccount", Name: "robot"}, robot, "ns", true},
		"account cluster-wide, nowhere": {rbacv1.Subject{Kind: "ServiceAccount", Name: "robot"}, robot, "", false},
		"account of a longer name":      {rbacv1.Subject{Kind: "ServiceAccount", Namespace: "ns", Name: "robo"}, robot, "", false},
		"account by its user name":      {rbacv1.Subject{Kind: "User", Name: "system:serviceaccount:ns:robot"}, robot, "", true},
		"kind that nobody knows":        {rbacv1.Subject{Kind: "Robot", Name: "jane"}, jane, "", false},
	} {
		if got := subjectIndex([]rbacv1.Subject{c.subject}, c.user, c.namespace) == 0; got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// drawRule draws from small sets, so that rules and requests meet often.
func drawRule(t *rapid.T) rbacv1.PolicyRule {
	some := func(label string, words ...string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(words), 0, 3, rapid.ID[string]).Draw(t, label)
	}
	r := rbacv1.PolicyRule{Verbs: some("verbs", "get", "list", "update", "*")}
	if rapid.Bool().Draw(t, "paths") {
		r.NonResourceURLs = some("urls", "/a", "/a/*", "*", "/b")
		return r
	}
	r.APIGroups = some("groups", "", "apps", "*")
	r.Resources = some("resources", "pods", "pods/log", "*/log", "nodes", "*")
	r.ResourceNames = some("names", "x", "y")
	return r
}

func drawRequest(t *rapid.T) Request {
	r := Request{Verb: rapid.SampledFrom([]string{"get", "list", "update"}).Draw(t, "verb"), Resource: rapid.Bool().Draw(t, "resource")}
	if !r.Resource {
		r.Path = rapid.SampledFrom([]string{"/a", "/a/b", "/b", "/"}).Draw(t, "path")
		return r
	}
	r.APIGroup = rapid.SampledFrom([]string{"", "apps"}).Draw(t, "group")
	r.ResourceOf = rapid.SampledFrom([]string{"pods", "nodes"}).Draw(t, "of")
	r.Subresource = rapid.SampledFrom([]string{"", "log", "status"}).Draw(t, "sub")
	r.Name = rapid.SampledFrom([]string{"", "x", "z"}).Draw(t, "name")
	return r
}

func TestRulesOnlyAdd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(drawRule), 0, 4).Draw(t, "rules")
		request := drawRequest(t)
		got := Allows(rules, request)
		reversed := slices.Clone(rules)
		slices.Reverse(reversed)
		if Allows(reversed, request) != got {
			t.Fatal("the order of rules matters")
		}
		each := false
		for _, r := range rules {
			each = each || Allows([]rbacv1.PolicyRule{r}, request)
		}
		if each != got {
			t.Fatal("rules say something together that none says alone")
		}
		if more := append(slices.Clone(rules), drawRule(t)); got && !Allows(more, request) {
			t.Fatal("a further rule took something away")
		}
		if everything := []rbacv1.PolicyRule{rule("*", "*", "*"), {Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}; !Allows(everything, request) {
			t.Fatal("cluster-admin may not do something")
		}
	})
}

// TestGrantsStayWithinWhatIsHeld: what passes the guard against escalation allows nothing that the one who grants may not do.
func TestGrantsStayWithinWhatIsHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held := rapid.SliceOfN(rapid.Custom(drawRule), 0, 4).Draw(t, "held")
		granted := rapid.SliceOfN(rapid.Custom(drawRule), 1, 2).Draw(t, "granted")
		reader := memory{clusterRoles: map[string][]rbacv1.PolicyRule{"r": held}, clusterBindings: []*rbacv1.ClusterRoleBinding{
			{RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}}},
		}}
		resolver := &Resolver{Reader: reader}
		if resolver.ConfirmNoEscalation(&user.DefaultInfo{Name: "jane"}, "ns", granted) != nil {
			return
		}
		request := drawRequest(t)
		if Allows(granted, request) && !Allows(held, request) {
			t.Fatalf("%+v was granted and is not held", request)
		}
	})
}

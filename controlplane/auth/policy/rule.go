package policy

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Verbs that come together.
const (
	read     = "get list watch"
	write    = "create delete deletecollection patch update"
	readable = read + " " + write
	all      = "*"
	// core stands for the group without a name.
	core = "core"

	labelAggregate = "rbac.authorization.k8s.io/aggregate-to-"
	labelDefault   = "kubernetes.io/bootstrapping"
)

// words splits at spaces and sorts, as the defaults are shown; "core" becomes the empty group.
func words(text string) []string {
	list := strings.Fields(text)
	for i, w := range list {
		if w == core {
			list[i] = ""
		}
	}
	slices.Sort(list)
	return list
}

// on is a rule for resources; names restrict it to objects.
func on(verbs, groups, resources string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: words(verbs), APIGroups: words(groups), Resources: words(resources), ResourceNames: names}
}

// paths is a rule for URLs that are not resources.
func paths(verbs, urls string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: words(verbs), NonResourceURLs: words(urls)}
}

// events is what everything that reports events needs.
func events() rbacv1.PolicyRule { return on("create patch update", "core events.k8s.io", "events") }

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:   namespace,
		Name:        name,
		Labels:      map[string]string{labelDefault: "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) rbacv1.ClusterRole {
	return rbacv1.ClusterRole{ObjectMeta: meta("", name), Rules: rules}
}

// aggregated is a role whose rules are collected from the roles labelled aggregate-to-NAME. It is itself collected into
// the role named by into, unless that is empty.
func aggregated(name, into string) rbacv1.ClusterRole {
	r := clusterRole(name)
	r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{labelAggregate + name: "true"}},
	}}
	if into != "" {
		r.Labels[labelAggregate+into] = "true"
	}
	return r
}

func contribution(to string, rules ...rbacv1.PolicyRule) rbacv1.ClusterRole {
	r := clusterRole("system:aggregate-to-"+to, rules...)
	r.Labels[labelAggregate+to] = "true"
	return r
}

func role(namespace, name string, rules ...rbacv1.PolicyRule) rbacv1.Role {
	return rbacv1.Role{ObjectMeta: meta(namespace, name), Rules: rules}
}

func group(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: name}
}

func user(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: name}
}

func account(name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: name}
}

func bindCluster(name, to string, subjects ...rbacv1.Subject) rbacv1.ClusterRoleBinding {
	return rbacv1.ClusterRoleBinding{
		ObjectMeta: meta("", name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: to},
		Subjects:   subjects,
	}
}

func bind(namespace, name, to string, subjects ...rbacv1.Subject) rbacv1.RoleBinding {
	return rbacv1.RoleBinding{
		ObjectMeta: meta(namespace, name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: to},
		Subjects:   subjects,
	}
}

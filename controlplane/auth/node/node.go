// Package node decides what a node may do with its own certificate: read what the pods bound to it name, and write about
// itself. The decision (Decide) is pure; Authorizer feeds it with the pods of an informer index.
//
// Coracle's own agents do not call the REST API, the gateway does it for them and applies the same Refs. The authorizer is for
// everything else that holds a node certificate, and makes a stolen one worth little.
package node

import (
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"coracle/controlplane/auth/policy"
	"coracle/controlplane/auth/rbac"
)

const (
	userPrefix     = "system:node:"
	leaseNamespace = "kube-node-lease"
)

// NameOf returns the node that u is. isNode is true for every member of system:nodes, even one whose name says nothing.
func NameOf(u user.Info) (name string, isNode bool) {
	for _, group := range u.GetGroups() {
		if group == user.NodesGroup {
			name, _ = strings.CutPrefix(u.GetName(), userPrefix)
			if name == u.GetName() {
				name = ""
			}
			return name, true
		}
	}
	return "", false
}

// rules are what nodes may ask for at all; Decide narrows them to objects.
var rules = policy.NodeRules()

// Decide says whether the node of that name may do what a says. refs are the references of its pods; needed tells lazily,
// because most requests do not depend on them. The reason is for the person who reads the refusal.
func Decide(name string, a authorizer.Attributes, needed func() Refs) (authorizer.Decision, string) {
	if !a.IsResourceRequest() {
		return authorizer.DecisionNoOpinion, ""
	}
	switch a.GetAPIGroup() {
	case "":
		switch a.GetResource() {
		case "secrets":
			return named(a, "secret", readVerbs, needed().Secrets)
		case "configmaps":
			return named(a, "configmap", readVerbs, needed().ConfigMaps)
		case "persistentvolumeclaims":
			if a.GetSubresource() == "status" {
				return named(a, "persistentvolumeclaim", "get update patch", needed().Claims)
			}
			return named(a, "persistentvolumeclaim", "get", needed().Claims)
		case "persistentvolumes":
			return named(a, "persistentvolume", "get", needed().Volumes)
		case "serviceaccounts":
			if a.GetSubresource() != "token" {
				return refuse("can only create tokens for individual service accounts")
			}
			return named(a, "serviceaccount", "create", needed().ServiceAccounts)
		case "nodes":
			return ofNode(name, a)
		case "pods":
			return ofPod(name, a, needed)
		}
	case "coordination.k8s.io":
		if a.GetResource() == "leases" {
			return ofLease(name, a)
		}
	case "storage.k8s.io":
		if a.GetResource() == "csinodes" {
			return own(name, a, "CSINode", "create get update patch delete")
		}
		if a.GetResource() == "volumeattachments" {
			return named(a, "volumeattachment", "get", needed().Attachments)
		}
	}
	return byRules(a)
}

const readVerbs = "get list watch"

func has(verbs, verb string) bool {
	for _, v := range strings.Fields(verbs) {
		if v == verb {
			return true
		}
	}
	return false
}

func refuse(reason string) (authorizer.Decision, string) { return authorizer.DecisionNoOpinion, reason }

func byRules(a authorizer.Attributes) (authorizer.Decision, string) {
	if rbac.Allows(rules, rbac.RequestOf(a)) {
		return authorizer.DecisionAllow, ""
	}
	return authorizer.DecisionNoOpinion, ""
}

// named allows verbs on one object that a pod of the node refers to.
func named(a authorizer.Attributes, kind, verbs string, allowed Set) (authorizer.Decision, string) {
	if sub := a.GetSubresource(); sub != "" && sub != "status" && sub != "token" || kind != "persistentvolumeclaim" && a.GetSubresource() == "status" {
		return refuse("cannot access subresource " + sub + " of " + kind)
	}
	if !has(verbs, a.GetVerb()) {
		return refuse("can only " + strings.ReplaceAll(verbs, " ", "/") + " individual resources of this type")
	}
	if a.GetName() == "" {
		return refuse("can only read namespaced object of this type by its name")
	}
	if !allowed.Has(a.GetNamespace(), a.GetName()) {
		return refuse("no relationship found between node and this object")
	}
	return authorizer.DecisionAllow, ""
}

// own allows verbs on the object that bears the node's name; create has no name in the request yet, admission checks it.
func own(name string, a authorizer.Attributes, kind, verbs string) (authorizer.Decision, string) {
	switch {
	case a.GetSubresource() != "":
		return refuse("cannot authorize " + kind + " subresources")
	case !has(verbs, a.GetVerb()):
		return refuse("can only " + strings.ReplaceAll(verbs, " ", ", ") + " a " + kind)
	case a.GetVerb() != "create" && a.GetName() != name:
		return refuse("can only access " + kind + " with the same name as the requesting node")
	}
	return authorizer.DecisionAllow, ""
}

func ofLease(name string, a authorizer.Attributes) (authorizer.Decision, string) {
	if a.GetNamespace() != leaseNamespace {
		return refuse("can only access leases in the " + leaseNamespace + " system namespace")
	}
	return own(name, a, "node lease", "get create update patch delete")
}

func ofNode(name string, a authorizer.Attributes) (authorizer.Decision, string) {
	switch a.GetVerb() {
	case "get":
		if a.GetSubresource() == "" && a.GetName() == name {
			return authorizer.DecisionAllow, ""
		}
		return refuse("node '" + name + "' cannot read '" + a.GetName() + "', only its own Node object")
	case "list", "watch":
		if selects(a, "metadata.name", name) || a.GetName() == name {
			return authorizer.DecisionAllow, ""
		}
		return refuse("node '" + name + "' cannot read all nodes, only its own Node object")
	}
	return byRules(a) // writes to other nodes are refused by the NodeRestriction admission
}

func ofPod(name string, a authorizer.Attributes, needed func() Refs) (authorizer.Decision, string) {
	switch a.GetVerb() {
	case "get":
		if needed().Pods.Has(a.GetNamespace(), a.GetName()) {
			return byRules(a)
		}
		return refuse("no relationship found between node '" + name + "' and this object")
	case "list", "watch":
		if a.GetName() != "" && needed().Pods.Has(a.GetNamespace(), a.GetName()) || selects(a, "spec.nodeName", name) {
			return byRules(a)
		}
		return refuse("can only list/watch pods with spec.nodeName field selector")
	}
	return byRules(a)
}

// selects says whether the request's field selector pins field to value.
func selects(a authorizer.Attributes, field, value string) bool {
	requirements, err := a.GetFieldSelector()
	if err != nil {
		return false
	}
	for _, r := range requirements {
		if exact(r) && r.Field == field && r.Value == value {
			return true
		}
	}
	return false
}

func exact(r fields.Requirement) bool {
	return r.Operator == selection.Equals || r.Operator == selection.DoubleEquals || r.Operator == selection.In
}

// Package policy owns the Roles, ClusterRoles and bindings that every cluster begins with, under the names and with the
// contents that Kubernetes gives them, because users' bindings, Helm charts and operators refer to them. It also decides
// how an existing object is brought up to the default (Repair) and what an aggregated ClusterRole consists of (Aggregate).
//
// The package is pure; controlplane/auth carries the decisions out.
package policy

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// Policy is a set of RBAC objects.
type Policy struct {
	ClusterRoles        []rbacv1.ClusterRole
	ClusterRoleBindings []rbacv1.ClusterRoleBinding
	Roles               []rbacv1.Role
	RoleBindings        []rbacv1.RoleBinding
}

// Groups that the default bindings speak of.
const (
	groupMasters         = "system:masters"
	groupAuthenticated   = "system:authenticated"
	groupUnauthenticated = "system:unauthenticated"
	groupMonitoring      = "system:monitoring"
	groupServiceAccounts = "system:serviceaccounts"
)

// Default returns the objects of a new cluster. The caller owns the result.
func Default() Policy {
	p := Policy{
		ClusterRoles: userRoles(),
		ClusterRoleBindings: []rbacv1.ClusterRoleBinding{
			bindCluster("cluster-admin", "cluster-admin", group(groupMasters)),
			bindCluster("system:monitoring", "system:monitoring", group(groupMonitoring)),
			bindCluster("system:discovery", "system:discovery", group(groupAuthenticated)),
			bindCluster("system:basic-user", "system:basic-user", group(groupAuthenticated)),
			bindCluster("system:public-info-viewer", "system:public-info-viewer", group(groupAuthenticated), group(groupUnauthenticated)),
			bindCluster("system:node-proxier", "system:node-proxier", user("system:kube-proxy")),
			bindCluster("system:kube-controller-manager", "system:kube-controller-manager", user("system:kube-controller-manager")),
			bindCluster("system:kube-dns", "system:kube-dns", account("kube-dns")),
			bindCluster("system:kube-scheduler", "system:kube-scheduler", user("system:kube-scheduler")),
			bindCluster("system:volume-scheduler", "system:volume-scheduler", user("system:kube-scheduler")),
			// Nodes are authorised by what their pods need, so the role is bound to nobody.
			bindCluster("system:node", "system:node"),
			bindCluster("system:service-account-issuer-discovery", "system:service-account-issuer-discovery", group(groupServiceAccounts)),
		},
	}
	p.ClusterRoles = append(p.ClusterRoles, componentRoles()...)
	for _, c := range controllers() {
		name := "system:controller:" + c.name
		p.ClusterRoles = append(p.ClusterRoles, clusterRole(name, c.rules...))
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, bindCluster(name, name, account(c.name)))
	}
	p.Roles, p.RoleBindings = namespaced()
	return p
}

// namespaced are the Roles in kube-system and kube-public with their bindings.
func namespaced() ([]rbacv1.Role, []rbacv1.RoleBinding) {
	const system, public = "kube-system", "kube-public"
	leases := []rbacv1.PolicyRule{
		on("create get list update watch", "coordination.k8s.io", "leases"),
		on("create get list update watch", "coordination.k8s.io", "leasecandidates"),
	}
	roles := []rbacv1.Role{
		role(system, "extension-apiserver-authentication-reader", on(read, core, "configmaps", "extension-apiserver-authentication")),
		role(system, "system:controller:bootstrap-signer", on(read, core, "secrets")),
		role(system, "system:controller:cloud-provider", on("create get list watch", core, "configmaps")),
		role(system, "system:controller:token-cleaner", on("delete get list watch", core, "secrets"), events()),
		role(system, "system::leader-locking-kube-controller-manager", leases...),
		role(system, "system::leader-locking-kube-scheduler", leases...),
		role(public, "system:controller:bootstrap-signer",
			on(read, core, "configmaps"), on("update", core, "configmaps", "cluster-info"), events()),
	}
	bindings := []rbacv1.RoleBinding{
		bind(system, "system::extension-apiserver-authentication-reader", "extension-apiserver-authentication-reader",
			user("system:kube-controller-manager"), user("system:kube-scheduler")),
		bind(system, "system:controller:bootstrap-signer", "system:controller:bootstrap-signer", account("bootstrap-signer")),
		bind(system, "system:controller:cloud-provider", "system:controller:cloud-provider", account("cloud-provider")),
		bind(system, "system:controller:token-cleaner", "system:controller:token-cleaner", account("token-cleaner")),
		bind(system, "system::leader-locking-kube-controller-manager", "system::leader-locking-kube-controller-manager",
			user("system:kube-controller-manager"), account("kube-controller-manager"), account("leader-election-controller")),
		bind(system, "system::leader-locking-kube-scheduler", "system::leader-locking-kube-scheduler",
			user("system:kube-scheduler"), account("kube-scheduler")),
		bind(public, "system:controller:bootstrap-signer", "system:controller:bootstrap-signer", account("bootstrap-signer")),
	}
	return roles, bindings
}

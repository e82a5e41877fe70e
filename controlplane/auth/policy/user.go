package policy

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// userRoles are those that people bind to people: cluster-admin, admin, edit, view, and what everybody may see.
func userRoles() []rbacv1.ClusterRole {
	return []rbacv1.ClusterRole{
		clusterRole("cluster-admin", on(all, all, all), paths(all, all)),
		clusterRole("system:discovery",
			paths("get", "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*")),
		clusterRole("system:monitoring",
			paths("get", "/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*")),
		clusterRole("system:basic-user",
			on("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
			on("create", "authentication.k8s.io", "selfsubjectreviews")),
		clusterRole("system:public-info-viewer", paths("get", "/livez /readyz /healthz /version /version/")),
		aggregated("admin", ""),
		aggregated("edit", "admin"),
		aggregated("view", "edit"),
		contribution("admin",
			on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
			on(readable, "rbac.authorization.k8s.io", "roles rolebindings")),
		contribution("edit", editRules()...),
		contribution("view", viewRules()...),
		metricsReader(),
	}
}

func editRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		on(read, core, "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
		on("impersonate", core, "serviceaccounts"),
		on(write, core, "pods pods/attach pods/proxy pods/exec pods/portforward"),
		on("create", core, "pods/eviction"),
		on(write, core, "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy "+
			"persistentvolumeclaims configmaps secrets events"),
		on("create", core, "serviceaccounts/token"),
		on(write, "apps", "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback "+
			"replicasets replicasets/scale"),
		on(write, "autoscaling", "horizontalpodautoscalers"),
		on(write, "batch", "jobs cronjobs"),
		on(write, "extensions", "daemonsets deployments deployments/scale deployments/rollback ingresses networkpolicies "+
			"replicasets replicasets/scale replicationcontrollers/scale"),
		on(write, "policy", "poddisruptionbudgets"),
		on(write, "networking.k8s.io", "networkpolicies ingresses"),
		on(readable, "coordination.k8s.io", "leases"),
		on(write, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
	}
}

// metricsReader lets everybody who may see pods see what they use; the role that comes with Kubernetes' metrics-server.
func metricsReader() rbacv1.ClusterRole {
	r := clusterRole("system:aggregated-metrics-reader", on(read, "metrics.k8s.io", "nodes pods"))
	for _, to := range []string{"admin", "edit", "view"} {
		r.Labels[labelAggregate+to] = "true"
	}
	return r
}

// viewRules leave out secrets, roles and whatever could be used to become somebody else.
func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		on(read, core, "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status "+
			"endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps"),
		on(read, core, "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status "+
			"replicationcontrollers/status pods/log"),
		on(read, core, "namespaces"),
		on(read, "discovery.k8s.io", "endpointslices"),
		on(read, "apps", "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status "+
			"deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale"),
		on(read, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
		on(read, "batch", "jobs cronjobs cronjobs/status jobs/status"),
		on(read, "extensions", "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses "+
			"ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale networkpolicies"),
		on(read, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
		on(read, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
		on(read, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
	}
}

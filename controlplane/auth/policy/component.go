package policy

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// componentRoles are those of programs: nodes, scheduler, delegated authentication, certificate approval. Coracle's own parts
// do not need them (they call with the rights of the server), but add-ons and other nodes are bound to them.
func componentRoles() []rbacv1.ClusterRole {
	const certs = "certificates.k8s.io"
	reviews := []rbacv1.PolicyRule{
		on("create", "authentication.k8s.io", "tokenreviews"),
		on("create", "authorization.k8s.io", "subjectaccessreviews"),
	}
	approve := func(signer string) rbacv1.ClusterRole {
		return clusterRole("system:"+certs+":"+signer+"-approver", on("approve", certs, "signers", "kubernetes.io/"+signer))
	}
	return []rbacv1.ClusterRole{
		clusterRole("system:auth-delegator", reviews...),
		clusterRole("system:heapster", on(read, core, "events pods nodes namespaces"), on(read, "extensions", "deployments")),
		clusterRole("system:kube-aggregator", on(read, core, "services endpoints")),
		clusterRole("system:kube-dns", on("list watch", core, "endpoints services"), on("list watch", "discovery.k8s.io", "endpointslices")),
		clusterRole("system:kubelet-api-admin",
			on(read, core, "nodes"), on("proxy", core, "nodes"),
			on(all, core, "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/configz nodes/healthz nodes/pods")),
		clusterRole("system:node", NodeRules()...),
		clusterRole("system:node-bootstrapper", on("create get list watch", certs, "certificatesigningrequests")),
		clusterRole("system:node-problem-detector", on("get", core, "nodes"), on("patch", core, "nodes/status"), events()),
		clusterRole("system:node-proxier",
			on("list watch", core, "services endpoints"), on(read, core, "nodes"), events(),
			on("list watch", "discovery.k8s.io", "endpointslices"), on("list watch", "networking.k8s.io", "servicecidrs")),
		clusterRole("system:persistent-volume-provisioner",
			on("create delete get list watch", core, "persistentvolumes"),
			on("get list update watch", core, "persistentvolumeclaims"),
			on(read, "storage.k8s.io", "storageclasses"), on("watch", core, "events"), events()),
		clusterRole("system:service-account-issuer-discovery", paths("get", "/.well-known/openid-configuration /openid/v1/jwks")),
		clusterRole("system:"+certs+":certificatesigningrequests:nodeclient", on("create", certs, "certificatesigningrequests/nodeclient")),
		clusterRole("system:"+certs+":certificatesigningrequests:selfnodeclient", on("create", certs, "certificatesigningrequests/selfnodeclient")),
		approve("legacy-unknown"), approve("kubelet-serving"), approve("kube-apiserver-client"), approve("kube-apiserver-client-kubelet"),
		clusterRole("system:kube-controller-manager", append([]rbacv1.PolicyRule{
			events(),
			on("create", "coordination.k8s.io", "leases"),
			on("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
			on("create", core, "secrets serviceaccounts"), on("delete", core, "secrets"),
			on("get", core, "namespaces secrets serviceaccounts configmaps"), on("update", core, "secrets serviceaccounts"),
			on("list watch", all, all), on("create", core, "serviceaccounts/token"),
		}, reviews...)...),
		clusterRole("system:kube-scheduler", append(schedulerRules(), reviews...)...),
		clusterRole("system:volume-scheduler",
			on("get list patch update watch", core, "persistentvolumes"), on(read, "storage.k8s.io", "storageclasses"),
			on("get list patch update watch", core, "persistentvolumeclaims")),
	}
}

// NodeRules are what kubelet-like agents may ask for at all; which objects of these is decided by auth/node.
func NodeRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		on("create", "authentication.k8s.io", "tokenreviews"),
		on("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
		on(read, core, "services"),
		on("create get list watch", core, "nodes"), on("patch update", core, "nodes/status"), on("patch update", core, "nodes"),
		on("create patch update", core, "events"),
		on(read, core, "pods"), on("create delete", core, "pods"), on("patch update", core, "pods/status"),
		on("create", core, "pods/eviction"),
		on(read, core, "secrets configmaps"),
		on("get", core, "persistentvolumeclaims persistentvolumes"),
		on("get", core, "endpoints"),
		on("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
		on("create delete get patch update", "coordination.k8s.io", "leases"),
		on("get", "storage.k8s.io", "volumeattachments"),
		on("create", core, "serviceaccounts/token"),
		on("get patch update", core, "persistentvolumeclaims/status"),
		on(read, "storage.k8s.io", "csidrivers"),
		on("create delete get patch update", "storage.k8s.io", "csinodes"),
		on(read, "node.k8s.io", "runtimeclasses"),
		on("get", "resource.k8s.io", "resourceclaims"),
		on("create delete deletecollection get list patch update watch", "resource.k8s.io", "resourceslices"),
	}
}

func schedulerRules() []rbacv1.PolicyRule {
	const storage, resource = "storage.k8s.io", "resource.k8s.io"
	return []rbacv1.PolicyRule{
		events(),
		on("create", "coordination.k8s.io", "leases"),
		on("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
		on("create", "coordination.k8s.io", "leasecandidates"),
		on("get list update watch patch delete", "coordination.k8s.io", "leasecandidates", "kube-scheduler"),
		on(read, core, "nodes"), on("delete get list watch", core, "pods"),
		on("create", core, "bindings pods/binding"), on("patch update", core, "pods/status"),
		on(read, core, "services replicationcontrollers"), on(read, "apps extensions", "replicasets"), on(read, "apps", "statefulsets"),
		on(read, "policy", "poddisruptionbudgets"), on(read, core, "persistentvolumeclaims persistentvolumes"),
		on(read, storage, "csinodes"), on(read, core, "namespaces"), on(read, storage, "csidrivers"), on(read, storage, "csistoragecapacities"),
		on(read, storage, "volumeattachments"),
		on(read, resource, "deviceclasses"), on("get list patch update watch", resource, "resourceclaims"),
		on("patch update", resource, "resourceclaims/status"), on(read, resource, "resourceslices"),
	}
}

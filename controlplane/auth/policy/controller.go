package policy

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// controller is a service account in kube-system with the role of the same name.
type controller struct {
	name  string
	rules []rbacv1.PolicyRule
}

// controllers are those of Kubernetes' controller manager. Coracle runs its own in the server; the roles are there because
// tools look for them, and because a controller run beside the server is bound to one.
func controllers() []controller {
	return append(workloadControllers(), append(clusterControllers(), storageControllers()...)...)
}

func workloadControllers() []controller {
	const appsOld = "apps extensions"
	const revisions = "create delete get list patch update watch"
	return []controller{
		{"cronjob-controller", rules(on("get list update watch", "batch", "cronjobs"),
			on("create delete get list patch update watch", "batch", "jobs"), on("update", "batch", "cronjobs/status"),
			on("update", "batch", "cronjobs/finalizers"), on("delete list watch", core, "pods"), events())},
		{"daemon-set-controller", rules(on(read, appsOld, "daemonsets"), on("update", appsOld, "daemonsets/status"),
			on("update", appsOld, "daemonsets/finalizers"), on("list watch", core, "nodes"),
			on("create delete list patch watch", core, "pods"), on("create", core, "pods/binding"),
			on(revisions, "apps", "controllerrevisions"), events())},
		{"deployment-controller", rules(on("get list update watch", appsOld, "deployments"), on("update", appsOld, "deployments/status"),
			on("update", appsOld, "deployments/finalizers"), on("create delete get list patch update watch", appsOld, "replicasets"),
			on("get list update watch", core, "pods"), events())},
		{"disruption-controller", rules(on(read, appsOld, "deployments"), on(read, appsOld, "replicasets"),
			on(read, core, "replicationcontrollers"), on(read, "policy", "poddisruptionbudgets"), on(read, "apps", "statefulsets"),
			on("update", "policy", "poddisruptionbudgets/status"), on("patch update", core, "pods/status"), on("get", all, "*/scale"), events())},
		{"horizontal-pod-autoscaler", rules(on(read, "autoscaling", "horizontalpodautoscalers"),
			on("update", "autoscaling", "horizontalpodautoscalers/status"), on("get update", all, "*/scale"),
			on("list watch", core, "pods"), on("list watch", "metrics.k8s.io", "pods"),
			on(read, "custom.metrics.k8s.io", all), on(read, "external.metrics.k8s.io", all), events())},
		{"job-controller", rules(on("get list patch update watch", "batch", "jobs"), on("update", "batch", "jobs/status"),
			on("update", "batch", "jobs/finalizers"), on("create delete list patch watch", core, "pods"), events())},
		{"replicaset-controller", rules(on("get list update watch", appsOld, "replicasets"), on("update", appsOld, "replicasets/status"),
			on("update", appsOld, "replicasets/finalizers"), on("create delete list patch watch", core, "pods"), events())},
		{"replication-controller", rules(on("get list update watch", core, "replicationcontrollers"),
			on("update", core, "replicationcontrollers/status"), on("update", core, "replicationcontrollers/finalizers"),
			on("create delete list patch watch", core, "pods"), events())},
		{"statefulset-controller", rules(on("list watch", core, "pods"), on(read, "apps", "statefulsets"),
			on("update", "apps", "statefulsets/status"), on("update", "apps", "statefulsets/finalizers"),
			on("create delete get patch update", core, "pods"), on(revisions, "apps", "controllerrevisions"),
			on("create get list watch", core, "persistentvolumeclaims"), on("delete update", core, "persistentvolumeclaims"),
			on("update", core, "pods/finalizers"), events())},
		{"ttl-after-finished-controller", rules(on("delete get list watch", "batch", "jobs"), events())},
	}
}

func clusterControllers() []controller {
	const certs, discovery = "certificates.k8s.io", "discovery.k8s.io"
	slices := on("create delete get list update watch", discovery, "endpointslices")
	return []controller{
		{"certificate-controller", rules(on("delete get list watch", certs, "certificatesigningrequests"),
			on("update", certs, "certificatesigningrequests/approval certificatesigningrequests/status"),
			on("approve", certs, "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
			on("sign", certs, "signers", "kubernetes.io/kube-apiserver-client", "kubernetes.io/kube-apiserver-client-kubelet",
				"kubernetes.io/kubelet-serving", "kubernetes.io/legacy-unknown"),
			on("create", "authorization.k8s.io", "subjectaccessreviews"), events())},
		{"clusterrole-aggregation-controller", rules(on("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles"))},
		{"endpoint-controller", rules(on(read, core, "pods services"), on("create delete get list update watch", core, "endpoints"),
			on("create", core, "endpoints/restricted"), events())},
		{"endpointslice-controller", rules(on(read, core, "nodes pods services"), on("update", core, "services/finalizers"), slices, events())},
		{"endpointslicemirroring-controller", rules(on(read, core, "endpoints services"), on("update", core, "services/finalizers"),
			on("update", core, "endpoints/finalizers"), slices, events())},
		{"generic-garbage-collector", rules(on("delete get list patch update watch", all, all), events())},
		{"legacy-service-account-token-cleaner", rules(
			on("get", core, "configmaps", "kube-apiserver-legacy-service-account-token-tracking"), on("delete patch", core, "secrets"))},
		{"namespace-controller", rules(on("delete get list watch", core, "namespaces"),
			on("update", core, "namespaces/finalize namespaces/status"), on("delete deletecollection get list watch", all, all))},
		{"node-controller", rules(on("delete get list patch update watch", core, "nodes"), on("patch update", core, "nodes/status"),
			on("patch update", core, "pods/status"), on("delete get list watch", core, "pods"), events())},
		{"pod-garbage-collector", rules(on("delete list watch", core, "pods"), on(read, core, "nodes"), on("patch", core, "pods/status"))},
		{"resourcequota-controller", rules(on("list watch", all, all), on("update", core, "resourcequotas/status"), events())},
		{"root-ca-cert-publisher", rules(on("create update", core, "configmaps"), events())},
		{"route-controller", rules(on("list watch", core, "nodes"), on("patch", core, "nodes/status"), events())},
		{"service-account-controller", rules(on("create", core, "serviceaccounts"), events())},
		{"service-cidrs-controller", rules(on("get list patch update watch", "networking.k8s.io", "servicecidrs"),
			on("patch update", "networking.k8s.io", "servicecidrs/finalizers"), on("patch update", "networking.k8s.io", "servicecidrs/status"),
			on(read, "networking.k8s.io", "ipaddresses"), events())},
		{"service-controller", rules(on(read, core, "services"), on("patch update", core, "services/status"),
			on("list watch", core, "nodes"), events())},
		{"ttl-controller", rules(on("list patch update watch", core, "nodes"), events())},
		{"validatingadmissionpolicy-status-controller", rules(on(read, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
			on("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"), events())},
	}
}

func storageControllers() []controller {
	const storage = "storage.k8s.io"
	return []controller{
		{"attachdetach-controller", rules(on("list watch", core, "persistentvolumes persistentvolumeclaims"), on(read, core, "nodes"),
			on("patch update", core, "nodes/status"), on("list watch", core, "pods"), events(),
			on("create delete get list watch", storage, "volumeattachments"), on(read, storage, "csidrivers"), on(read, storage, "csinodes"))},
		{"ephemeral-volume-controller", rules(on(read, core, "pods"), on("update", core, "pods/finalizers"),
			on("create get list watch", core, "persistentvolumeclaims"), events())},
		{"expand-controller", rules(on("get list patch update watch", core, "persistentvolumes"),
			on("patch update", core, "persistentvolumeclaims/status"), on(read, core, "persistentvolumeclaims"), events())},
		{"persistent-volume-binder", rules(on("create delete get list update watch", core, "persistentvolumes"),
			on("update", core, "persistentvolumes/status"), on("get list update watch", core, "persistentvolumeclaims"),
			on("update", core, "persistentvolumeclaims/status"), on("create delete get list watch", core, "pods"),
			on(read, storage, "storageclasses"), on("list watch", core, "nodes"), events(), on("watch", core, "events"))},
		{"pv-protection-controller", rules(on("get list update watch", core, "persistentvolumes"), events())},
		{"pvc-protection-controller", rules(on("get list update watch", core, "persistentvolumeclaims"),
			on("update", core, "persistentvolumeclaims/status"), on(read, core, "pods"), events())},
		{"resource-claim-controller", rules(on(read, core, "pods"), on("update", core, "pods/finalizers"),
			on("create delete get list watch", "resource.k8s.io", "resourceclaims"),
			on("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
			on("patch update", core, "pods/status"), events(), on("patch update", "resource.k8s.io", "resourceclaims/binding"))},
		{"volumeattributesclass-protection-controller", rules(on(read, core, "persistentvolumeclaims"), on(read, core, "persistentvolumes"),
			on("get list update watch", storage, "volumeattributesclasses"), events())},
	}
}

func rules(list ...rbacv1.PolicyRule) []rbacv1.PolicyRule { return list }

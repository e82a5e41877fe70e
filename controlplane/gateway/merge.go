package gateway

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// mergePodStatus lays what an agent reports over the status in the API, and says whether
// anything changed. The agent owns the status but for what others write: conditions of
// other types (PodScheduled, readiness gates, DisruptionTarget), the nominated node, resource
// claims; and what never changes once set: the start time, the QoS class, a final phase.
func mergePodStatus(have, reported *v1.PodStatus) (v1.PodStatus, bool) {
	out := *reported.DeepCopy()
	out.Conditions = mergePodConditions(have.Conditions, out.Conditions)
	out.NominatedNodeName = have.NominatedNodeName
	out.ResourceClaimStatuses = have.ResourceClaimStatuses
	out.ExtendedResourceClaimStatus = have.ExtendedResourceClaimStatus
	if have.StartTime != nil {
		out.StartTime = have.StartTime
	}
	if have.QOSClass != "" {
		out.QOSClass = have.QOSClass
	}
	if finished(have.Phase) && !finished(out.Phase) {
		out.Phase = have.Phase
	}
	if out.Reason == "" && out.Message == "" && finished(have.Phase) {
		out.Reason, out.Message = have.Reason, have.Message
	}
	out.ObservedGeneration = max(out.ObservedGeneration, have.ObservedGeneration)
	return out, !apiequality.Semantic.DeepEqual(*have, out)
}

func finished(p v1.PodPhase) bool { return p == v1.PodSucceeded || p == v1.PodFailed }

// agentCondition is true for the condition types that only the agent writes.
func agentCondition(t v1.PodConditionType) bool {
	switch t {
	case v1.PodInitialized, v1.ContainersReady, v1.PodReady, v1.PodReadyToStartContainers, v1.PodResizePending, v1.PodResizeInProgress,
		v1.AllContainersRestarting:
		return true
	}
	return false
}

func mergePodConditions(have, reported []v1.PodCondition) []v1.PodCondition {
	var out []v1.PodCondition
	said := map[v1.PodConditionType]bool{}
	for _, c := range reported {
		if !agentCondition(c.Type) {
			if _, ok := podCondition(have, c.Type); ok {
				continue // somebody else's
			}
		}
		said[c.Type] = true
		if old, ok := podCondition(have, c.Type); ok && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
			c.LastProbeTime = old.LastProbeTime
		}
		out = append(out, c)
	}
	for _, c := range have {
		if !said[c.Type] && !agentCondition(c.Type) {
			out = append(out, c)
		}
	}
	return likeOrder(have, out, func(c v1.PodCondition) string { return string(c.Type) })
}

func podCondition(list []v1.PodCondition, t v1.PodConditionType) (v1.PodCondition, bool) {
	for _, c := range list {
		if c.Type == t {
			return c, true
		}
	}
	return v1.PodCondition{}, false
}

// likeOrder puts the conditions that were there before in their old order, so that an equal set is an equal list.
func likeOrder[T any](before, list []T, name func(T) string) []T {
	rank := map[string]int{}
	for i, c := range before {
		rank[name(c)] = i - len(before)
	}
	slices.SortStableFunc(list, func(a, b T) int { return rank[name(a)] - rank[name(b)] })
	return list
}

// mergeNodeStatus lays what an agent reports over a Node's status. Conditions of types that
// the agent does not report are kept; times of conditions move only with their status, so
// that a restarted agent changes nothing.
func mergeNodeStatus(have, reported *v1.NodeStatus) (v1.NodeStatus, bool) {
	out := *reported.DeepCopy()
	said := map[v1.NodeConditionType]bool{}
	for i := range out.Conditions {
		c := &out.Conditions[i]
		said[c.Type] = true
		for _, old := range have.Conditions {
			if old.Type == c.Type && old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
				if old.Reason == c.Reason && old.Message == c.Message && !old.LastHeartbeatTime.IsZero() {
					c.LastHeartbeatTime = old.LastHeartbeatTime
				}
			}
		}
	}
	for _, c := range have.Conditions {
		if !said[c.Type] {
			out.Conditions = append(out.Conditions, c)
		}
	}
	out.Conditions = likeOrder(have.Conditions, out.Conditions, func(c v1.NodeCondition) string { return string(c.Type) })
	out.Phase = have.Phase
	// Written by the volume controllers.
	out.VolumesAttached = have.VolumesAttached
	if out.Capacity == nil {
		out.Capacity = have.Capacity
	}
	if out.Allocatable == nil {
		out.Allocatable = have.Allocatable
	}
	if len(out.Addresses) == 0 {
		out.Addresses = have.Addresses
	}
	keepExtended(have, &out)
	return out, !apiequality.Semantic.DeepEqual(*have, out)
}

// keepExtended keeps the extended resources that others than the agent have put into a Node's status: an administrator
// may count there what the machine does not know of. Their capacity is what may be allocated, unless somebody said less.
func keepExtended(have, out *v1.NodeStatus) {
	for name, q := range have.Capacity {
		if _, said := out.Capacity[name]; said || !extended(name) {
			continue
		}
		out.Capacity[name] = q
		if a, ok := have.Allocatable[name]; ok {
			q = a
		}
		if out.Allocatable != nil {
			out.Allocatable[name] = q
		}
	}
}

// extended says that a resource is not one of Kubernetes' own.
func extended(name v1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), v1.ResourceDefaultNamespacePrefix)
}

// The labels of Kubernetes' own domains that a node may give itself; those with other
// prefixes are free, as the NodeRestriction admission of Kubernetes has it.
var ownLabels = map[string]bool{
	v1.LabelHostname: true, v1.LabelOSStable: true, v1.LabelArchStable: true, v1.LabelInstanceTypeStable: true,
	v1.LabelTopologyZone: true, v1.LabelTopologyRegion: true,
	"beta.kubernetes.io/os": true, "beta.kubernetes.io/arch": true, v1.LabelInstanceType: true,
	v1.LabelFailureDomainBetaZone: true, v1.LabelFailureDomainBetaRegion: true,
}

// nodeLabels splits labels into those a node may set on itself and the names of those it may not.
func nodeLabels(labels map[string]string) (allowed map[string]string, refused []string) {
	allowed = map[string]string{}
	for k, val := range labels {
		domain, _, prefixed := strings.Cut(k, "/")
		switch {
		case !prefixed || !ofKubernetes(domain), ownLabels[k],
			domain == v1.LabelNamespaceSuffixKubelet || strings.HasSuffix(domain, "."+v1.LabelNamespaceSuffixKubelet),
			domain == v1.LabelNamespaceSuffixNode || strings.HasSuffix(domain, "."+v1.LabelNamespaceSuffixNode):
			allowed[k] = val
		default:
			refused = append(refused, k)
		}
	}
	slices.Sort(refused)
	return allowed, refused
}

func ofKubernetes(domain string) bool {
	return domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") || domain == "k8s.io" || strings.HasSuffix(domain, ".k8s.io")
}

// systemLabels are those that follow the node; all others are set when it registers and are the users' from then on.
func systemLabels(have, reported map[string]string) (set map[string]string) {
	for k := range ownLabels {
		if val, ok := reported[k]; ok && have[k] != val {
			if set == nil {
				set = map[string]string{}
			}
			set[k] = val
		}
	}
	return set
}

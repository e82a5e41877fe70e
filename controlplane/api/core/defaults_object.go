package core

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"coracle/controlplane/api/fill"
)

func defaultService(s *corev1.Service) {
	spec := &s.Spec
	fill.Value(&spec.SessionAffinity, corev1.ServiceAffinityNone)
	switch spec.SessionAffinity {
	case corev1.ServiceAffinityNone:
		spec.SessionAffinityConfig = nil
	case corev1.ServiceAffinityClientIP:
		fill.Pointer(&spec.SessionAffinityConfig, corev1.SessionAffinityConfig{})
		fill.Pointer(&spec.SessionAffinityConfig.ClientIP, corev1.ClientIPConfig{})
		fill.Pointer(&spec.SessionAffinityConfig.ClientIP.TimeoutSeconds, corev1.DefaultClientIPServiceAffinitySeconds)
	}
	fill.Value(&spec.Type, corev1.ServiceTypeClusterIP)
	for i := range spec.Ports {
		p := &spec.Ports[i]
		fill.Value(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if ExternallyAccessible(s) {
		fill.Value(&spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	switch spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		fill.Pointer(&spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	fill.Pointer(&spec.AllocateLoadBalancerNodePorts, true)
	for i := range s.Status.LoadBalancer.Ingress {
		if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" {
			fill.Pointer(&in.IPMode, corev1.LoadBalancerIPModeVIP)
		}
	}
}

// ExternallyAccessible says whether a service can be reached from outside the
// cluster: through node ports, a load balancer or external addresses.
func ExternallyAccessible(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeClusterIP:
		return len(s.Spec.ExternalIPs) > 0
	default:
		return false
	}
}

func defaultEndpoints(e *corev1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			fill.Value(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
		}
	}
}

func defaultConfigMap(c *corev1.ConfigMap) {
	if c.Data == nil {
		c.Data = map[string]string{}
	}
}

// defaultSecret moves stringData, which is for writing only, into data.
func defaultSecret(s *corev1.Secret) {
	fill.Value(&s.Type, corev1.SecretTypeOpaque)
	if len(s.StringData) == 0 {
		s.StringData = nil
		return
	}
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for k, v := range s.StringData {
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}

// defaultNamespace labels a namespace with its name, so that selectors can name it.
func defaultNamespace(n *corev1.Namespace) {
	fill.Value(&n.Status.Phase, corev1.NamespaceActive)
	if n.Name == "" {
		return
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}

func defaultNode(n *corev1.Node) {
	roundList(n.Status.Capacity)
	roundList(n.Status.Allocatable)
	if len(n.Status.Allocatable) == 0 && len(n.Status.Capacity) > 0 {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
	// As with pod addresses, the single field wins over the list.
	switch cidrs := n.Spec.PodCIDRs; {
	case n.Spec.PodCIDR != "" && (len(cidrs) == 0 || cidrs[0] != n.Spec.PodCIDR):
		n.Spec.PodCIDRs = []string{n.Spec.PodCIDR}
	case n.Spec.PodCIDR == "" && len(cidrs) > 0:
		n.Spec.PodCIDR = cidrs[0]
	}
}

func defaultReplicationController(rc *corev1.ReplicationController) {
	fill.Pointer(&rc.Spec.Replicas, 1)
	if rc.Spec.Template == nil {
		return
	}
	DefaultPodTemplateSpec(rc.Spec.Template)
	labels := rc.Spec.Template.Labels
	if labels == nil {
		return
	}
	if len(rc.Spec.Selector) == 0 {
		rc.Spec.Selector = maps.Clone(labels)
	}
	if len(rc.Labels) == 0 {
		rc.Labels = maps.Clone(labels)
	}
}

func defaultLimitRange(l *corev1.LimitRange) {
	for i := range l.Spec.Limits {
		item := &l.Spec.Limits[i]
		for _, list := range []corev1.ResourceList{item.Max, item.Min, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			roundList(list)
		}
		if item.Type == corev1.LimitTypeContainer {
			defaultContainerLimits(item)
		}
	}
}

// defaultContainerLimits derives the missing bounds from those given: the default
// limit from the maximum, the default request from the default limit or the
// minimum.
func defaultContainerLimits(item *corev1.LimitRangeItem) {
	if item.Default == nil {
		item.Default = corev1.ResourceList{}
	}
	if item.DefaultRequest == nil {
		item.DefaultRequest = corev1.ResourceList{}
	}
	fillList(item.Default, item.Max)
	fillList(item.DefaultRequest, item.Default)
	fillList(item.DefaultRequest, item.Min)
}

func fillList(list, from corev1.ResourceList) {
	for name, q := range from {
		if _, ok := list[name]; !ok {
			list[name] = q.DeepCopy()
		}
	}
}

func defaultResourceQuota(q *corev1.ResourceQuota) {
	roundList(q.Spec.Hard)
	roundList(q.Status.Hard)
	roundList(q.Status.Used)
}

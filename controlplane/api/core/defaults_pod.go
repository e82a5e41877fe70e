package core

import (
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"coracle/controlplane/api/fill"
)

// defaultPod gives a Pod what a template does not get: requests from limits,
// service links and host ports. A template that carried them would make its owner
// see a difference at every comparison with what the user wrote.
func defaultPod(p *corev1.Pod) {
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			requestsFromLimits(&list[i].Resources)
		}
	}
	defaultPodLevelRequests(&p.Spec)
	fill.Pointer(&p.Spec.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	if p.Spec.HostNetwork {
		hostPorts(p.Spec.Containers)
		hostPorts(p.Spec.InitContainers)
	}
	DefaultPodSpec(&p.Spec)
	defaultPodIPs(&p.Status)
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses, p.Status.EphemeralContainerStatuses} {
		for i := range list {
			roundList(list[i].AllocatedResources)
			if r := list[i].Resources; r != nil {
				roundList(r.Limits)
				roundList(r.Requests)
			}
		}
	}
}

// defaultPodIPs keeps the old single address and the list in step; where they
// differ the single one wins, as clients that know no list write only it.
func defaultPodIPs(st *corev1.PodStatus) {
	switch {
	case st.PodIP != "" && (len(st.PodIPs) == 0 || st.PodIPs[0].IP != st.PodIP):
		st.PodIPs = []corev1.PodIP{{IP: st.PodIP}}
	case st.PodIP == "" && len(st.PodIPs) > 0:
		st.PodIP = st.PodIPs[0].IP
	}
}

// DefaultPodSpec gives the defaults of every pod spec, in pods and in templates.
func DefaultPodSpec(spec *corev1.PodSpec) {
	fill.Value(&spec.DNSPolicy, corev1.DNSClusterFirst)
	fill.Value(&spec.RestartPolicy, corev1.RestartPolicyAlways)
	fill.Pointer(&spec.SecurityContext, corev1.PodSecurityContext{})
	fill.Pointer(&spec.TerminationGracePeriodSeconds, int64(corev1.DefaultTerminationGracePeriodSeconds))
	fill.Value(&spec.SchedulerName, corev1.DefaultSchedulerName)
	// The deprecated spelling always says the same as the current one.
	fill.Value(&spec.ServiceAccountName, spec.DeprecatedServiceAccount)
	spec.DeprecatedServiceAccount = spec.ServiceAccountName
	for i := range spec.Volumes {
		defaultVolume(&spec.Volumes[i])
	}
	for i := range spec.InitContainers {
		defaultContainer(&spec.InitContainers[i])
	}
	for i := range spec.Containers {
		defaultContainer(&spec.Containers[i])
	}
	for i := range spec.EphemeralContainers {
		c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		defaultContainer(&c)
		spec.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
	roundList(spec.Overhead)
	if spec.Resources != nil {
		roundList(spec.Resources.Limits)
		roundList(spec.Resources.Requests)
	}
}

// DefaultPodTemplateSpec gives the defaults of a pod template.
func DefaultPodTemplateSpec(t *corev1.PodTemplateSpec) { DefaultPodSpec(&t.Spec) }

func defaultPodTemplate(t *corev1.PodTemplate) { DefaultPodTemplateSpec(&t.Template) }

func defaultContainer(c *corev1.Container) {
	fill.Value(&c.ImagePullPolicy, pullPolicyFor(c.Image))
	fill.Value(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	fill.Value(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		fill.Value(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		from := c.Env[i].ValueFrom
		if from == nil {
			continue
		}
		if from.FieldRef != nil {
			fill.Value(&from.FieldRef.APIVersion, "v1")
		}
		if from.FileKeyRef != nil {
			fill.Pointer(&from.FileKeyRef.Optional, false)
		}
	}
	roundList(c.Resources.Limits)
	roundList(c.Resources.Requests)
	for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
		defaultProbe(p)
	}
	if c.Lifecycle != nil {
		for _, h := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
			if h != nil {
				defaultHTTPGet(h.HTTPGet)
			}
		}
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	fill.Value(&p.TimeoutSeconds, 1)
	fill.Value(&p.PeriodSeconds, 10)
	fill.Value(&p.SuccessThreshold, 1)
	fill.Value(&p.FailureThreshold, 3)
	defaultHTTPGet(p.HTTPGet)
	if p.GRPC != nil {
		fill.Pointer(&p.GRPC.Service, "")
	}
}

func defaultHTTPGet(h *corev1.HTTPGetAction) {
	if h == nil {
		return
	}
	fill.Value(&h.Path, "/")
	fill.Value(&h.Scheme, corev1.URISchemeHTTP)
}

func requestsFromLimits(r *corev1.ResourceRequirements) {
	if r.Limits == nil {
		return
	}
	if r.Requests == nil {
		r.Requests = corev1.ResourceList{}
	}
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; !ok {
			r.Requests[name] = limit.DeepCopy()
		}
	}
}

// hostPorts gives containers of the host's network the host port they have
// anyway, so that the scheduler sees it.
func hostPorts(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Ports {
			fill.Value(&containers[i].Ports[j].HostPort, containers[i].Ports[j].ContainerPort)
		}
	}
}

// roundList rounds quantities up to thousandths, the finest that the API keeps.
func roundList(list corev1.ResourceList) {
	for name, q := range list {
		q.RoundUp(resource.Milli)
		list[name] = q
	}
}

// imageReference is the grammar of an image name: an optional registry host, path
// components, an optional tag and an optional digest.
var imageReference = regexp.MustCompile(`^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?` +
	`[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*` +
	`(?::([\w][\w.-]{0,127}))?(@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$`)

// pullPolicyFor is Always for the tag latest, said or implied, and IfNotPresent
// for all else, also for what is no image name: validation is not done here.
func pullPolicyFor(image string) corev1.PullPolicy {
	m := imageReference.FindStringSubmatch(image)
	if m == nil {
		return corev1.PullIfNotPresent
	}
	tag, digest := m[1], m[2]
	if tag == "latest" || (tag == "" && digest == "") {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

// isHugePage says whether a resource is huge pages of some size.
func isHugePage(name corev1.ResourceName) bool {
	return strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}

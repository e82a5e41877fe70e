package static

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// fillIn gives a pod the values that the API server would have given it. They are Kubernetes' own defaults.
func fillIn(p *v1.Pod) {
	s := &p.Spec
	set(&s.RestartPolicy, v1.RestartPolicyAlways)
	set(&s.DNSPolicy, v1.DNSClusterFirst)
	if s.TerminationGracePeriodSeconds == nil {
		grace := int64(v1.DefaultTerminationGracePeriodSeconds)
		s.TerminationGracePeriodSeconds = &grace
	}
	if s.SecurityContext == nil {
		s.SecurityContext = &v1.PodSecurityContext{}
	}
	for i := range s.InitContainers {
		fillInContainer(&s.InitContainers[i], s.HostNetwork)
	}
	for i := range s.Containers {
		fillInContainer(&s.Containers[i], s.HostNetwork)
	}
	mode := v1.DownwardAPIVolumeSourceDefaultMode
	for i := range s.Volumes {
		v := &s.Volumes[i].VolumeSource
		if v.DownwardAPI != nil && v.DownwardAPI.DefaultMode == nil {
			v.DownwardAPI.DefaultMode = &mode
		}
		if v.Projected != nil && v.Projected.DefaultMode == nil {
			v.Projected.DefaultMode = &mode
		}
		if v.HostPath != nil && v.HostPath.Type == nil {
			unset := v1.HostPathUnset
			v.HostPath.Type = &unset
		}
		if *v == (v1.VolumeSource{}) {
			v.EmptyDir = &v1.EmptyDirVolumeSource{}
		}
	}
}

func fillInContainer(c *v1.Container, hostNetwork bool) {
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = v1.PullIfNotPresent
		if latest(c.Image) {
			c.ImagePullPolicy = v1.PullAlways
		}
	}
	set(&c.TerminationMessagePath, v1.TerminationMessagePathDefault)
	set(&c.TerminationMessagePolicy, v1.TerminationMessageReadFile)
	for i := range c.Ports {
		set(&c.Ports[i].Protocol, v1.ProtocolTCP)
		if hostNetwork && c.Ports[i].HostPort == 0 {
			c.Ports[i].HostPort = c.Ports[i].ContainerPort
		}
	}
	for name, limit := range c.Resources.Limits {
		if _, ok := c.Resources.Requests[name]; !ok {
			if c.Resources.Requests == nil {
				c.Resources.Requests = v1.ResourceList{}
			}
			c.Resources.Requests[name] = limit.DeepCopy()
		}
	}
	for i := range c.Env {
		if f := c.Env[i].ValueFrom; f != nil && f.FieldRef != nil {
			set(&f.FieldRef.APIVersion, "v1")
		}
	}
	for _, probe := range []*v1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		fillInProbe(probe)
	}
	if l := c.Lifecycle; l != nil {
		fillInHook(l.PostStart)
		fillInHook(l.PreStop)
	}
}

// latest says that the image names no tag, or the tag latest, and no digest.
func latest(image string) bool {
	if strings.Contains(image, "@") {
		return false
	}
	last := image[strings.LastIndex(image, "/")+1:]
	_, tag, tagged := strings.Cut(last, ":")
	return !tagged || tag == "latest"
}

func fillInProbe(p *v1.Probe) {
	if p == nil {
		return
	}
	set(&p.TimeoutSeconds, 1)
	set(&p.PeriodSeconds, 10)
	set(&p.SuccessThreshold, 1)
	set(&p.FailureThreshold, 3)
	fillInGet(p.HTTPGet)
	if p.GRPC != nil && p.GRPC.Service == nil {
		p.GRPC.Service = new(string)
	}
}

func fillInHook(h *v1.LifecycleHandler) {
	if h != nil {
		fillInGet(h.HTTPGet)
	}
}

func fillInGet(g *v1.HTTPGetAction) {
	if g == nil {
		return
	}
	set(&g.Path, "/")
	set(&g.Scheme, v1.URISchemeHTTP)
	if g.Port == (intstr.IntOrString{}) {
		g.Port = intstr.FromInt32(80)
	}
}

// set gives to its default where it is its zero value.
func set[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

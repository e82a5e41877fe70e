package core

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"coracle/controlplane/api/expect"
)

// podWith makes a sound pod with its defaults and one change.
func podWith(change func(p *corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", ResourceVersion: "1", Labels: map[string]string{"app": "p"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "default",
			Containers:         []corev1.Container{{Name: "c", Image: "image:1"}},
			Volumes:            []corev1.Volume{{Name: "v"}, {Name: "claim", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}},
		},
	}
	defaultPod(p)
	if change != nil {
		change(p)
	}
	return p
}

// containerWith makes a sound pod with a change of its container.
func containerWith(change func(c *corev1.Container)) *corev1.Pod {
	return podWith(func(p *corev1.Pod) { change(&p.Spec.Containers[0]) })
}

// volumeWith makes a sound pod with one more volume.
func volumeWith(src corev1.VolumeSource) *corev1.Pod {
	return podWith(func(p *corev1.Pod) {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "x", VolumeSource: src})
	})
}

func ptr[T any](v T) *T { return &v }

type podCase struct {
	name string
	pod  *corev1.Pod
	want []string
}

func runPods(t *testing.T, cases []podCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) { expect.Errors(t, ValidatePod(tc.pod), tc.want...) })
	}
}

func TestPodItself(t *testing.T) {
	runPods(t, []podCase{
		{"sound", podWith(nil), nil},
		{"no name", podWith(func(p *corev1.Pod) { p.Name = "" }), []string{"Required metadata.name"}},
		{"bad name", podWith(func(p *corev1.Pod) { p.Name = "A_b" }), []string{"Invalid metadata.name"}},
		{"no namespace", podWith(func(p *corev1.Pod) { p.Namespace = "" }), []string{"Required metadata.namespace"}},
		{"bad label", podWith(func(p *corev1.Pod) { p.Labels = map[string]string{"a b": "c"} }), []string{"Invalid metadata.labels"}},
		{"no containers", podWith(func(p *corev1.Pod) { p.Spec.Containers = nil }), []string{"Required spec.containers"}},
		{"restart policy", podWith(func(p *corev1.Pod) { p.Spec.RestartPolicy = "Sometimes" }), []string{"NotSupported spec.restartPolicy"}},
		{"no restart policy", podWith(func(p *corev1.Pod) { p.Spec.RestartPolicy = "" }), []string{"Required spec.restartPolicy"}},
		{"deadline zero", podWith(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = ptr(int64(0)) }), []string{"Invalid spec.activeDeadlineSeconds"}},
		{"node name", podWith(func(p *corev1.Pod) { p.Spec.NodeName = "a b" }), []string{"Invalid spec.nodeName"}},
		{"account name", podWith(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "A" }), []string{"Invalid spec.serviceAccountName"}},
		{"priority class", podWith(func(p *corev1.Pod) { p.Spec.PriorityClassName = "a b" }), []string{"Invalid spec.priorityClassName"}},
		{"runtime class", podWith(func(p *corev1.Pod) { p.Spec.RuntimeClassName = ptr("a b") }), []string{"Invalid spec.runtimeClassName"}},
		{"hostname", podWith(func(p *corev1.Pod) { p.Spec.Hostname, p.Spec.Subdomain = "a.b", "-" }), []string{"Invalid spec.hostname", "Invalid spec.subdomain"}},
		{"node selector", podWith(func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"k": "a b"} }), []string{"Invalid spec.nodeSelector"}},
		{"ephemeral on create", podWith(func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i", ImagePullPolicy: "Always", TerminationMessagePolicy: "File"}}}
		}), []string{"Forbidden spec.ephemeralContainers"}},
		{"gated and placed", podWith(func(p *corev1.Pod) {
			p.Spec.NodeName, p.Spec.SchedulingGates = "n", []corev1.PodSchedulingGate{{Name: "g"}}
		}), []string{"Forbidden spec.nodeName"}},
		{"gates", podWith(func(p *corev1.Pod) {
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a b"}, {Name: "g"}, {Name: "g"}}
		}), []string{"Invalid spec.schedulingGates[0]", "Duplicate spec.schedulingGates[2]"}},
		{"readiness gate", podWith(func(p *corev1.Pod) { p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "a b"}} }), []string{"Invalid spec.readinessGates[0].conditionType"}},
		{"preemption", podWith(func(p *corev1.Pod) { p.Spec.PreemptionPolicy = ptr(corev1.PreemptionPolicy("x")) }), []string{"NotSupported spec.preemptionPolicy"}},
		{"overhead", podWith(func(p *corev1.Pod) { p.Spec.Overhead = corev1.ResourceList{"cpu": resource.MustParse("-1")} }), []string{"Invalid spec.overhead.limits[cpu]"}},
		{"mirror without node", podWith(func(p *corev1.Pod) { p.Annotations = map[string]string{mirrorAnnotation: "x"} }), []string{"Invalid metadata.annotations[kubernetes.io/config.mirror]"}},
		{"deletion cost", podWith(func(p *corev1.Pod) { p.Annotations = map[string]string{deletionCostAnnotation: "+1"} }), []string{"Invalid metadata.annotations[controller.kubernetes.io/pod-deletion-cost]"}},
		{"token without account", podWith(func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = ""
			p.Spec.Volumes[0] = corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr(int64(600))}}},
			}}}
		}), []string{"Forbidden spec.volumes[0].projected.sources[0].serviceAccountToken"}},
		{"stop signal without os", containerWith(func(c *corev1.Container) { c.Lifecycle = &corev1.Lifecycle{StopSignal: ptr(corev1.SIGUSR1)} }), []string{"Forbidden spec.containers[0].lifecycle.stopSignal"}},
		{"os", podWith(func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: "plan9"} }), []string{"NotSupported spec.os"}},
		{"os name", podWith(func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{} }), []string{"Required spec.os.name"}},
	})
}

func TestPodNetwork(t *testing.T) {
	dns := func(policy corev1.DNSPolicy, c *corev1.PodDNSConfig) *corev1.Pod {
		return podWith(func(p *corev1.Pod) { p.Spec.DNSPolicy, p.Spec.DNSConfig = policy, c })
	}
	runPods(t, []podCase{
		{"policy", dns("Best", nil), []string{"NotSupported spec.dnsPolicy"}},
		{"no policy", dns("", nil), []string{"Required spec.dnsPolicy"}},
		{"none without config", dns(corev1.DNSNone, nil), []string{"Required spec.dnsConfig"}},
		{"none without servers", dns(corev1.DNSNone, &corev1.PodDNSConfig{}), []string{"Required spec.dnsConfig.nameservers"}},
		{"too many servers", dns(corev1.DNSDefault, &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"}}), []string{"Invalid spec.dnsConfig.nameservers"}},
		{"bad parts", dns(corev1.DNSDefault, &corev1.PodDNSConfig{Nameservers: []string{"x"}, Searches: []string{"a b", ".", "_x.y."}, Options: []corev1.PodDNSConfigOption{{}}}),
			[]string{"Invalid spec.dnsConfig.nameservers[0]", "Invalid spec.dnsConfig.searches[0]", "Required spec.dnsConfig.options[0]"}},
		{"host aliases", podWith(func(p *corev1.Pod) {
			p.Spec.HostAliases = []corev1.HostAlias{{IP: "10.0.0", Hostnames: []string{"ok", "a_b"}}}
		}), []string{"Invalid spec.hostAliases[0].ip", "Invalid spec.hostAliases[0].hostnames[1]"}},
		{"host network ports", podWith(func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080, Protocol: "TCP"}}
		}), []string{"Invalid spec.containers[0].ports[0].containerPort"}},
		{"hostname override", podWith(func(p *corev1.Pod) { p.Spec.HostnameOverride, p.Spec.HostNetwork = ptr("a_b"), true }),
			[]string{"Invalid spec.hostnameOverride", "Forbidden spec.hostnameOverride"}},
		{"ports", containerWith(func(c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{
				{Name: "http", ContainerPort: 80, Protocol: "TCP", HostPort: 80},
				{Name: "http", ContainerPort: 70000, Protocol: "ICMP", HostPort: -1},
				{Name: "Not_Good", Protocol: "TCP", HostPort: 80},
			}
		}), []string{
			"Duplicate spec.containers[0].ports[1].name", "Invalid spec.containers[0].ports[1].containerPort", "Invalid spec.containers[0].ports[1].hostPort",
			"NotSupported spec.containers[0].ports[1].protocol", "Invalid spec.containers[0].ports[2].name",
			"Required spec.containers[0].ports[2].containerPort", "Duplicate spec.containers[0].ports[2].hostPort",
		}},
		{"host port in two containers", podWith(func(p *corev1.Pod) {
			c := p.Spec.Containers[0]
			c.Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, Protocol: "TCP"}}
			d := c
			d.Name = "d"
			p.Spec.Containers = []corev1.Container{c, d}
		}), []string{"Duplicate spec.containers[1].ports[0].hostPort"}},
		{"same host port, other protocol and address", containerWith(func(c *corev1.Container) {
			c.Ports = []corev1.ContainerPort{{ContainerPort: 53, HostPort: 53, Protocol: "TCP"}, {ContainerPort: 53, HostPort: 53, Protocol: "UDP"}, {ContainerPort: 53, HostPort: 53, HostIP: "127.0.0.1", Protocol: "TCP"}}
		}), nil},
	})
}

func TestContainers(t *testing.T) {
	runPods(t, []podCase{
		{"nothing set", podWith(func(p *corev1.Pod) { p.Spec.Containers = []corev1.Container{{}} }), []string{
			"Required spec.containers[0].name", "Required spec.containers[0].image", "Required spec.containers[0].terminationMessagePolicy", "Required spec.containers[0].imagePullPolicy",
		}},
		{"bad name", containerWith(func(c *corev1.Container) { c.Name = "A" }), []string{"Invalid spec.containers[0].name"}},
		{"same names", podWith(func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, p.Spec.Containers[0]) }), []string{"Duplicate spec.containers[1].name"}},
		{"blank around image", containerWith(func(c *corev1.Container) { c.Image = " image" }), []string{"Invalid spec.containers[0].image"}},
		{"policies", containerWith(func(c *corev1.Container) { c.ImagePullPolicy, c.TerminationMessagePolicy = "x", "y" }), []string{"NotSupported spec.containers[0].imagePullPolicy", "NotSupported spec.containers[0].terminationMessagePolicy"}},
		{"resize policy", containerWith(func(c *corev1.Container) {
			c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}, {ResourceName: "cpu", RestartPolicy: "NotRequired"}, {ResourceName: "disk", RestartPolicy: "x"}}
		}), []string{"Duplicate spec.containers[0].resizePolicy[1]", "NotSupported spec.containers[0].resizePolicy[2]", "NotSupported spec.containers[0].resizePolicy[2]"}},
		{"restart rules", containerWith(func(c *corev1.Container) {
			c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: "x"}, {Action: "Restart", ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "y"}}}
		}), []string{
			"Required spec.containers[0].restartPolicy", "NotSupported spec.containers[0].restartPolicyRules[0].action", "Required spec.containers[0].restartPolicyRules[0].exitCodes",
			"NotSupported spec.containers[0].restartPolicyRules[1].exitCodes.operator", "Invalid spec.containers[0].restartPolicyRules[1].exitCodes.values",
		}},
		{"sound restart rules", containerWith(func(c *corev1.Container) {
			c.RestartPolicy = ptr(corev1.ContainerRestartPolicyNever)
			c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: "Restart", ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: "In", Values: []int32{42}}}}
		}), nil},
	})
}

func TestInitContainers(t *testing.T) {
	initWith := func(change func(c *corev1.Container)) *corev1.Pod {
		return podWith(func(p *corev1.Pod) {
			c := p.Spec.Containers[0]
			c.Name = "init"
			change(&c)
			p.Spec.InitContainers = []corev1.Container{c}
		})
	}
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}, SuccessThreshold: 1}
	runPods(t, []podCase{
		{"sound", initWith(func(*corev1.Container) {}), nil},
		{"name of a main container", initWith(func(c *corev1.Container) { c.Name = "c" }), []string{"Duplicate spec.initContainers[0].name"}},
		{"probes", initWith(func(c *corev1.Container) {
			c.LivenessProbe, c.ReadinessProbe, c.StartupProbe, c.Lifecycle = probe, probe, probe, &corev1.Lifecycle{}
		}), []string{"Forbidden spec.initContainers[0].lifecycle", "Forbidden spec.initContainers[0].livenessProbe", "Forbidden spec.initContainers[0].readinessProbe", "Forbidden spec.initContainers[0].startupProbe"}},
		{"probes of a sidecar", initWith(func(c *corev1.Container) {
			c.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
			c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = probe, probe, probe
		}), nil},
		{"restart policy", initWith(func(c *corev1.Container) { c.RestartPolicy = ptr(corev1.ContainerRestartPolicy("x")) }), []string{"NotSupported spec.initContainers[0].restartPolicy"}},
		{"resize", initWith(func(c *corev1.Container) {
			c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: "cpu", RestartPolicy: "NotRequired"}}
		}), []string{"Invalid spec.initContainers[0].resizePolicy"}},
		{"same host port as a main container", podWith(func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, Protocol: "TCP"}}
			c := p.Spec.Containers[0]
			c.Name = "init"
			p.Spec.InitContainers = []corev1.Container{c}
		}), nil},
	})
}

func TestProbes(t *testing.T) {
	live := func(p corev1.Probe) *corev1.Pod {
		return containerWith(func(c *corev1.Container) { defaultProbe(&p); c.LivenessProbe = &p })
	}
	handler := func(h corev1.ProbeHandler) *corev1.Pod { return live(corev1.Probe{ProbeHandler: h}) }
	exec := corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}
	hook := func(h corev1.LifecycleHandler) *corev1.Pod {
		return containerWith(func(c *corev1.Container) { c.Lifecycle = &corev1.Lifecycle{PreStop: &h} })
	}
	const at = "spec.containers[0].livenessProbe"
	runPods(t, []podCase{
		{"exec", handler(exec), nil},
		{"no handler", handler(corev1.ProbeHandler{}), []string{"Required " + at}},
		{"two handlers", handler(corev1.ProbeHandler{Exec: exec.Exec, TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}), []string{"Forbidden " + at + ".tcpSocket"}},
		{"exec without command", handler(corev1.ProbeHandler{Exec: &corev1.ExecAction{}}), []string{"Required " + at + ".exec.command"}},
		{"http", handler(corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(70000), Scheme: "FTP", HTTPHeaders: []corev1.HTTPHeader{{Name: "a b"}}}}),
			[]string{"Invalid " + at + ".httpGet.port", "NotSupported " + at + ".httpGet.scheme", "Invalid " + at + ".httpGet.httpHeaders"}},
		{"tcp port name", handler(corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("much-too-long-a-name")}}), []string{"Invalid " + at + ".tcpSocket.port"}},
		{"grpc port", handler(corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}), []string{"Invalid " + at + ".grpc.port"}},
		{"numbers", live(corev1.Probe{ProbeHandler: exec, InitialDelaySeconds: -1, TimeoutSeconds: -1, PeriodSeconds: -1, SuccessThreshold: 2, FailureThreshold: -1, TerminationGracePeriodSeconds: ptr(int64(0))}), []string{
			"Invalid " + at + ".initialDelaySeconds", "Invalid " + at + ".timeoutSeconds", "Invalid " + at + ".periodSeconds", "Invalid " + at + ".successThreshold",
			"Invalid " + at + ".failureThreshold", "Invalid " + at + ".terminationGracePeriodSeconds",
		}},
		{"readiness ends nothing", containerWith(func(c *corev1.Container) {
			c.ReadinessProbe = &corev1.Probe{ProbeHandler: exec, SuccessThreshold: 3, TerminationGracePeriodSeconds: ptr(int64(5))}
		}), []string{"Invalid spec.containers[0].readinessProbe.terminationGracePeriodSeconds"}},
		{"sleep", hook(corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}), nil},
		{"sleep past the grace", hook(corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 31}}), []string{"Invalid spec.containers[0].lifecycle.preStop.sleep"}},
		{"empty hook", hook(corev1.LifecycleHandler{}), []string{"Required spec.containers[0].lifecycle.preStop"}},
	})
}

func TestEnv(t *testing.T) {
	env := func(v ...corev1.EnvVar) *corev1.Pod {
		return containerWith(func(c *corev1.Container) { c.Env = v })
	}
	from := func(s corev1.EnvVarSource) *corev1.Pod { return env(corev1.EnvVar{Name: "X", ValueFrom: &s}) }
	fieldRef := func(version, path string) *corev1.Pod {
		return from(corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: version, FieldPath: path}})
	}
	const at = "spec.containers[0].env[0].valueFrom"
	runPods(t, []podCase{
		{"names", env(corev1.EnvVar{Name: ""}, corev1.EnvVar{Name: "a=b"}, corev1.EnvVar{Name: "a.b-c d"}), []string{"Required spec.containers[0].env[0].name", "Invalid spec.containers[0].env[1].name"}},
		{"no source", from(corev1.EnvVarSource{}), []string{"Invalid " + at}},
		{"two sources", from(corev1.EnvVarSource{
			ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Key: "k"},
			SecretKeyRef:    &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Key: "k"},
		}), []string{"Invalid " + at}},
		{"value and source", env(corev1.EnvVar{Name: "X", Value: "v", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}}), []string{"Invalid " + at}},
		{"key refs", from(corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{Key: "a/b"}}), []string{"Required " + at + ".configMapKeyRef.name", "Invalid " + at + ".configMapKeyRef.key"}},
		{"field version", fieldRef("", "metadata.name"), []string{"Required " + at + ".fieldRef.apiVersion"}},
		{"other version", fieldRef("v2", "metadata.name"), []string{"Invalid " + at + ".fieldRef.fieldPath"}},
		{"no field", fieldRef("v1", ""), []string{"Required " + at + ".fieldRef.fieldPath"}},
		{"unknown field", fieldRef("v1", "spec.nothing"), []string{"Invalid " + at + ".fieldRef.fieldPath"}},
		{"field not for env", fieldRef("v1", "metadata.labels"), []string{"NotSupported " + at + ".fieldRef.fieldPath"}},
		{"phase", fieldRef("v1", "status.phase"), []string{"NotSupported " + at + ".fieldRef.fieldPath"}},
		{"one label", fieldRef("v1", "metadata.labels['a/b']"), nil},
		{"bad label", fieldRef("v1", "metadata.labels['a b']"), []string{"Invalid " + at + ".fieldRef"}},
		{"capitals in annotation", fieldRef("v1", "metadata.annotations['A.B/c']"), nil},
		{"subscript of a name", fieldRef("v1", "metadata.name['a']"), []string{"Invalid " + at + ".fieldRef"}},
		{"resource", from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.disk"}}), []string{"NotSupported " + at + ".resourceFieldRef.resource"}},
		{"no resource", from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{}}), []string{"Required " + at + ".resourceFieldRef.resource"}},
		{"divisor", from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu", Divisor: resource.MustParse("10m")}}), []string{"Invalid " + at + ".resourceFieldRef.divisor"}},
		{"huge pages", from(corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.hugepages-2Mi", Divisor: resource.MustParse("1Mi")}}), nil},
		{"file", from(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "a/b", Key: "K"}}), nil},
		{"file of another volume", from(corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{VolumeName: "claim", Path: "/a", Key: "K"}}), []string{"Invalid " + at + ".fileKeyRef.volumeName", "Invalid " + at + ".fileKeyRef.path"}},
		{"envFrom", containerWith(func(c *corev1.Container) {
			c.EnvFrom = []corev1.EnvFromSource{{Prefix: "a=", ConfigMapRef: &corev1.ConfigMapEnvSource{}}, {}}
		}), []string{"Invalid spec.containers[0].envFrom[0].prefix", "Required spec.containers[0].envFrom[0].configMapRef.name", "Invalid spec.containers[0].envFrom"}},
	})
}

func TestPullPolicy(t *testing.T) {
	digest := "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for image, want := range map[string]corev1.PullPolicy{
		"nginx":                            corev1.PullAlways,
		"nginx:latest":                     corev1.PullAlways,
		"nginx:1.2":                        corev1.PullIfNotPresent,
		"nginx" + digest:                   corev1.PullIfNotPresent,
		"nginx:latest" + digest:            corev1.PullAlways,
		"localhost:5000/a/b":               corev1.PullAlways,
		"localhost:5000/a/b:v1":            corev1.PullIfNotPresent,
		"[fd00::1]:5000/a":                 corev1.PullAlways,
		"Registry.Example.com/a_b/c--d__e": corev1.PullAlways,
		// Not image names: nothing is assumed of them.
		"":          corev1.PullIfNotPresent,
		"Nginx":     corev1.PullIfNotPresent,
		"a b":       corev1.PullIfNotPresent,
		"nginx:":    corev1.PullIfNotPresent,
		"nginx@sha": corev1.PullIfNotPresent,
	} {
		if got := pullPolicyFor(image); got != want {
			t.Errorf("%q: got %s, want %s", image, got, want)
		}
	}
}

func TestPodAddressesAreInStep(t *testing.T) {
	for _, tc := range []struct {
		name, ip, wantIP string
		ips, wantIPs     []corev1.PodIP
	}{
		{"single only", "10.0.0.1", "10.0.0.1", nil, []corev1.PodIP{{IP: "10.0.0.1"}}},
		{"list only", "", "10.0.0.1", []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}, []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
		{"single wins", "10.0.0.2", "10.0.0.2", []corev1.PodIP{{IP: "10.0.0.1"}}, []corev1.PodIP{{IP: "10.0.0.2"}}},
		{"none", "", "", nil, nil},
	} {
		st := corev1.PodStatus{PodIP: tc.ip, PodIPs: tc.ips}
		defaultPodIPs(&st)
		if st.PodIP != tc.wantIP || !slices.Equal(st.PodIPs, tc.wantIPs) {
			t.Errorf("%s: got %q and %v", tc.name, st.PodIP, st.PodIPs)
		}
	}
}

func TestStopSignal(t *testing.T) {
	path := field.NewPath("stopSignal")
	for _, tc := range []struct {
		os     corev1.OSName
		signal corev1.Signal
		want   []string
	}{
		{corev1.Linux, corev1.SIGUSR1, nil},
		{corev1.Linux, corev1.SIGRTMINPLUS15, nil},
		{corev1.Linux, corev1.SIGRTMAXMINUS14, nil},
		{corev1.Linux, "SIGNOTHING", []string{"NotSupported stopSignal"}},
		{corev1.Windows, corev1.SIGTERM, nil},
		{corev1.Windows, corev1.SIGUSR1, []string{"NotSupported stopSignal"}},
		{"", corev1.SIGTERM, []string{"Forbidden stopSignal"}},
	} {
		expect.Errors(t, validateStopSignal(tc.signal, tc.os, path), tc.want...)
	}
}

func TestWindowsUser(t *testing.T) {
	path := field.NewPath("user")
	for _, name := range []string{"user", `NT AUTHORITY\SYSTEM`, `example.com\user name`, `DOM\..x`} {
		expect.Errors(t, validateWindowsUser(name, path))
	}
	for _, name := range []string{"", "a\tb", `a\b\c`, `\user`, `.dom\user`, `dom\`, "..", "us:er", strings.Repeat("u", 261), strings.Repeat("d", 256) + `\u`} {
		expect.Errors(t, validateWindowsUser(name, path), "Invalid user")
	}
}

func TestPodTemplate(t *testing.T) {
	template := func(change func(t *corev1.PodTemplateSpec)) *corev1.PodTemplate {
		pt := &corev1.PodTemplate{ObjectMeta: metav1.ObjectMeta{Name: "t", Namespace: "ns", ResourceVersion: "1"}}
		pt.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: " padded "}}
		defaultPodTemplate(pt)
		change(&pt.Template)
		return pt
	}
	sound := template(func(*corev1.PodTemplateSpec) {})
	expect.Errors(t, ValidatePodTemplate(sound))
	bad := template(func(t *corev1.PodTemplateSpec) {
		t.Labels = map[string]string{"a b": "c"}
		t.Annotations = map[string]string{"a b": "c"}
		t.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i", ImagePullPolicy: "Always", TerminationMessagePolicy: "File"}}}
		t.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{PullPolicy: "Always"}}}}
	})
	want := []string{"Invalid template.labels", "Invalid template.annotations", "Forbidden template.spec.ephemeralContainers"}
	expect.Errors(t, ValidatePodTemplate(bad), want...)
	expect.Errors(t, ValidatePodTemplateUpdate(bad, sound), want...)
}

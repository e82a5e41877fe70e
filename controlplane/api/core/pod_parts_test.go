package core

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// amounts reads pairs of resource and amount.
func amounts(pairs ...string) corev1.ResourceList {
	list := corev1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		list[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return list
}

func TestResources(t *testing.T) {
	with := func(limits, requests corev1.ResourceList) *corev1.Pod {
		return containerWith(func(c *corev1.Container) {
			c.Resources = corev1.ResourceRequirements{Limits: limits, Requests: requests}
		})
	}
	whole := func(r corev1.ResourceRequirements) *corev1.Pod {
		return podWith(func(p *corev1.Pod) {
			p.Spec.Resources = &r
			p.Spec.Containers[0].Resources.Requests = amounts("cpu", "2")
			p.Spec.Containers[0].Resources.Limits = amounts("memory", "3Gi")
			p.Spec.Containers[0].Resources.Requests["memory"] = resource.MustParse("1Gi")
		})
	}
	const at = "spec.containers[0].resources"
	runPods(t, []podCase{
		{"sound", with(amounts("cpu", "1", "memory", "1Gi", "example.com/gpu", "1", "ephemeral-storage", "1Gi"), amounts("cpu", "500m", "example.com/gpu", "1")), nil},
		{"unknown name", with(amounts("disk", "1"), nil), []string{"Invalid " + at + ".limits[disk]", "Invalid " + at + ".limits[disk]"}},
		{"quota name", with(amounts("pods", "1"), nil), []string{"Invalid " + at + ".limits[pods]"}},
		{"not extended", with(amounts("requests.example.com/gpu", "1"), nil), []string{"Invalid " + at + ".limits[requests.example.com/gpu]"}},
		{"negative", with(amounts("cpu", "-1"), nil), []string{"Invalid " + at + ".limits[cpu]"}},
		{"request above limit", with(amounts("cpu", "1"), amounts("cpu", "2")), []string{"Invalid " + at + ".requests"}},
		{"extended differs", with(amounts("example.com/gpu", "2"), amounts("example.com/gpu", "1")), []string{"Invalid " + at + ".requests"}},
		{"extended without limit", with(nil, amounts("example.com/gpu", "1")), []string{"Required " + at + ".limits"}},
		{"extended in parts", with(amounts("example.com/gpu", "500m"), nil), []string{"Invalid " + at + ".limits[example.com/gpu]"}},
		{"huge pages alone", with(amounts("hugepages-2Mi", "4Mi"), amounts("hugepages-2Mi", "4Mi")), []string{"Forbidden " + at}},
		{"huge pages in parts", with(amounts("hugepages-2Mi", "3Mi", "cpu", "1"), nil), []string{"Invalid " + at + ".limits[hugepages-2Mi]"}},
		{"claim not there", containerWith(func(c *corev1.Container) { c.Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}, {}} }), []string{"NotFound " + at + ".claims[0].name", "Required " + at + ".claims[1].name"}},
		{"pod claims", podWith(func(p *corev1.Pod) {
			p.Spec.ResourceClaims = []corev1.PodResourceClaim{{Name: "a", ResourceClaimName: ptr("x")}, {Name: "a", ResourceClaimName: ptr("x")}, {Name: "b"}, {ResourceClaimTemplateName: ptr("a_b")}}
		}), []string{"Duplicate spec.resourceClaims[1].name", "Invalid spec.resourceClaims[2]", "Required spec.resourceClaims[3].name", "Invalid spec.resourceClaims[3].resourceClaimTemplateName"}},
		{"pod level too small", whole(corev1.ResourceRequirements{Requests: amounts("cpu", "1"), Limits: amounts("memory", "2Gi")}), []string{"Invalid spec.resources.requests[cpu]", "Invalid spec.containers[0].resources.limits[memory]"}},
		{"pod level names", podWith(func(p *corev1.Pod) {
			p.Spec.Resources = &corev1.ResourceRequirements{Limits: amounts("ephemeral-storage", "1"), Claims: []corev1.ResourceClaim{{Name: "x"}}}
		}), []string{"NotSupported spec.resources.limits[ephemeral-storage]", "Forbidden spec.resources.claims"}},
	})
}

func TestSecurity(t *testing.T) {
	pod := func(sc corev1.PodSecurityContext) *corev1.Pod {
		return podWith(func(p *corev1.Pod) { p.Spec.SecurityContext = &sc })
	}
	container := func(sc corev1.SecurityContext) *corev1.Pod {
		return containerWith(func(c *corev1.Container) { c.SecurityContext = &sc })
	}
	const at, of = "spec.securityContext", "spec.containers[0].securityContext"
	runPods(t, []podCase{
		{"ids", pod(corev1.PodSecurityContext{RunAsUser: ptr(int64(-1)), RunAsGroup: ptr(int64(1) << 31), FSGroup: ptr(int64(-1)), SupplementalGroups: []int64{1, -1}}),
			[]string{"Invalid " + at + ".runAsUser", "Invalid " + at + ".runAsGroup", "Invalid " + at + ".fsGroup", "Invalid " + at + ".supplementalGroups[1]"}},
		{"policies", pod(corev1.PodSecurityContext{FSGroupChangePolicy: ptr(corev1.PodFSGroupChangePolicy("x")), SupplementalGroupsPolicy: ptr(corev1.SupplementalGroupsPolicy("x"))}),
			[]string{"NotSupported " + at + ".fsGroupChangePolicy", "NotSupported " + at + ".supplementalGroupsPolicy"}},
		{"sysctls", pod(corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{}, {Name: "Bad"}, {Name: "a.b"}, {Name: "a.b"}, {Name: "net/ipv4/x"}}}),
			[]string{"Required " + at + ".sysctls[0].name", "Invalid " + at + ".sysctls[1].name", "Duplicate " + at + ".sysctls[3].name"}},
		{"sysctls of the host", podWith(func(p *corev1.Pod) {
			p.Spec.HostNetwork, p.Spec.HostIPC = true, true
			p.Spec.SecurityContext.Sysctls = []corev1.Sysctl{{Name: "net.core.somaxconn"}, {Name: "kernel.shm_rmid_forced"}, {Name: "vm.x"}}
		}), []string{"Invalid " + at + ".sysctls[0].name", "Invalid " + at + ".sysctls[1].name"}},
		{"seccomp", pod(corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: "Localhost"}}), []string{"Required " + at + ".seccompProfile.localhostProfile"}},
		{"seccomp type", container(corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: "x", LocalhostProfile: ptr("p")}}), []string{"NotSupported " + of + ".seccompProfile.type", "Invalid " + of + ".seccompProfile.localhostProfile"}},
		{"seccomp path", container(corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: "Localhost", LocalhostProfile: ptr("../x")}}), []string{"Invalid " + of + ".seccompProfile.localhostProfile"}},
		{"apparmor", container(corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: "Localhost", LocalhostProfile: ptr(" x")}}), []string{"Invalid " + of + ".appArmorProfile.localhostProfile"}},
		{"apparmor type", container(corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{}}), []string{"Required " + of + ".appArmorProfile.type"}},
		{"privileged without escalation", container(corev1.SecurityContext{Privileged: ptr(true), AllowPrivilegeEscalation: ptr(false)}), []string{"Invalid " + of}},
		{"capability without escalation", container(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"CAP_SYS_ADMIN"}}, AllowPrivilegeEscalation: ptr(false)}), []string{"Invalid " + of}},
		{"unmasked", container(corev1.SecurityContext{ProcMount: ptr(corev1.UnmaskedProcMount)}), []string{"Invalid " + of + ".procMount"}},
		{"user namespace", podWith(func(p *corev1.Pod) { p.Spec.HostUsers, p.Spec.HostNetwork, p.Spec.HostPID = ptr(false), true, true }), []string{"Forbidden spec.hostNetwork", "Forbidden spec.hostPID"}},
		{"shared processes", podWith(func(p *corev1.Pod) { p.Spec.ShareProcessNamespace, p.Spec.HostPID = ptr(true), true }), []string{"Invalid " + at + ".shareProcessNamespace"}},
		{"windows on linux", podWith(func(p *corev1.Pod) {
			p.Spec.OS = &corev1.PodOS{Name: corev1.Linux}
			p.Spec.SecurityContext.WindowsOptions = &corev1.WindowsSecurityContextOptions{RunAsUserName: ptr(`a\b\c`)}
		}), []string{"Forbidden " + at + ".windowsOptions", "Invalid " + at + ".windowsOptions.runAsUserName"}},
		{"linux on windows", podWith(func(p *corev1.Pod) {
			p.Spec.OS, p.Spec.HostPID = &corev1.PodOS{Name: corev1.Windows}, true
			p.Spec.SecurityContext.FSGroup = ptr(int64(1))
			p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr(false)}
		}), []string{"Forbidden spec.hostPID", "Forbidden " + at + ".fsGroup", "Forbidden " + of + ".privileged"}},
		{"host process", container(corev1.SecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: ptr(true)}}), []string{"Invalid spec.hostNetwork"}},
	})
}

func TestPlacement(t *testing.T) {
	affinity := func(a corev1.Affinity) *corev1.Pod {
		return podWith(func(p *corev1.Pod) { p.Spec.Affinity = &a })
	}
	nodes := func(terms ...corev1.NodeSelectorTerm) *corev1.Pod {
		return affinity(corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms}}})
	}
	expr := func(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	tolerate := func(l ...corev1.Toleration) *corev1.Pod {
		return podWith(func(p *corev1.Pod) { p.Spec.Tolerations = l })
	}
	spread := func(l ...corev1.TopologySpreadConstraint) *corev1.Pod {
		return podWith(func(p *corev1.Pod) { p.Spec.TopologySpreadConstraints = l })
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "p"}}
	const req = "spec.affinity.nodeAffinity." + requiredTerms + ".nodeSelectorTerms"
	const anti = "spec.affinity.podAntiAffinity."
	runPods(t, []podCase{
		{"no terms", nodes(), []string{"Required " + req}},
		{"operators", nodes(expr("k", "In"), expr("k", "Exists", "v"), expr("k", "Gt", "1", "2"), expr("k", "Near", "v"), expr("a b", "Exists"), expr("k", "In", "a b")), []string{
			"Required " + req + "[0].matchExpressions[0].values", "Forbidden " + req + "[1].matchExpressions[0].values", "Required " + req + "[2].matchExpressions[0].values",
			"Invalid " + req + "[3].matchExpressions[0].operator", "Invalid " + req + "[4].matchExpressions[0].key", "Invalid " + req + "[5].matchExpressions[0].values[0]",
		}},
		{"fields", nodes(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: "In", Values: []string{"a", "b"}}, {Key: "spec.x", Operator: "Exists"}}}), []string{
			"Required " + req + "[0].matchFields[0].values", "Invalid " + req + "[0].matchFields[1].operator", "Invalid " + req + "[0].matchFields[1].key",
		}},
		{"weight", affinity(corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 101, Preference: expr("k", "In", "a b")}}}}),
			[]string{"Invalid spec.affinity.nodeAffinity." + preferredTerms + "[0].weight"}},
		{"pod terms", affinity(corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution:  []corev1.PodAffinityTerm{{Namespaces: []string{"A"}, MatchLabelKeys: []string{"x"}}},
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 0, PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: "a b", LabelSelector: selector}}},
		}}), []string{
			"Invalid " + anti + requiredTerms + "[0].namespace", "Forbidden " + anti + requiredTerms + "[0].matchLabelKeys",
			"Required " + anti + requiredTerms + "[0].topologyKey",
			// Nothing is no label name in two ways.
			"Invalid " + anti + requiredTerms + "[0].topologyKey", "Invalid " + anti + requiredTerms + "[0].topologyKey",
			"Invalid " + anti + preferredTerms + "[0].weight", "Invalid " + anti + preferredTerms + "[0].podAffinityTerm.topologyKey",
		}},
		{"tolerations", tolerate(
			corev1.Toleration{Operator: "Equal"}, corev1.Toleration{Key: "a b", Operator: "Exists"}, corev1.Toleration{Key: "k", Operator: "Exists", Value: "v"},
			corev1.Toleration{Key: "k", Operator: "x"}, corev1.Toleration{Key: "k", Effect: "x"}, corev1.Toleration{Key: "k", TolerationSeconds: ptr(int64(1))},
			corev1.Toleration{Key: "k", Value: "a b"}, corev1.Toleration{Key: "k", Operator: "Gt", Value: "01"},
		), []string{
			"Invalid spec.tolerations[0].operator", "Invalid spec.tolerations[1].key", "Invalid spec.tolerations[2].operator", "NotSupported spec.tolerations[3].operator",
			"NotSupported spec.tolerations[4].effect", "Invalid spec.tolerations[5].effect", "Invalid spec.tolerations[6].operator", "Invalid spec.tolerations[7].value",
		}},
		{"spread", spread(
			corev1.TopologySpreadConstraint{}, corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "a b", WhenUnsatisfiable: "DoNotSchedule", MinDomains: ptr(int32(0))},
			corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: "ScheduleAnyway", MinDomains: ptr(int32(2)), NodeTaintsPolicy: ptr(corev1.NodeInclusionPolicy("x"))},
		), []string{
			"Invalid spec.topologySpreadConstraints[0].maxSkew", "Required spec.topologySpreadConstraints[0].topologyKey", "NotSupported spec.topologySpreadConstraints[0].whenUnsatisfiable",
			"Invalid spec.topologySpreadConstraints[1].topologyKey", "Invalid spec.topologySpreadConstraints[1].minDomains",
			"Invalid spec.topologySpreadConstraints[2].minDomains", "NotSupported spec.topologySpreadConstraints[2].nodeTaintsPolicy",
		}},
		{"spread twice", spread(
			corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: "DoNotSchedule"}, corev1.TopologySpreadConstraint{MaxSkew: 2, TopologyKey: "zone", WhenUnsatisfiable: "DoNotSchedule"},
		), []string{"Duplicate spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}"}},
		{"spread keys", spread(
			corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: "DoNotSchedule", MatchLabelKeys: []string{"x"}},
			corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "rack", WhenUnsatisfiable: "DoNotSchedule", MatchLabelKeys: []string{"app"}, LabelSelector: selector},
		), []string{"Forbidden spec.topologySpreadConstraints[0].matchLabelKeys", "Invalid spec.topologySpreadConstraints[1].matchLabelKeys[0]"}},
		{"spread keys filled in", spread(corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: "DoNotSchedule", MatchLabelKeys: []string{"app"}, LabelSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "In", Values: []string{"p"}}},
		}}), nil},
		{"spread keys also excluded", spread(corev1.TopologySpreadConstraint{MaxSkew: 1, TopologyKey: "zone", WhenUnsatisfiable: "DoNotSchedule", MatchLabelKeys: []string{"app"}, LabelSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "NotIn", Values: []string{"q"}}},
		}}), []string{"Invalid spec.topologySpreadConstraints[0].matchLabelKeys[0]"}},
	})
}

package pod

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func testSources() Sources {
	configMaps := map[string]*v1.ConfigMap{
		"settings": {Data: map[string]string{"colour": "blue", "size": "3", "a=b": "not a name", "odd key!": "relaxed"}},
	}
	secrets := map[string]*v1.Secret{"login": {Data: map[string][]byte{"password": []byte("hunter2")}}}
	return Sources{
		ConfigMap: func(_, name string) (*v1.ConfigMap, bool) { cm, ok := configMaps[name]; return cm, ok },
		Secret:    func(_, name string) (*v1.Secret, bool) { s, ok := secrets[name]; return s, ok },
		NodeName:  "node-1", ClusterDomain: "cluster.local",
		PodIPs: []string{"10.0.0.2", "fd00::2"}, HostIPs: []string{"192.0.2.1"},
		Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("3500m"), v1.ResourceMemory: resource.MustParse("1Gi")},
		Volumes:     map[string]string{"data": "/vol/data", "conf": "/vol/conf"},
	}
}

func service(namespace, name, ip string, ports ...v1.ServicePort) *v1.Service {
	return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1.ServiceSpec{ClusterIP: ip, Ports: ports}}
}

func lines(list []EnvVar) string {
	var b strings.Builder
	for _, e := range list {
		b.WriteString(e.Name + "=" + e.Value + "\n")
	}
	return b.String()
}

func TestEnvironment(t *testing.T) {
	p := newPod(container("web"))
	p.Labels, p.Annotations = map[string]string{"app": "shop"}, map[string]string{"example.org/team": "blue"}
	p.Spec.ServiceAccountName = "robot"
	c := &p.Spec.Containers[0]
	c.Resources = v1.ResourceRequirements{
		Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("250m")},
		Limits:   v1.ResourceList{v1.ResourceMemory: resource.MustParse("100Mi")},
	}
	field := func(path string) *v1.EnvVarSource {
		return &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: path}}
	}
	res := func(name, divisor string) *v1.EnvVarSource {
		r := &v1.ResourceFieldSelector{Resource: name}
		if divisor != "" {
			r.Divisor = resource.MustParse(divisor)
		}
		return &v1.EnvVarSource{ResourceFieldRef: r}
	}
	c.EnvFrom = []v1.EnvFromSource{
		{Prefix: "CFG_", ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}}},
		{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "login"}}},
		{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "none"}, Optional: ptr.To(true)}},
	}
	c.Env = []v1.EnvVar{
		{Name: "PLAIN", Value: "x"},
		{Name: "REF", Value: "$(PLAIN)/$(CFG_colour)/$$(PLAIN)/$(LATER)/$(DB_SERVICE_HOST)"},
		{Name: "LATER", Value: "y"},
		{Name: "password", Value: "replaced"},
		{Name: "NAME", ValueFrom: field("metadata.name")},
		{Name: "UID", ValueFrom: field("metadata.uid")},
		{Name: "APP", ValueFrom: field("metadata.labels['app']")},
		{Name: "TEAM", ValueFrom: field("metadata.annotations['example.org/team']")},
		{Name: "SA", ValueFrom: field("spec.serviceAccountName")},
		{Name: "NODE", ValueFrom: field("spec.nodeName")},
		{Name: "IPS", ValueFrom: field("status.podIPs")},
		{Name: "HOST", ValueFrom: field("status.hostIP")},
		{Name: "CPU_REQ", ValueFrom: res("requests.cpu", "1m")},
		{Name: "CPU_REQ_CORES", ValueFrom: res("requests.cpu", "")},
		{Name: "CPU_LIM", ValueFrom: res("limits.cpu", "")}, // none set: the node's, rounded up
		{Name: "MEM_LIM", ValueFrom: res("limits.memory", "1Mi")},
		{Name: "COLOUR", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}, Key: "colour"}}},
		{Name: "NOTHING", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "settings"}, Key: "none", Optional: ptr.To(true)}}},
	}
	c.Command, c.Args = []string{"run", "$(PLAIN)"}, []string{"$$(PLAIN)", "$(UNKNOWN)", "a$", "$(", "$x"}
	src := testSources()
	src.Services = []*v1.Service{
		service("default", "db", "10.96.0.9", v1.ServicePort{Port: 5432}),
		service("default", "headless", "None", v1.ServicePort{Port: 1}),
		service("other", "cache", "10.96.0.8", v1.ServicePort{Port: 1}),
		service("default", "kubernetes", "10.96.0.1", v1.ServicePort{Name: "https", Port: 443, Protocol: v1.ProtocolTCP}),
	}
	spec, err := ResolveContainer(p, c, Main, 0, src)
	if err != nil {
		t.Fatal(err)
	}
	want := `DB_SERVICE_HOST=10.96.0.9
DB_SERVICE_PORT=5432
DB_PORT=tcp://10.96.0.9:5432
DB_PORT_5432_TCP=tcp://10.96.0.9:5432
DB_PORT_5432_TCP_PROTO=tcp
DB_PORT_5432_TCP_PORT=5432
DB_PORT_5432_TCP_ADDR=10.96.0.9
KUBERNETES_SERVICE_HOST=10.96.0.1
KUBERNETES_SERVICE_PORT=443
KUBERNETES_SERVICE_PORT_HTTPS=443
KUBERNETES_PORT=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP_PROTO=tcp
KUBERNETES_PORT_443_TCP_PORT=443
KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
CFG_colour=blue
CFG_odd key!=relaxed
CFG_size=3
password=replaced
PLAIN=x
REF=x/blue/$(PLAIN)/$(LATER)/10.96.0.9
LATER=y
NAME=web
UID=1111-2222
APP=shop
TEAM=blue
SA=robot
NODE=node-1
IPS=10.0.0.2,fd00::2
HOST=192.0.2.1
CPU_REQ=250
CPU_REQ_CORES=1
CPU_LIM=4
MEM_LIM=100
COLOUR=blue
`
	if diff := cmp.Diff(want, lines(spec.Env)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"run", "x"}, spec.Command); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"$(PLAIN)", "$(UNKNOWN)", "a$", "$(", "$x"}, spec.Args); diff != "" {
		t.Error(diff)
	}
}

func TestServiceLinksOff(t *testing.T) {
	p := newPod()
	p.Namespace = "shop"
	p.Spec.EnableServiceLinks = ptr.To(false)
	got := ServiceEnv(p, []*v1.Service{
		service("shop", "db", "10.96.0.9", v1.ServicePort{Port: 1}),
		service("default", "kubernetes", "10.96.0.1", v1.ServicePort{Port: 443}),
	})
	if len(got) == 0 || got[0] != (EnvVar{"KUBERNETES_SERVICE_HOST", "10.96.0.1"}) || strings.Contains(lines(got), "DB_") {
		t.Errorf("env: %v", got)
	}
}

// TestConfigErrors: the words are those that users know from Kubernetes.
func TestConfigErrors(t *testing.T) {
	ref := v1.LocalObjectReference{Name: "none"}
	have := v1.LocalObjectReference{Name: "settings"}
	for _, tc := range []struct {
		name   string
		change func(p *v1.Pod, c *v1.Container, src *Sources)
		want   string
	}{
		{"configmap", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: ref}}}
		}, `configmap "none" not found`},
		{"secret", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: ref, Key: "k"}}}}
		}, `secret "none" not found`},
		{"configmap key", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: have, Key: "k"}}}}
		}, `couldn't find key k in ConfigMap default/settings`},
		{"secret key", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "login"}, Key: "k"}}}}
		}, `couldn't find key k in Secret default/login`},
		{"root image", func(p *v1.Pod, _ *v1.Container, _ *Sources) {
			p.Spec.SecurityContext = &v1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}
		}, `container has runAsNonRoot and image will run as root (pod: "web_default(1111-2222)", container: web)`},
		{"named user", func(_ *v1.Pod, c *v1.Container, src *Sources) {
			c.SecurityContext = &v1.SecurityContext{RunAsNonRoot: ptr.To(true)}
			src.ImageUser = "app:staff"
		}, `container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: "web_default(1111-2222)", container: web)`},
		{"runAsUser 0", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.SecurityContext = &v1.SecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](0)}
		}, `container's runAsUser breaks non-root policy (pod: "web_default(1111-2222)", container: web)`},
		{"volume", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.VolumeMounts = []v1.VolumeMount{{Name: "lost", MountPath: "/x"}}
		}, `cannot find volume "lost" to mount into container "web"`},
		{"subPathExpr", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/x", SubPathExpr: "a/$(NOPE)"}}
		}, `subPathExpr "a/$(NOPE)" of volume "data": missing value for NOPE`},
		{"subPathExpr empty", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.Env = []v1.EnvVar{{Name: "B"}, {Name: "A"}}
			c.VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/x", SubPathExpr: "$(B)$(A)"}}
		}, `subPathExpr "$(B)$(A)" of volume "data": missing value for A, B`},
		{"recursive read-only", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/x", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyEnabled)}}
		}, `volume "data" requested recursive read-only mode, but it is not supported by the runtime`},
		{"subPath out", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.Env = []v1.EnvVar{{Name: "UP", Value: "../.."}}
			c.VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/x", SubPathExpr: "$(UP)/etc"}}
		}, `subPath "../../etc" of volume "data" must be relative and must not contain '..'`},
		{"field", func(_ *v1.Pod, c *v1.Container, _ *Sources) {
			c.Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "spec.nope"}}}}
		}, `unsupported fieldPath: spec.nope`},
		{"fqdn", func(p *v1.Pod, _ *v1.Container, _ *Sources) {
			p.Spec.Hostname, p.Spec.Subdomain, p.Spec.SetHostnameAsFQDN = strings.Repeat("h", 40), "a", ptr.To(true)
		}, `Failed to construct FQDN from Pod hostname and cluster domain, FQDN hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh.a.default.svc.cluster.local is too long (64 characters is the max, 68 characters requested)`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPod(container("web"))
			src := testSources()
			tc.change(p, &p.Spec.Containers[0], &src)
			_, err := ResolveContainer(p, &p.Spec.Containers[0], Main, 0, src)
			if err == nil || err.Error() != tc.want {
				t.Errorf("error\n%v\nwant\n%s", err, tc.want)
			}
		})
	}
}

func TestMounts(t *testing.T) {
	p := newPod(container("web"))
	p.Spec.Volumes = []v1.Volume{
		{Name: "conf", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}},
		{Name: "data", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/vol/data"}}},
	}
	c := &p.Spec.Containers[0]
	c.VolumeMounts = []v1.VolumeMount{
		{Name: "data", MountPath: "/data", SubPath: "a//b/", MountPropagation: ptr.To(v1.MountPropagationHostToContainer)},
		{Name: "conf", MountPath: "conf"},
		{Name: "data", MountPath: "/etc/hosts", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyEnabled)},
	}
	src := testSources()
	src.Hosts, src.ResolvConf, src.RecursiveReadOnly = "/files/hosts", "/files/resolv", true
	spec, err := ResolveContainer(p, c, Main, 0, src)
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{Volume: "data", HostPath: "/vol/data", OfMachine: true, SubPath: "a/b", ContainerPath: "/data", Propagation: v1.MountPropagationHostToContainer},
		{Volume: "conf", HostPath: "/vol/conf", ContainerPath: "/conf", ReadOnly: true, NodeWrites: true},
		{Volume: "data", HostPath: "/vol/data", OfMachine: true, ContainerPath: "/etc/hosts", ReadOnly: true, RecursiveReadOnly: true},
		{HostPath: "/files/resolv", ContainerPath: "/etc/resolv.conf"},
	}
	if diff := cmp.Diff(want, spec.Mounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}

	// If it is not possible, IfPossible is an ordinary read-only mount.
	c.VolumeMounts[2].RecursiveReadOnly = ptr.To(v1.RecursiveReadOnlyIfPossible)
	for _, supported := range []bool{true, false} {
		src.RecursiveReadOnly = supported
		spec, err := ResolveContainer(p, c, Main, 0, src)
		if err != nil || spec.Mounts[2].RecursiveReadOnly != supported || !spec.Mounts[2].ReadOnly {
			t.Errorf("supported=%v: mount %+v, %v", supported, spec.Mounts[2], err)
		}
	}
	if !AsksRecursiveReadOnly(p) || AsksRecursiveReadOnly(newPod(container("web"))) {
		t.Error("AsksRecursiveReadOnly does not see what the mounts ask for")
	}
}

func TestEphemeralTarget(t *testing.T) {
	p := newPod(container("web"))
	p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Name: "debug", Image: "i"}, TargetContainerName: "web"}}
	for name, want := range map[string]string{"debug": "web", "web": ""} {
		c, kind, _ := FindContainer(p, name)
		spec, err := ResolveContainer(p, c, kind, 0, testSources())
		if err != nil || spec.TargetContainer != want {
			t.Errorf("%s joins %q, want %q: %v", name, spec.TargetContainer, want, err)
		}
	}
}

func TestHostname(t *testing.T) {
	for _, tc := range []struct {
		name         string
		change       func(p *v1.Pod)
		want, domain string
	}{
		{"pod's name", func(*v1.Pod) {}, "web", ""},
		{"long name", func(p *v1.Pod) { p.Name = strings.Repeat("a", 62) + "-bcd" }, strings.Repeat("a", 62), ""},
		{"own", func(p *v1.Pod) { p.Spec.Hostname = "db" }, "db", ""},
		{"subdomain", func(p *v1.Pod) { p.Spec.Subdomain = "peers" }, "web", "peers.default.svc.cluster.local"},
		{"fqdn", func(p *v1.Pod) { p.Spec.Subdomain, p.Spec.SetHostnameAsFQDN = "peers", ptr.To(true) }, "web.peers.default.svc.cluster.local", "peers.default.svc.cluster.local"},
		{"host network", func(p *v1.Pod) { p.Spec.HostNetwork = true }, "node-1", ""},
		{"override", func(p *v1.Pod) { p.Spec.HostnameOverride = ptr.To("over.ride") }, "over.ride", ""},
	} {
		p := newPod()
		tc.change(p)
		got, domain, err := Hostname(p, "node-1", "cluster.local")
		if err != nil || got != tc.want || domain != tc.domain {
			t.Errorf("%s: %q %q %v, want %q %q", tc.name, got, domain, err, tc.want, tc.domain)
		}
	}
}

func TestSecurityIsMerged(t *testing.T) {
	p := newPod(container("web"))
	p.Spec.SecurityContext = &v1.PodSecurityContext{
		RunAsUser: ptr.To[int64](1), RunAsGroup: ptr.To[int64](2), RunAsNonRoot: ptr.To(true), FSGroup: ptr.To[int64](3),
		SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault},
	}
	p.Spec.Containers[0].SecurityContext = &v1.SecurityContext{RunAsUser: ptr.To[int64](9), Privileged: ptr.To(true)}
	spec, err := ResolveContainer(p, &p.Spec.Containers[0], Main, 0, testSources())
	if err != nil {
		t.Fatal(err)
	}
	want := &v1.SecurityContext{
		RunAsUser: ptr.To[int64](9), RunAsGroup: ptr.To[int64](2), RunAsNonRoot: ptr.To(true), Privileged: ptr.To(true),
		SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault},
	}
	if diff := cmp.Diff(want, spec.Security); diff != "" {
		t.Errorf("security (-want +got):\n%s", diff)
	}
	spec.Security.SeccompProfile.Type = "changed"
	if p.Spec.SecurityContext.SeccompProfile.Type == "changed" {
		t.Error("the result shares memory with the pod")
	}
}

func TestQOSAndOOMScore(t *testing.T) {
	const memory = 4 << 30
	list := func(cpu, mem string) v1.ResourceList {
		l := v1.ResourceList{}
		if cpu != "" {
			l[v1.ResourceCPU] = resource.MustParse(cpu)
		}
		if mem != "" {
			l[v1.ResourceMemory] = resource.MustParse(mem)
		}
		return l
	}
	for _, tc := range []struct {
		name             string
		requests, limits v1.ResourceList
		change           func(p *v1.Pod)
		qos              v1.PodQOSClass
		score            int
	}{
		{"nothing", nil, nil, nil, v1.PodQOSBestEffort, 1000},
		{"guaranteed", list("1", "1Gi"), list("1", "1Gi"), nil, v1.PodQOSGuaranteed, -997},
		{"limits alone", nil, list("1", "1Gi"), nil, v1.PodQOSGuaranteed, -997},
		{"only memory limited", list("", "1Gi"), list("", "1Gi"), nil, v1.PodQOSBurstable, 750},
		{"less than its limit", list("1", "2Gi"), list("1", "3Gi"), nil, v1.PodQOSBurstable, 500},
		{"more than there is", list("", "8Gi"), nil, nil, v1.PodQOSBurstable, 3},
		{"next to nothing", list("1m", "1"), nil, nil, v1.PodQOSBurstable, 999},
		{"critical", list("1m", "1"), nil, func(p *v1.Pod) { p.Spec.Priority = ptr.To[int32](2000001000) }, v1.PodQOSBurstable, -997},
		{"beside one without", list("1", "1Gi"), list("1", "1Gi"), func(p *v1.Pod) { p.Spec.Containers = append(p.Spec.Containers, container("b")) }, v1.PodQOSBurstable, 750},
	} {
		c := container("web")
		c.Resources = v1.ResourceRequirements{Requests: tc.requests, Limits: tc.limits}
		p := newPod(c)
		if tc.change != nil {
			tc.change(p)
		}
		if got := QOSClass(p); got != tc.qos {
			t.Errorf("%s: class %s, want %s", tc.name, got, tc.qos)
		}
		if got := OOMScoreAdj(p, &c, memory); got != tc.score {
			t.Errorf("%s: score %d, want %d", tc.name, got, tc.score)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "$", "$$", "$(A)", "$$(A)", "$(A", "$()", "$(B)$(A)$", "a$(A)b$$$(A)"} {
		f.Add(s)
	}
	lookup := func(name string) (string, bool) { return "<" + name + ">", name == "A" }
	f.Fuzz(func(t *testing.T, s string) {
		got := Expand(s, lookup)
		if !strings.Contains(s, "$") && got != s {
			t.Errorf("Expand(%q) = %q", s, got)
		}
		if n := strings.Count(s, "$(A)"); strings.Count(got, "<A>") > n+strings.Count(s, "<A>") {
			t.Errorf("Expand(%q) = %q has more values than references", s, got)
		}
		if quoted := Expand(strings.ReplaceAll(s, "$", "$$"), lookup); quoted != s {
			t.Errorf("doubled dollars of %q give %q", s, quoted)
		}
	})
}

func FuzzDecodeFacts(f *testing.F) {
	b, err := Facts{Name: "web", Finished: v1.PodFailed, Containers: map[string]ContainerFacts{"a": {Next: 3, Restart: &Restart{Attempt: 2}}}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"v":9,"new":true,"c":{"a":{"next":-1}}}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		facts, err := DecodeFacts(raw)
		if err != nil {
			return
		}
		again, err := facts.Encode()
		if err != nil {
			t.Fatalf("facts that were read cannot be written: %v", err)
		}
		if _, err := DecodeFacts(again); err != nil {
			t.Fatalf("facts that were written cannot be read: %v", err)
		}
		// Whatever a store gives back, Plan must make something of it.
		p := newPod(container("a"))
		Plan(Desired{Pod: p}, Observed{Facts: facts}, epoch)
		p.DeletionTimestamp = &metav1.Time{Time: epoch}
		Plan(Desired{Pod: p}, Observed{Facts: facts, Containers: []Container{{ID: "x", Name: "a", State: Running}}}, epoch)
	})
}

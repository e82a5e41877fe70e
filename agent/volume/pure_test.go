package volume

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update to accept):\n%s", path, diff)
	}
}

func TestHosts(t *testing.T) {
	aliases := []v1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"foo", "bar"}}, {IP: "::5", Hostnames: []string{"six"}}}
	golden(t, "hosts-plain", hostsText([]string{"10.244.0.5"}, "web", "", nil))
	golden(t, "hosts-subdomain", hostsText([]string{"10.244.0.5", "fd00::5"}, "web", "svc.ns.svc.cluster.local", aliases))
	golden(t, "hosts-fqdn", hostsText([]string{"10.244.0.5"}, "web.svc.ns.svc.cluster.local", "svc.ns.svc.cluster.local", nil))
	golden(t, "hosts-hostnetwork", hostNetworkHostsText("127.0.0.1 localhost\n192.0.2.1 machine\n", aliases))
}

func TestResolv(t *testing.T) {
	machine := parseResolv("; comment\nnameserver 192.0.2.1\nnameserver 192.0.2.2 # inline\nsearch old.example\nsearch example.org sub.example.org. .\noptions timeout:2 rotate\noptions timeout:3\nsortlist 1.2.3.4\n")
	cluster := []string{"10.96.0.10"}
	pod := func(policy v1.DNSPolicy, change func(*v1.Pod)) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: v1.PodSpec{DNSPolicy: policy}}
		if change != nil {
			change(p)
		}
		return p
	}
	hostNetwork := func(p *v1.Pod) { p.Spec.HostNetwork = true }
	config := func(p *v1.Pod) {
		p.Spec.DNSConfig = &v1.PodDNSConfig{
			Nameservers: []string{"9.9.9.9", "10.96.0.10"}, Searches: []string{"own.example", "svc.cluster.local"},
			Options: []v1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "edns0"}},
		}
	}
	for name, tc := range map[string]struct {
		pod      *v1.Pod
		cluster  []string
		warnings int
	}{
		"clusterfirst":             {pod(v1.DNSClusterFirst, nil), cluster, 0},
		"default":                  {pod(v1.DNSDefault, nil), cluster, 0},
		"clusterfirst-hostnetwork": {pod(v1.DNSClusterFirst, hostNetwork), cluster, 0},
		"withhostnet":              {pod(v1.DNSClusterFirstWithHostNet, hostNetwork), cluster, 0},
		"none":                     {pod(v1.DNSNone, config), cluster, 0},
		"config":                   {pod(v1.DNSClusterFirst, config), cluster, 0},
		"no-cluster-dns":           {pod(v1.DNSClusterFirst, nil), nil, 1},
		"unset":                    {pod("", nil), cluster, 0},
		"too-many": {pod(v1.DNSNone, func(p *v1.Pod) {
			p.Spec.DNSConfig = &v1.PodDNSConfig{Nameservers: []string{"1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"}}
			for i := range 40 {
				p.Spec.DNSConfig.Searches = append(p.Spec.DNSConfig.Searches, strings.Repeat("x", i+1)+".example")
			}
		}), cluster, 2},
		"too-long": {pod(v1.DNSNone, func(p *v1.Pod) {
			p.Spec.DNSConfig = &v1.PodDNSConfig{Searches: []string{strings.Repeat("y", 254), "short.example"}}
		}), cluster, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dns, warnings := podDNS(tc.pod, machine, tc.cluster, "cluster.local")
			if len(warnings) != tc.warnings {
				t.Errorf("warnings %v", warnings)
			}
			golden(t, "resolv-"+name, dns.text())
		})
	}
	if !parseResolv("nameserver 127.0.0.53\n").onlyLoopback() || machine.onlyLoopback() || parseResolv("").onlyLoopback() {
		t.Error("a stub resolver is told wrongly")
	}
}

func TestDownward(t *testing.T) {
	pod := podWith()
	pod.Annotations = map[string]string{"x/y": "line\nbreak"}
	pod.Spec.Containers = []v1.Container{
		{Name: "c", Resources: v1.ResourceRequirements{
			Limits:   v1.ResourceList{v1.ResourceCPU: resource.MustParse("1500m"), v1.ResourceMemory: resource.MustParse("100Mi")},
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse("250m")},
		}},
		{Name: "free"},
	}
	alloc := v1.ResourceList{v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("8Gi")}
	field := func(path string) v1.DownwardAPIVolumeFile {
		return v1.DownwardAPIVolumeFile{Path: "f", FieldRef: &v1.ObjectFieldSelector{FieldPath: path}}
	}
	res := func(container, name, divisor string) v1.DownwardAPIVolumeFile {
		r := &v1.ResourceFieldSelector{ContainerName: container, Resource: name}
		if divisor != "" {
			r.Divisor = resource.MustParse(divisor)
		}
		return v1.DownwardAPIVolumeFile{Path: "f", ResourceFieldRef: r}
	}
	for want, item := range map[string]v1.DownwardAPIVolumeFile{
		"web":                                  field("metadata.name"),
		"ns":                                   field("metadata.namespace"),
		"11111111-2222-3333-4444-555555555555": field("metadata.uid"),
		"a=\"say \\\"hi\\\"\"\nb=\"two\"":      field("metadata.labels"),
		"two":                                  field("metadata.labels['b']"),
		"":                                     field("metadata.labels['none']"),
		`x/y="line\nbreak"`:                    field("metadata.annotations"),
		"line\nbreak":                          field("metadata.annotations['x/y']"),
		"2":                                    res("c", "limits.cpu", ""),
		"1500":                                 res("c", "limits.cpu", "1m"),
		"250":                                  res("c", "requests.cpu", "1m"),
		"100":                                  res("c", "limits.memory", "1Mi"),
		"104857600":                            res("c", "requests.memory", ""), // a request defaults to its limit
		"4":                                    res("free", "limits.cpu", ""),
		"8":                                    res("free", "limits.memory", "1Gi"),
		"0":                                    res("free", "requests.memory", ""),
	} {
		p, err := downwardPayload(pod, []v1.DownwardAPIVolumeFile{item}, 0o644, alloc)
		if err != nil || string(p["f"].Data) != want {
			t.Errorf("%+v: %q %v, want %q", item, p["f"].Data, err, want)
		}
	}
	for _, bad := range []v1.DownwardAPIVolumeFile{field("status.podIP"), field("metadata.labels['x"), res("absent", "limits.cpu", ""), res("c", "limits.gpu", ""), res("c", "cpu", ""), {Path: "f"}} {
		if p, err := downwardPayload(pod, []v1.DownwardAPIVolumeFile{bad}, 0o644, alloc); err == nil {
			t.Errorf("%+v gave %v", bad, p)
		}
	}
}

func TestPayloadPaths(t *testing.T) {
	for path, ok := range map[string]bool{
		"a": true, "a/b": true, "a//b": true, "./a": true, "a.b": true, "a..b": true,
		"": false, ".": false, "/a": false, "..": false, "../a": false, "a/../../b": false, "..data": false, "..x/y": false,
		strings.Repeat("x", 300): false, "a\x00b": false, strings.Repeat("a/", 3000): false,
	} {
		p := Payload{}
		if err := p.put(path, File{}); (err == nil) != ok {
			t.Errorf("put(%.20q): %v", path, err)
		}
	}
	if err := (Payload{"a": {}, "a/b": {}}).conflict(); err == nil {
		t.Error("a file that is a folder too was taken")
	}
	if err := (Payload{"a/b": {}, "a/c": {}}).conflict(); err != nil {
		t.Error(err)
	}
}

func TestMemorySize(t *testing.T) {
	limit := func(s string) v1.ResourceRequirements {
		return v1.ResourceRequirements{Limits: v1.ResourceList{v1.ResourceMemory: resource.MustParse(s)}}
	}
	alloc := v1.ResourceList{v1.ResourceMemory: resource.MustParse("8Gi")}
	q := resource.MustParse("3Mi")
	two := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Resources: limit("1Mi")}, {Resources: limit("1Mi")}}, InitContainers: []v1.Container{{Resources: limit("5Mi")}}}}
	open := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Resources: limit("1Mi")}, {}}}}
	always := v1.ContainerRestartPolicyAlways
	sidecar := &v1.Pod{Spec: v1.PodSpec{
		Containers:     []v1.Container{{Resources: limit("1Mi")}},
		InitContainers: []v1.Container{{Resources: limit("2Mi"), RestartPolicy: &always}, {Resources: limit("4Mi")}, {Resources: limit("6Mi"), RestartPolicy: &always}},
		Overhead:       v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Mi")},
	}}
	for name, tc := range map[string]struct {
		got, want int64
	}{
		"sidecars and overhead":                    {memorySize(sidecar, nil, alloc), 10 << 20},
		"containers together, or the largest init": {memorySize(two, nil, alloc), 5 << 20},
		"the volume's own limit":                   {memorySize(two, &q, alloc), 3 << 20},
		"one container without":                    {memorySize(open, nil, alloc), 8 << 30},
		"nothing known":                            {memorySize(open, nil, nil), 0},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %d, want %d", name, tc.got, tc.want)
		}
	}
}

func TestTokenDue(t *testing.T) {
	issued := time.Unix(1_700_000_000, 0)
	for life, want := range map[time.Duration]time.Duration{
		10 * time.Minute: 8 * time.Minute, time.Hour: 48 * time.Minute, 365 * 24 * time.Hour: 24 * time.Hour,
	} {
		due, ok := parseToken(jwt(issued, issued.Add(life), 0)).due()
		if !ok || due.Sub(issued) != want {
			t.Errorf("life %s: due after %s %v, want %s", life, due.Sub(issued), ok, want)
		}
	}
	for _, bad := range []string{"", "opaque", "a.b.c", "e30.e30.x", jwt(issued, issued, 0), jwt(time.Unix(-5, 0), issued, 0)} {
		if _, ok := parseToken(bad).due(); ok {
			t.Errorf("%q has a due time", bad)
		}
	}
}

func TestSourceName(t *testing.T) {
	for want, src := range map[string]v1.VolumeSource{
		"nfs": {NFS: &v1.NFSVolumeSource{}}, "csi": {CSI: &v1.CSIVolumeSource{}}, "image": {Image: &v1.ImageVolumeSource{}}, "no source is given": {},
	} {
		if got := sourceName(&v1.Volume{VolumeSource: src}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(jwt(time.Unix(1, 0), time.Unix(5000, 0), 1))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, s string) {
		due, ok := parseToken(s).due()
		if ok && due.Before(parseToken(s).issued) {
			t.Errorf("due %v before it was issued", due)
		}
	})
}

func FuzzParseResolv(f *testing.F) {
	f.Add("nameserver 1.1.1.1\nsearch a b\noptions ndots:5\n")
	f.Fuzz(func(t *testing.T, s string) {
		// What was read and written is read the same again.
		d := parseResolv(s)
		again := parseResolv(d.text())
		if len(again.Servers) != len(d.Servers) || len(again.Options) != len(d.Options) {
			t.Errorf("%+v became %+v", d, again)
		}
	})
}

func FuzzPayloadPut(f *testing.F) {
	f.Add("a/../b")
	f.Fuzz(func(t *testing.T, s string) {
		p := Payload{}
		if p.put(s, File{}) != nil {
			return
		}
		for name := range p {
			if !filepath.IsLocal(name) || strings.HasPrefix(name, "..") {
				t.Errorf("%q was taken as %q", s, name)
			}
		}
	})
}

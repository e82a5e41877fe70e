package cni

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
)

func TestOwnConflist(t *testing.T) {
	got, err := Own{File: "f", Bridge: "br9", MTU: 1450, PodCIDRs: []string{"10.244.7.9/24", "fd00:7::/64"}}.conflist("/run/x/cni")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "cniVersion": "1.0.0",
  "name": "coracle",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "br9",
      "isDefaultGateway": true,
      "forceAddress": true,
      "hairpinMode": true,
      "mtu": 1450,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/x/cni",
        "ranges": [
          [
            {
              "subnet": "10.244.7.0/24"
            }
          ],
          [
            {
              "subnet": "fd00:7::/64"
            }
          ]
        ]
      }
    },
    {
      "type": "portmap",
      "snat": true,
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	for _, bad := range [][]string{nil, {"10.0.0.0"}, {""}} {
		if _, err := (Own{File: "f", Bridge: "b", PodCIDRs: bad}).conflist("/x"); err == nil {
			t.Errorf("pod CIDRs %q were taken", bad)
		}
	}
}

func TestNeeded(t *testing.T) {
	list, err := parseList([]byte(`{"name":"n","cniVersion":"1.0.0","plugins":[
		{"type":"bridge"},
		{"type":"portmap","capabilities":{"portMappings":true}},
		{"type":"bandwidth","capabilities":{"bandwidth":true}},
		{"type":"bandwidth","capabilities":{"bandwidth":true},"ingressRate":1000},
		{"type":"firewall"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	types := func(caps map[string]any) string {
		var out []string
		for _, p := range needed(list, caps).Plugins {
			out = append(out, p.Network.Type)
		}
		return strings.Join(out, " ")
	}
	for want, caps := range map[string]map[string]any{
		"bridge bandwidth firewall":                   nil,
		"bridge portmap bandwidth firewall":           {"portMappings": 1},
		"bridge bandwidth bandwidth firewall":         {"bandwidth": 1},
		"bridge portmap bandwidth bandwidth firewall": {"portMappings": 1, "bandwidth": 1},
	} {
		if got := types(caps); got != want {
			t.Errorf("%v: %s, want %s", caps, got, want)
		}
	}
	if len(list.Plugins) != 5 {
		t.Error("the list itself was changed")
	}
	// A list of which nothing would be left runs as it is.
	alone, err := parseList([]byte(`{"name":"n","plugins":[{"type":"portmap","capabilities":{"portMappings":true}}]}`))
	if err != nil || len(needed(alone, nil).Plugins) != 1 {
		t.Errorf("%v", err)
	}
}

func TestCapabilities(t *testing.T) {
	got := capabilities(Attachment{
		Ports: []v1.ContainerPort{
			{ContainerPort: 80},
			{ContainerPort: 80, HostPort: 8080},
			{ContainerPort: 53, HostPort: 53, Protocol: v1.ProtocolUDP, HostIP: "127.0.0.1"},
		},
		Annotations: map[string]string{"kubernetes.io/ingress-bandwidth": "1M", "kubernetes.io/egress-bandwidth": "fast"},
	})
	want := map[string]any{
		"portMappings": []PortMapping{
			{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
			{HostPort: 53, ContainerPort: 53, Protocol: "udp", HostIP: "127.0.0.1"},
		},
		"bandwidth": map[string]int64{"ingressRate": 1000000, "ingressBurst": 1<<31 - 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := capabilities(Attachment{Ports: []v1.ContainerPort{{ContainerPort: 80}}}); got != nil {
		t.Errorf("%v of a pod that wants nothing", got)
	}
}

func TestWhichConflist(t *testing.T) {
	dir := t.TempDir()
	c, err := New(Config{ConfDir: filepath.Join(dir, "net.d"), BinDirs: []string{dir}, CacheDir: filepath.Join(dir, "cache"), RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(); !errors.Is(err, ErrNotReady) {
		t.Errorf("without a folder: %v", err)
	}
	put := func(name, content string) { mustWrite(t, filepath.Join(dir, "net.d", name), content, 0o600) }
	put("99-last.conflist", `{"name":"last","cniVersion":"1.0.0","plugins":[{"type":"p"}]}`)
	put("README", "not one")
	put("50-single.conf", `{"name":"single","cniVersion":"0.4.0","type":"p","ipam":{"type":"q"}}`)
	if got := c.Network(); got != "single" {
		t.Errorf("network %q, want the lexically first", got)
	}
	if err := c.Ready(); err == nil || !strings.Contains(err.Error(), `"p"`) || !strings.Contains(err.Error(), `"q"`) {
		t.Errorf("missing plugins are not named: %v", err)
	}
	mustWrite(t, filepath.Join(dir, "p"), "", 0o700)
	mustWrite(t, filepath.Join(dir, "q"), "", 0o700)
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
	// A broken file stops rather than letting the next one win.
	put("10-broken.conflist", `{"name":`)
	if err := c.Ready(); err == nil || !strings.Contains(err.Error(), "10-broken.conflist") {
		t.Errorf("a broken file: %v", err)
	}
	for _, bad := range []string{`{"name":"../x","plugins":[{"type":"p"}]}`, `{"name":"n","plugins":[]}`, `{"name":"n"}`, `{"plugins":[{"type":"p"}]}`} {
		put("10-broken.conflist", bad)
		if err := c.Ready(); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if err := os.Remove(filepath.Join(dir, "net.d/10-broken.conflist")); err != nil {
		t.Fatal(err)
	}
	// Plugins in files of their own, CNI 1.1.0: what is recorded holds them all.
	put("05-split.conflist", `{"name":"split","cniVersion":"1.0.0","plugins":[{"type":"p"}]}`)
	mustWrite(t, filepath.Join(dir, "net.d/split/10-q.conf"), `{"type":"q"}`, 0o600)
	list, err := c.network()
	if err != nil || len(list.Plugins) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	again, err := parseList(list.Bytes)
	if err != nil || len(again.Plugins) != 2 {
		t.Errorf("recorded: %+v %v", again, err)
	}
}

// The agent's own file gives way to an administrator's and follows the pod CIDR.
func TestSetOwn(t *testing.T) {
	dir := t.TempDir()
	c, err := New(Config{ConfDir: filepath.Join(dir, "net.d"), BinDirs: []string{dir}, CacheDir: filepath.Join(dir, "cache"), RunDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "net.d/90-own.conflist")
	set := func(cidr string) string {
		t.Helper()
		if err := c.SetOwn(Own{File: "90-own.conflist", Bridge: "b", PodCIDRs: []string{cidr}}); err != nil {
			t.Fatal(err)
		}
		data, _ := os.ReadFile(path)
		return string(data)
	}
	if got := set("10.1.0.0/24"); !strings.Contains(got, "10.1.0.0/24") {
		t.Errorf("wrote %s", got)
	}
	if got := set("10.2.0.0/24"); !strings.Contains(got, "10.2.0.0/24") {
		t.Errorf("wrote %s", got)
	}
	mustWrite(t, filepath.Join(dir, "net.d/10-theirs.conflist"), `{"name":"theirs","plugins":[{"type":"p"}]}`, 0o600)
	if got := set("10.3.0.0/24"); !strings.Contains(got, "10.2.0.0/24") || c.Network() != "theirs" {
		t.Errorf("wrote beside the administrator's: %s", got)
	}
	for range 2 {
		if err := c.RemoveOwn(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	good, err := json.Marshal(record{UID: "u", Netns: "/run/x", Conflist: json.RawMessage(`{"name":"n","cniVersion":"1.0.0","plugins":[{"type":"bridge"}]}`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		// Whatever is taken can be acted upon: it names a network, a namespace and a file of ours.
		list, err := parseList(r.Conflist)
		if err != nil || list.Name == "" || !filepath.IsAbs(r.Netns) {
			t.Errorf("%+v %v", r, err)
		}
		c := &CNI{cfg: Config{CacheDir: "/cache"}}
		if filepath.Dir(c.recordPath(r.UID)) != "/cache/attachments" {
			t.Errorf("uid %q is kept at %s", r.UID, c.recordPath(r.UID))
		}
	})
}

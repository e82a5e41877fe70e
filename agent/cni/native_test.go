package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/link"
)

// The agent's own network without its programs: what a pod gets, and that the plugins can check and undo it.
func TestNativeADD(t *testing.T) {
	needNode(t)
	ctx, dir := t.Context(), t.TempDir()
	c := newCNI(t, dir, "ct20")
	err := c.SetOwn(Own{File: "90-coracle.conflist", Bridge: "ct20", MTU: 1400, PodCIDRs: []string{"10.99.20.0/24", "fd99:20::/64"}})
	if err != nil {
		t.Fatal(err)
	}
	netns := filepath.Join(dir, "netns")
	newNetns(t, netns)
	got, err := c.Attach(ctx, Attachment{UID: "uid-20", Namespace: "default", Name: "web", NetnsPath: netns})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"10.99.20.2", "fd99:20::2"}; !slices.Equal(got.IPs, want) {
		t.Errorf("addresses %v, want %v", got.IPs, want)
	}
	links, err := link.LinksIn(netns)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(links, func(l link.Link) bool { return l.Name == Interface })
	if i < 0 || links[i].MAC != "0a:58:0a:63:14:02" || links[i].MTU != 1400 || !links[i].Up {
		t.Fatalf("links in the pod: %+v", links)
	}
	for _, address := range got.IPs { // nobody listens, and that it says so shows the way there and back
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "9"), 10*time.Second)
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("dial %s: %v %v, want a refusal", address, conn, err)
		}
	}
	if err := c.Check(ctx, "uid-20"); err != nil {
		t.Errorf("check by the plugins: %v", err)
	}
	if err := c.Detach(ctx, "uid-20", "default", "web", netns); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c, dir)
	// The next pod gets the next address.
	if got, err = c.Attach(ctx, Attachment{UID: "uid-21", Namespace: "default", Name: "db", NetnsPath: netns}); err != nil || got.IPs[0] != "10.99.20.3" {
		t.Errorf("second pod: %v %v", got, err)
	}
	for family, want := range map[string]string{"-4": "default via 10.99.20.1", "-6": "default via fd99:20::1"} {
		if routes := run(t, "nsenter", "--net="+netns, "ip", family, "route"); !strings.Contains(routes, want) {
			t.Errorf("routes: %s", routes)
		}
	}
	if err := c.GC(ctx, nil); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c, dir)
}

// What the agent has not written itself goes to the plugins.
func TestNativeConf(t *testing.T) {
	c := &CNI{cfg: Config{RunDir: "/run/x"}}
	stdin := func(change func(map[string]any)) []byte {
		data, err := (Own{Bridge: "b0", PodCIDRs: []string{"10.1.0.0/24"}}).conflist(c.leaseDir())
		if err != nil {
			t.Fatal(err)
		}
		var list struct {
			Plugins []map[string]any `json:"plugins"`
		}
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		conf := list.Plugins[0]
		conf["cniVersion"], conf["name"] = "1.0.0", NetworkName
		change(conf)
		data, err = json.Marshal(conf)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if _, ok := c.nativeConf(stdin(func(map[string]any) {})); !ok {
		t.Error("the agent's own configuration is not known again")
	}
	for name, change := range map[string]func(map[string]any){
		"another network":       func(m map[string]any) { m["name"] = "theirs" },
		"another version":       func(m map[string]any) { m["cniVersion"] = "0.4.0" },
		"plugin's masquerading": func(m map[string]any) { m["ipMasq"] = true },
		"a field of an admin":   func(m map[string]any) { m["vlan"] = 7 },
		"another lease folder":  func(m map[string]any) { m["ipam"].(map[string]any)["dataDir"] = "/var/lib/cni" },
		"another IPAM":          func(m map[string]any) { m["ipam"].(map[string]any)["type"] = "dhcp" },
		"no IPAM":               func(m map[string]any) { delete(m, "ipam") },
		"no gateway":            func(m map[string]any) { delete(m, "isDefaultGateway") },
		"an earlier plugin's":   func(m map[string]any) { m["prevResult"] = map[string]any{} },
		"two ranges in one set": func(m map[string]any) {
			m["ipam"].(map[string]any)["ranges"] = [][]ownRange{{{"10.1.0.0/24"}, {"10.2.0.0/24"}}}
		},
		"no bridge": func(m map[string]any) { delete(m, "bridge") },
	} {
		if _, ok := c.nativeConf(stdin(change)); ok {
			t.Errorf("%s: taken for the agent's own", name)
		}
	}
}

func TestLeases(t *testing.T) {
	small := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/29")} // .1 is the gateway's, .2 to .6 are for pods
	l := leases{filepath.Join(t.TempDir(), "coracle")}
	take := func(uid string) string {
		t.Helper()
		got, err := l.take(types.UID(uid), small)
		if err != nil {
			return err.Error()
		}
		return got[0].String()
	}
	for i, want := range []string{"10.0.0.2/29", "10.0.0.3/29", "10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29", "no address of 10.0.0.0/29 is free"} {
		if got := take(fmt.Sprint("pod-", i)); got != want {
			t.Errorf("pod %d: %s, want %s", i, got, want)
		}
	}
	if data, err := os.ReadFile(filepath.Join(l.dir, "10.0.0.4")); err != nil || string(data) != "pod-2\r\neth0" {
		t.Errorf("lease %q %v", data, err)
	}
	// Freed by the plugin: round robin goes on behind the last one given out.
	for _, a := range []string{"10.0.0.3", "10.0.0.6"} {
		if err := os.Remove(filepath.Join(l.dir, a)); err != nil {
			t.Fatal(err)
		}
	}
	if got := take("pod-6"); got != "10.0.0.3/29" {
		t.Errorf("after the last comes the first that is free: %s", got)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "last_reserved_ip.0"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := take("pod-7"); got != "10.0.0.6/29" {
		t.Errorf("with a damaged mark: %s", got)
	}
}

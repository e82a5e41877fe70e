// Package doors holds the test of the import rules: which package may open which door to the outside world.
package doors

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rule forbids imports that match any of the prefixes, outside the packages named.
type rule struct {
	prefixes []string
	// only lists package paths below the module (and their sub-packages) that may import them.
	only []string
	// program lists package paths that may import them, without their sub-packages.
	program []string
	// in limits the rule to packages below these; empty: the whole module.
	in     []string
	reason string
}

var rules = []rule{
	{prefixes: []string{"github.com/containerd/containerd"}, only: []string{"agent/runtime", "agent/image"},
		reason: "containerd is reached through agent/runtime and agent/image alone"},
	{prefixes: []string{"github.com/containernetworking/"}, only: []string{"agent/cni"},
		reason: "CNI is spoken in agent/cni alone"},
	{prefixes: []string{"github.com/container-storage-interface/"}, only: []string{"agent/csi"},
		reason: "CSI is spoken in agent/csi alone"},
	{prefixes: []string{"github.com/vishvananda/netlink", "github.com/vishvananda/netns"}, only: []string{"agent/link"},
		reason: "links, addresses and routes are changed in agent/link alone"},
	{prefixes: []string{"github.com/google/nftables", "github.com/coreos/go-iptables", "sigs.k8s.io/knftables"}, only: []string{"agent/proxy"},
		reason: "firewall rules are written in agent/proxy alone"},
	{prefixes: []string{"go.etcd.io/bbolt"}, only: []string{"agent/store"},
		reason: "the agent's durable state is behind agent/store"},
	{prefixes: []string{"go.etcd.io/etcd/"}, only: []string{"controlplane/etcd"},
		reason: "only the API server's storage talks to etcd, set up in controlplane/etcd"},
	{prefixes: []string{"k8s.io/client-go", "k8s.io/apiserver", "k8s.io/kubectl"}, in: []string{"agent"},
		reason: "the agent talks to the gateway, not to the API: client-go and the server libraries cost it its size"},
	{prefixes: []string{"k8s.io/kubernetes"}, reason: "k8s.io/kubernetes is not a library"},
	{prefixes: []string{"coracle/controlplane"}, in: []string{"agent", "internal", "proto"},
		reason: "the two programs share internal/ and proto/, nothing else"},
	{prefixes: []string{"coracle/agent"}, in: []string{"controlplane", "internal", "proto"},
		reason: "the two programs share internal/ and proto/, nothing else"},
	{prefixes: []string{"coracle/controlplane/server"}, only: []string{"controlplane/server"}, program: []string{"controlplane"},
		reason: "server is the assembly: it knows all others and none knows it"},
	{prefixes: []string{"coracle/agent/node"}, only: []string{"agent/node"}, program: []string{"agent"},
		reason: "node is the assembly: it knows all others and none knows it"},
	{prefixes: []string{"github.com/google/go-containerregistry", "coracle/internal/testimage"}, only: []string{"internal/testimage", "scripts", "integration"},
		reason: "images are built for the demo and the tests alone"},
}

// plain packages lie below an impure path, and hold values alone.
var plain = []string{"net/netip"}

// pure packages decide: no clock, context, goroutine or logger, and no import beyond plain values.
var pure = []string{
	"agent/pod", "controlplane/api/core", "controlplane/api/apps", "controlplane/api/rbac",
	"controlplane/api/discovery", "controlplane/api/coordination", "controlplane/api/events", "controlplane/api/authentication",
	"controlplane/api/authorization", "controlplane/api/policy", "controlplane/api/scheduling", "controlplane/api/node",
}

var impure = []string{
	"context", "log", "log/slog", "net", "os", "os/exec", "sync", "syscall",
	"golang.org/x/sys", "google.golang.org/grpc", "k8s.io/client-go", "k8s.io/apiserver", "k8s.io/klog",
}

func TestImportRules(t *testing.T) {
	files := moduleImports(t)
	if len(files) < 20 {
		t.Fatalf("found only %d Go files: the walk does not see the module", len(files))
	}
	for file, imports := range files {
		pkg := path.Dir(file)
		if strings.HasSuffix(file, "_test.go") {
			continue // a test may open any door: it is how doors are tested
		}
		for _, imported := range imports {
			for _, r := range rules {
				if r.forbids(pkg, imported) {
					t.Errorf("%s imports %s: %s", file, imported, r.reason)
				}
			}
			if below(pkg, pure) && matches(imported, impure) && !slices.Contains(plain, imported) {
				t.Errorf("%s imports %s: %s is pure (decides over plain values; time comes in as an argument)", file, imported, pkg)
			}
		}
	}
}

func TestRuleForbids(t *testing.T) {
	assembly := rule{prefixes: []string{"coracle/agent/node"}, program: []string{"agent"}}
	if assembly.forbids("agent", "coracle/agent/node") || !assembly.forbids("agent/pod", "coracle/agent/node") {
		t.Error("the assembly must be open to the program itself and closed to its parts")
	}
	door := rule{prefixes: []string{"go.etcd.io/bbolt"}, only: []string{"agent/store"}}
	for _, c := range []struct {
		pkg, imported string
		want          bool
	}{
		{"agent/store", "go.etcd.io/bbolt", false},
		{"agent/store/record", "go.etcd.io/bbolt", false},
		{"agent/storefront", "go.etcd.io/bbolt", true},
		{"agent/podrun", "go.etcd.io/bbolt/errors", true},
		{"agent/podrun", "go.etcd.io/bboltx", false},
	} {
		if got := door.forbids(c.pkg, c.imported); got != c.want {
			t.Errorf("%s importing %s: forbidden %v, want %v", c.pkg, c.imported, got, c.want)
		}
	}
}

func (r rule) forbids(pkg, imported string) bool {
	if !matches(imported, r.prefixes) || below(pkg, r.only) || slices.Contains(r.program, pkg) {
		return false
	}
	return len(r.in) == 0 || below(pkg, r.in)
}

func below(pkg string, parents []string) bool {
	for _, p := range parents {
		if pkg == p || strings.HasPrefix(pkg, p+"/") {
			return true
		}
	}
	return false
}

func matches(imported string, prefixes []string) bool {
	for _, p := range prefixes {
		if imported == p || strings.HasPrefix(imported, strings.TrimSuffix(p, "/")+"/") {
			return true
		}
	}
	return false
}

// moduleImports maps each Go file of the module, by its path below the root, to what it imports.
func moduleImports(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() && (rel == ".git" || rel == "run" || rel == "bin") { // not the module's own
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") {
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, src, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(rel)] = append(found[filepath.ToSlash(rel)], imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

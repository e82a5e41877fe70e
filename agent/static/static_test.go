package static

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"

	"coracle/agent/store"
	"coracle/internal/testwait"
)

const manifest = `
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  hostNetwork: true
  containers:
  - name: web
    image: example.com/web
    ports: [{containerPort: 80}]
    resources: {limits: {cpu: "1"}}
    livenessProbe: {httpGet: {port: 80}}
  volumes:
  - name: scratch
`

var seen = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestParse(t *testing.T) {
	p, err := Parse([]byte(manifest), "/etc/coracle/manifests/web.yaml", "Edge-1", seen)
	if err != nil {
		t.Fatal(err)
	}
	c := p.Spec.Containers[0]
	got := fmt.Sprint(p.Namespace, " ", p.Name, " ", p.Spec.NodeName, " ", p.Annotations["kubernetes.io/config.source"], " ",
		p.Spec.RestartPolicy, " ", *p.Spec.TerminationGracePeriodSeconds, " ", c.ImagePullPolicy, " ", c.Ports[0].HostPort, " ",
		c.Resources.Requests.Cpu(), " ", c.LivenessProbe.PeriodSeconds, " ", c.LivenessProbe.HTTPGet.Path, " ", p.Spec.Volumes[0].EmptyDir != nil)
	if want := "default web-edge-1 Edge-1 file Always 30 Always 80 1 10 / true"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p.Annotations[hashAnnotation] != string(p.UID) || len(p.UID) != 36 || p.Annotations[seenAnnotation] != "2026-03-01T12:00:00Z" {
		t.Errorf("uid %s, annotations %v", p.UID, p.Annotations)
	}

	again, err := Parse([]byte(manifest), "/etc/coracle/manifests/web.yaml", "Edge-1", seen.Add(time.Hour))
	if err != nil || again.UID != p.UID {
		t.Errorf("the same file later: uid %s, want %s (%v)", again.UID, p.UID, err)
	}
	for what, parse := range map[string]func() (*v1.Pod, error){
		"another node": func() (*v1.Pod, error) {
			return Parse([]byte(manifest), "/etc/coracle/manifests/web.yaml", "edge-2", seen)
		},
		"another file": func() (*v1.Pod, error) {
			return Parse([]byte(manifest), "/etc/coracle/manifests/b.yaml", "Edge-1", seen)
		},
		"another image": func() (*v1.Pod, error) {
			return Parse([]byte(strings.Replace(manifest, "com/web", "com/web:2", 1)), "/etc/coracle/manifests/web.yaml", "Edge-1", seen)
		},
	} {
		if other, err := parse(); err != nil || other.UID == p.UID {
			t.Errorf("%s: uid %s is the same (%v)", what, other.UID, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	with := func(spec string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}], " + spec + "}\n"
	}
	for _, tc := range []struct{ text, want string }{
		{"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", `it describes kind "Deployment" of apiVersion "apps/v1"`},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {}\n", "spec.containers: there is none"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: WEB}\nspec: {containers: [{name: c, image: i}]}\n", "metadata.name"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c}]}\n", `container "c": image is missing`},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}, {name: c, image: i}]}\n", `container "c": there are two of that name`},
		{with("serviceAccountName: admin"), "spec.serviceAccountName: a pod from a file may not refer to objects of the API"},
		{with("volumes: [{name: s, secret: {secretName: x}}]"), "volume s: a pod from a file may not refer"},
		{with("volumes: [{name: s, projected: {sources: [{serviceAccountToken: {path: t}}]}}]"), "volume s: a pod from a file may not refer"},
		{with("imagePullSecrets: [{name: x}]"), "spec.imagePullSecrets"},
		{"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i, envFrom: [{configMapRef: {name: x}}]}]}\n", "envFrom of container c"},
		{"kind: [", "parse pod"},
	} {
		_, err := Parse([]byte(tc.text), "/f", "edge-1", seen)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s\ngave %v\nwant %s", tc.text, err, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(manifest))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i","livenessProbe":{"grpc":{"port":1}}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data, "/f", "edge-1", seen)
		if err != nil {
			return
		}
		if p.UID == "" || p.Name == "" || p.Spec.NodeName != "edge-1" || len(p.Spec.Containers) == 0 {
			t.Errorf("taken: %+v", p)
		}
		if _, err := p.Marshal(); err != nil {
			t.Error(err)
		}
	})
}

// sink is where a Source hands its pods over.
type sink struct {
	mu      sync.Mutex
	names   []string
	whole   bool
	mirrors int // -1: never told
	others  []*v1.Pod
}

func (s *sink) SetLocal(objects []store.Object, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names, s.whole = nil, whole
	for _, o := range objects {
		p := &v1.Pod{}
		if err := o.Decode(p); err != nil {
			panic(err)
		}
		s.names = append(s.names, p.Name+"="+p.Spec.Containers[0].Image)
	}
	slices.Sort(s.names)
}

func (s *sink) Mirrors() []*v1.Pod { return s.others }

func (s *sink) SetMirrors(pods []*v1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mirrors = len(pods)
}

func (s *sink) holds(whole bool, names ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.whole != whole {
		return fmt.Errorf("whole: %v", s.whole)
	}
	if d := cmp.Diff(names, s.names); d != "" {
		return fmt.Errorf("pods (-want +got):\n%s", d)
	}
	return nil
}

func podFile(name, image string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: c, image: %q}]}\n", name, image)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	// As careful editors do: written beside and moved into place.
	if err := os.WriteFile(path+"~", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "manifests")
	to := &sink{mirrors: -1}
	src := New(Config{Dir: dir, Node: "n", Store: to, Mirrors: to, Log: slog.New(slog.DiscardHandler)})
	src.Read()
	if err := to.holds(true); err != nil || to.mirrors != -1 {
		t.Errorf("without a folder: %v, mirrors %d", err, to.mirrors)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "broken.yaml"), "kind: [")
	write(t, filepath.Join(dir, "web.yaml"), podFile("web", "web:1"))
	src.Read()
	if err := to.holds(false, "web-n=web:1"); err != nil {
		t.Errorf("with a file that was never understood: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "broken.yaml")); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	holds := func(what string, whole bool, names ...string) {
		t.Helper()
		testwait.Nil(t, what, func() error { return to.holds(whole, names...) })
	}
	holds("the pods", true, "web-n=web:1")
	write(t, filepath.Join(dir, "db.json"), `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"db"},"spec":{"containers":[{"name":"c","image":"db:1"}]}}`)
	holds("a pod more", true, "db-n=db:1", "web-n=web:1")
	write(t, filepath.Join(dir, "web.yaml"), podFile("web", "web:2"))
	holds("the changed pod", true, "db-n=db:1", "web-n=web:2")
	write(t, filepath.Join(dir, "web.yaml"), podFile("web", "")) // no image: the pod stays as it was
	write(t, filepath.Join(dir, "other.yaml"), podFile("db", "db:9"))
	write(t, filepath.Join(dir, "more.yaml"), podFile("more", "more:1"))
	holds("broken and repeated files", true, "db-n=db:1", "more-n=more:1", "web-n=web:2")
	for _, f := range []string{"web.yaml", "other.yaml", "more.yaml"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	holds("fewer pods", true, "db-n=db:1")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	holds("no folder any more", true)
	testwait.Nil(t, "no mirrors", func() error {
		to.mu.Lock()
		defer to.mu.Unlock()
		if to.mirrors != 0 {
			return fmt.Errorf("%d mirrors", to.mirrors)
		}
		return nil
	})
}

// TestLeftover: mirror pods from before are taken back even where there is no pod any more.
func TestLeftover(t *testing.T) {
	p := &v1.Pod{}
	p.Annotations = map[string]string{v1.MirrorPodAnnotationKey: "old"}
	to := &sink{mirrors: -1, others: []*v1.Pod{p}}
	New(Config{Node: "n", Store: to, Mirrors: to, Log: slog.New(slog.DiscardHandler)}).Read()
	if to.mirrors != 0 {
		t.Errorf("mirrors %d, want 0 to be said", to.mirrors)
	}
}

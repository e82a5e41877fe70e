package volume

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// world is the node around a test: objects, tokens, a clock.
type world struct {
	t       *testing.T
	v       *Volumes
	now     time.Time
	cms     map[string]*v1.ConfigMap
	secrets map[string]*v1.Secret
	token   func(TokenRequest) (Token, error)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_700_000_000, 0), cms: map[string]*v1.ConfigMap{}, secrets: map[string]*v1.Secret{}}
	v, err := New(Config{RootDir: t.TempDir(), Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	w.v = v
	t.Cleanup(func() {
		if err := unmountBelow(v.root); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) request(pod *v1.Pod) Request {
	return Request{
		Pod:       pod,
		ConfigMap: func(_, name string) (*v1.ConfigMap, bool) { cm, ok := w.cms[name]; return cm, ok },
		Secret:    func(_, name string) (*v1.Secret, bool) { s, ok := w.secrets[name]; return s, ok },
		Token:     func(_ context.Context, r TokenRequest) (Token, error) { return w.token(r) },
		Allocatable: v1.ResourceList{
			v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("8Gi"),
		},
	}
}

func (w *world) ensure(pod *v1.Pod) Result {
	w.t.Helper()
	r, err := w.v.Ensure(w.t.Context(), w.request(pod))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// podWith makes a pod whose one container mounts every volume.
func podWith(volumes ...v1.Volume) *v1.Pod {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "11111111-2222-3333-4444-555555555555",
			Labels: map[string]string{"b": "two", "a": `say "hi"`}},
		Spec: v1.PodSpec{Volumes: volumes, Containers: []v1.Container{{Name: "c"}}},
	}
	for _, v := range volumes {
		p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, v1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
	}
	return p
}

func configMapVolume(name string) v1.Volume {
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: name}}}}
}

// tree reads a folder as containers see it: path → mode and content, internal names left out.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		real, err := filepath.EvalSymlinks(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			out[e.Name()+strings.TrimPrefix(p, real)] = fmt.Sprintf("%04o %s", info.Mode().Perm(), data)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestConfigMap(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	w.cms["cfg"] = &v1.ConfigMap{Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {0, 1}}}
	pod := podWith(configMapVolume("cfg"))
	dir := w.ensure(pod).Paths["cfg"]
	if want := filepath.Join(w.v.root, "pods", string(pod.UID), "volumes/kubernetes.io~configmap/cfg"); dir != want {
		t.Errorf("at %s, want %s", dir, want)
	}
	if diff := cmp.Diff(map[string]string{"a": "0644 1", "b": "0644 2", "c": "0644 \x00\x01"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}

	// Nothing changed: nothing is written.
	before, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Hour)
	w.ensure(pod)
	if after, _ := os.Readlink(filepath.Join(dir, "..data")); after != before {
		t.Errorf("rewritten: %s, then %s", before, after)
	}

	// A key goes, one changes, one comes; leftovers of a killed write go too.
	if err := os.Mkdir(filepath.Join(dir, "..2020_01_01_00_00_00.000000001"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.cms["cfg"] = &v1.ConfigMap{Data: map[string]string{"a": "one", "d": "4"}}
	w.ensure(pod)
	if diff := cmp.Diff(map[string]string{"a": "0644 one", "d": "0644 4"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 4 { // ..data, its generation, a, d
		t.Errorf("entries %v", entries)
	}

	// The object goes: running pods keep what they have.
	delete(w.cms, "cfg")
	if r := w.ensure(pod); len(r.Warnings) != 1 || len(tree(t, dir)) != 2 {
		t.Errorf("warnings %v, files %v", r.Warnings, tree(t, dir))
	}
}

func TestErrorsReadAsUsersKnowThem(t *testing.T) {
	w := newWorld(t)
	w.cms["cfg"] = &v1.ConfigMap{Data: map[string]string{"a": "1"}}
	w.secrets["sec"] = &v1.Secret{}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	items := []v1.KeyToPath{{Key: "nope", Path: "x"}}
	for want, src := range map[string]v1.VolumeSource{
		`configmap "y" not found`:                                     {ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "y"}}},
		`secret "y" not found`:                                        {Secret: &v1.SecretVolumeSource{SecretName: "y"}},
		`configmap references non-existent config key: nope`:          {ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cfg"}, Items: items}},
		`references non-existent secret key: nope`:                    {Secret: &v1.SecretVolumeSource{SecretName: "sec", Items: items}},
		"hostPath type check failed: " + file + " is not a directory": {HostPath: &v1.HostPathVolumeSource{Path: file, Type: ptr.To(v1.HostPathDirectory)}},
		"hostPath type check failed: /nowhere/x is not a socket file": {HostPath: &v1.HostPathVolumeSource{Path: "/nowhere/x", Type: ptr.To(v1.HostPathSocket)}},
		"not supported by the node: persistentVolumeClaim":            {PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}},
		`[configmap "y" not found, secret "z" not found]`: {Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "y"}}},
			{Secret: &v1.SecretProjection{LocalObjectReference: v1.LocalObjectReference{Name: "z"}}}}}},
		`not supported by the node: clusterTrustBundle "b"`: {Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ClusterTrustBundle: &v1.ClusterTrustBundleProjection{Name: ptr.To("b"), Path: "p"}}}}},
		"not supported by the node: csi": {CSI: &v1.CSIVolumeSource{Driver: "d"}},
	} {
		_, err := w.v.Ensure(t.Context(), w.request(podWith(v1.Volume{Name: "x", VolumeSource: src})))
		if err == nil || !strings.HasPrefix(err.Error(), `MountVolume.SetUp failed for volume "x" : `) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
		var setup *SetupError
		if !errors.As(err, &setup) || setup.Volume != "x" {
			t.Errorf("%v is no SetupError", err)
		}
	}
}

func TestOptionalAndUnused(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	w.cms["cfg"] = &v1.ConfigMap{Data: map[string]string{"a": "1"}}
	pod := podWith(
		v1.Volume{Name: "none", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "absent", Optional: ptr.To(true)}}},
		v1.Volume{Name: "bundle", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
			{ClusterTrustBundle: &v1.ClusterTrustBundleProjection{Name: ptr.To("b"), Path: "p", Optional: ptr.To(true)}}}}}},
		v1.Volume{Name: "some", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{
			LocalObjectReference: v1.LocalObjectReference{Name: "cfg"}, Optional: ptr.To(true),
			Items: []v1.KeyToPath{{Key: "a", Path: "deep/er/a", Mode: ptr.To[int32](0o400)}, {Key: "absent", Path: "b"}}}}},
	)
	pod.Spec.Volumes = append(pod.Spec.Volumes, configMapVolume("unused-and-absent"))
	r := w.ensure(pod)
	if len(r.Paths) != 3 || len(tree(t, r.Paths["none"])) != 0 {
		t.Errorf("paths %v", r.Paths)
	}
	if diff := cmp.Diff(map[string]string{"p": "0644 "}, tree(t, r.Paths["bundle"])); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"deep/er/a": "0400 1"}, tree(t, r.Paths["some"])); diff != "" {
		t.Error(diff)
	}
	// It comes to be later.
	w.secrets["absent"] = &v1.Secret{Data: map[string][]byte{"k": []byte("v")}}
	if diff := cmp.Diff(map[string]string{"k": "0644 v"}, tree(t, w.ensure(pod).Paths["none"])); diff != "" {
		t.Error(diff)
	}
}

func TestSecretIsInMemory(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	w.secrets["s"] = &v1.Secret{Data: map[string][]byte{"k": []byte("v")}}
	pod := podWith(v1.Volume{Name: "s", VolumeSource: v1.VolumeSource{Secret: &v1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr.To[int32](0o400)}}})
	dir := w.ensure(pod).Paths["s"]
	if !tmpfs(t, dir) {
		t.Error("not on a tmpfs")
	}
	if diff := cmp.Diff(map[string]string{"k": "0400 v"}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	w.ensure(pod)
	if points, err := mountsBelow(w.v.PodDir(pod.UID)); err != nil || len(points) != 1 {
		t.Errorf("mounts %v %v", points, err)
	}
}

func TestFSGroup(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	w.cms["cfg"] = &v1.ConfigMap{Data: map[string]string{"a": "1"}}
	pod := podWith(
		v1.Volume{Name: "e", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
		v1.Volume{Name: "cfg", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{
			LocalObjectReference: v1.LocalObjectReference{Name: "cfg"}, DefaultMode: ptr.To[int32](0o400)}}},
	)
	pod.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: ptr.To[int64](4321)}
	r := w.ensure(pod)
	w.ensure(pod)
	for path, want := range map[string]string{
		r.Paths["e"]:          "2777 4321",
		r.Paths["cfg"]:        "2777 4321",
		r.Paths["cfg"] + "/a": "0440 4321",
	} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%04o %d", st.Mode&0o7777, st.Gid); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
}

func TestEmptyDir(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	size := resource.MustParse("3Mi")
	pod := podWith(
		v1.Volume{Name: "disk", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
		v1.Volume{Name: "mem", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{Medium: v1.StorageMediumMemory, SizeLimit: &size}}},
	)
	r := w.ensure(pod)
	if err := os.WriteFile(filepath.Join(r.Paths["disk"], "kept"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(r.Paths["mem"], &fs); err != nil {
		t.Fatal(err)
	}
	if got := int64(fs.Blocks) * fs.Bsize; got != 3<<20 || !tmpfs(t, r.Paths["mem"]) {
		t.Errorf("memory volume holds %d bytes", got)
	}
	for _, p := range r.Paths {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("%s: %v %v", p, info.Mode(), err)
		}
	}
	w.ensure(pod)
	if _, err := os.Stat(filepath.Join(r.Paths["disk"], "kept")); err != nil {
		t.Error("content was lost:", err)
	}

	if pods, err := w.v.Pods(t.Context()); err != nil || !pods[pod.UID] {
		t.Errorf("pods %v %v", pods, err)
	}
	for range 2 {
		if err := w.v.Remove(t.Context(), pod.UID); err != nil {
			t.Fatal(err)
		}
	}
	if pods, err := w.v.Pods(t.Context()); err != nil || len(pods) != 0 {
		t.Errorf("pods after removal %v %v", pods, err)
	}
}

// Readers that run all the time see one generation or the next, never a mix.
func TestUpdateIsAtomic(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	set := func(s string) {
		w.cms["cfg"] = &v1.ConfigMap{Data: map[string]string{"a": s, "b": s}}
	}
	set("0")
	pod := podWith(configMapVolume("cfg"))
	dir := w.ensure(pod).Paths["cfg"]
	var stop atomic.Bool
	done := make(chan error)
	go func() {
		for !stop.Load() {
			// As programs are told to read: resolve ..data once, then read all.
			link, err := os.Readlink(filepath.Join(dir, "..data"))
			if err != nil {
				done <- err
				return
			}
			gen := filepath.Join(dir, link)
			a, errA := os.ReadFile(filepath.Join(gen, "a"))
			b, errB := os.ReadFile(filepath.Join(gen, "b"))
			if errA != nil || errB != nil {
				continue // the generation was removed while we read; the next look is right
			}
			if string(a) != string(b) {
				done <- fmt.Errorf("read %q and %q", a, b)
				return
			}
			if _, err := os.ReadFile(filepath.Join(dir, "a")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range 200 {
		set(fmt.Sprint(i))
		w.now = w.now.Add(time.Second)
		w.ensure(pod)
	}
	stop.Store(true)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func jwt(issued, expires time.Time, n int) string {
	claims := fmt.Sprintf(`{"iat":%d,"exp":%d,"n":%d}`, issued.Unix(), expires.Unix(), n)
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
}

func TestToken(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	asked := 0
	var last TokenRequest
	w.token = func(r TokenRequest) (Token, error) {
		asked++
		last = r
		exp := w.now.Add(time.Duration(r.ExpirationSeconds) * time.Second)
		return Token{Token: jwt(w.now, exp, asked), Expires: exp}, nil
	}
	w.cms["kube-root-ca.crt"] = &v1.ConfigMap{Data: map[string]string{"ca.crt": "CA"}}
	pod := podWith(v1.Volume{Name: "api", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
		{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](1000)}},
		{ConfigMap: &v1.ConfigMapProjection{LocalObjectReference: v1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
		{DownwardAPI: &v1.DownwardAPIProjection{Items: []v1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &v1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
	}}}})
	pod.Spec.ServiceAccountName = "robot"
	r := w.ensure(pod)
	files := tree(t, r.Paths["api"])
	if files["ca.crt"] != "0644 CA" || files["namespace"] != "0644 ns" || !strings.HasPrefix(files["token"], "0644 e30.") {
		t.Errorf("files %v", files)
	}
	if want := (TokenRequest{Namespace: "ns", ServiceAccount: "robot", PodName: "web", PodUID: pod.UID, ExpirationSeconds: 1000}); !cmp.Equal(want, last) {
		t.Error(cmp.Diff(want, last))
	}
	if want := w.now.Add(800 * time.Second); !r.RefreshAt.Equal(want) {
		t.Errorf("refresh at %v, want %v", r.RefreshAt, want)
	}

	// An agent that has just started reads from the token itself that it is not due.
	w.now = w.now.Add(700 * time.Second)
	w.ensure(pod)
	if asked != 1 {
		t.Errorf("asked %d times, want 1", asked)
	}
	w.now = w.now.Add(101 * time.Second)
	w.ensure(pod)
	if asked != 2 {
		t.Errorf("asked %d times at 80 %% of its life, want 2", asked)
	}

	// No control plane: the token stays, long past its end, and the pod is none the worse.
	w.token = func(TokenRequest) (Token, error) { return Token{}, errors.New("connection refused") }
	w.now = w.now.Add(24 * time.Hour)
	before := tree(t, r.Paths["api"])
	r = w.ensure(pod)
	if len(r.Warnings) != 1 || !r.RefreshAt.Equal(w.now.Add(tokenRetry)) {
		t.Errorf("warnings %v, refresh at %v", r.Warnings, r.RefreshAt)
	}
	if diff := cmp.Diff(before, tree(t, r.Paths["api"])); diff != "" {
		t.Error(diff)
	}
}

func TestTokenOwner(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	w.token = func(TokenRequest) (Token, error) {
		return Token{Token: jwt(w.now, w.now.Add(time.Hour), 0), Expires: w.now.Add(time.Hour)}, nil
	}
	src := v1.Volume{Name: "api", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{
		{ServiceAccountToken: &v1.ServiceAccountTokenProjection{Path: "token"}}}}}}
	for name, tc := range map[string]struct {
		sc   *v1.PodSecurityContext
		want string
	}{
		"anybody":  {nil, "0644 0 0"},
		"one user": {&v1.PodSecurityContext{RunAsUser: ptr.To[int64](77)}, "0600 77 0"},
		"group":    {&v1.PodSecurityContext{RunAsUser: ptr.To[int64](77), FSGroup: ptr.To[int64](88)}, "0640 0 88"},
	} {
		pod := podWith(src)
		pod.UID += "-x"
		pod.Spec.SecurityContext = tc.sc
		dir := w.ensure(pod).Paths["api"]
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "token"), &st); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%04o %d %d", st.Mode&0o7777, st.Uid, st.Gid); got != tc.want {
			t.Errorf("%s: token is %s, want %s", name, got, tc.want)
		}
		if err := w.v.Remove(t.Context(), pod.UID); err != nil {
			t.Fatal(err)
		}
	}
}

func tmpfs(t *testing.T, dir string) bool {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	return fs.Type == unix.TMPFS_MAGIC
}

// An image volume that waits for its image is left out; what was made of images is given back between unmounting and deleting,
// as often as it takes.
func TestImageVolume(t *testing.T) {
	var released []types.UID
	failing := errors.New("containerd is away")
	v, err := New(Config{RootDir: t.TempDir(), ReleaseImages: func(_ context.Context, uid types.UID) error {
		released = append(released, uid)
		return failing
	}})
	if err != nil {
		t.Fatal(err)
	}
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "uid-1"}, Spec: v1.PodSpec{
		Volumes:    []v1.Volume{{Name: "content", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "x:1"}}}},
		Containers: []v1.Container{{Name: "c", VolumeMounts: []v1.VolumeMount{{Name: "content", MountPath: "/c"}}}},
	}}
	answer := ErrNotYet
	var target string
	r := Request{Pod: p, Image: func(_ context.Context, _ *v1.Volume, at string) error { target = at; return answer }}
	if result, err := v.Ensure(t.Context(), r); err != nil || len(result.Paths) > 0 {
		t.Errorf("without its image: %v, %v", result.Paths, err)
	}
	answer = nil
	result, err := v.Ensure(t.Context(), r)
	if err != nil || result.Paths["content"] != target || target != filepath.Join(v.PodDir("uid-1"), "volumes/kubernetes.io~image/content") {
		t.Errorf("%v, %v, target %s", result.Paths, err, target)
	}
	if err := v.Remove(t.Context(), "uid-1"); !errors.Is(err, failing) {
		t.Errorf("removed although images could not be given back: %v", err)
	}
	if pods, err := v.Pods(t.Context()); !pods["uid-1"] || err != nil {
		t.Errorf("forgotten: %v %v", pods, err)
	}
	failing = nil
	if err := v.Remove(t.Context(), "uid-1"); err != nil || len(released) != 2 {
		t.Errorf("%v, released %v", err, released)
	}
	if pods, err := v.Pods(t.Context()); len(pods) > 0 || err != nil {
		t.Errorf("left: %v %v", pods, err)
	}
}

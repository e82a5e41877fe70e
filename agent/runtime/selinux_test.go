package runtime

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

func TestSELinuxLabels(t *testing.T) {
	own := categories("uid")
	for _, tc := range []struct {
		name string
		o    *v1.SELinuxOptions
		want labels
	}{
		{"none", nil, labels{}},
		{"empty", &v1.SELinuxOptions{}, labels{"system_u:system_r:container_t:" + own, "system_u:object_r:container_file_t:" + own}},
		{"level", &v1.SELinuxOptions{Level: "s0:c1,c2"}, labels{"system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2"}},
		{"all", &v1.SELinuxOptions{User: "u", Role: "r", Type: "spc_t", Level: "s0"}, labels{"u:r:spc_t:s0", "u:object_r:container_file_t:s0"}},
	} {
		if got := selinuxLabels(pod.ContainerSpec{PodUID: "uid", Security: &v1.SecurityContext{SELinuxOptions: tc.o}}); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
	form := regexp.MustCompile(`^s0:c(\d+),c(\d+)$`)
	for _, uid := range []types.UID{"", "a", "b", "22222222-aaaa-4bbb-8ccc-00000000000a"} {
		if c := categories(uid); !form.MatchString(c) || c != categories(uid) {
			t.Errorf("categories of %q: %s", uid, c)
		}
	}
	// Where SELinux is not enabled nothing comes of it.
	got, err := (&Runtime{}).selinuxFor(pod.ContainerSpec{Security: &v1.SecurityContext{SELinuxOptions: &v1.SELinuxOptions{Type: "x"}}})
	if err != nil || got != (labels{}) {
		t.Errorf("without SELinux: %+v, %v", got, err)
	}
}

func TestRelabel(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"own/sub", "machine"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const label = "system_u:object_r:container_file_t:s0:c1,c2"
	if err := unix.Lsetxattr(dir, "security.selinux", []byte("x"), 0); err != nil {
		t.Skipf("labels cannot be written here: %v", err)
	}
	mounts := []pod.Mount{{HostPath: filepath.Join(dir, "own")}, {HostPath: filepath.Join(dir, "machine"), OfMachine: true}, {HostPath: filepath.Join(dir, "gone")}}
	for range 2 {
		if err := relabel(mounts, label); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{"own": label, "own/sub": label, "machine": ""} {
		buf := make([]byte, 256)
		n, err := unix.Lgetxattr(filepath.Join(dir, path), "security.selinux", buf)
		if got := string(buf[:max(n, 0)]); got != want {
			t.Errorf("%s has label %q, want %q: %v", path, got, want, err)
		}
	}
	root := withContext([]mount.Mount{{Type: "overlay", Options: []string{"lowerdir=/x"}}}, label)
	if got := root[0].Options[1]; got != `context="`+label+`"` {
		t.Errorf("mounted with %s", got)
	}
}

package volume

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestSubPath(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	w.cms["cfg"] = &v1.ConfigMap{Data: map[string]string{"a": "1"}}
	pod := podWith(configMapVolume("cfg"), v1.Volume{Name: "e", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	r := w.ensure(pod)
	sub := SubPath{UID: pod.UID, Volume: "e", VolumePath: r.Paths["e"], Container: "c", Index: 1, Path: "new/folder"}
	dir, err := w.v.EnsureSubPath(sub)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(r.Paths["e"], "new/folder/f")); err != nil || string(data) != "x" {
		t.Errorf("through the volume: %q %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(r.Paths["e"], "new")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("made with %v %v, want the volume's 0777", info.Mode(), err)
	}
	if again, err := w.v.EnsureSubPath(sub); err != nil || again != dir {
		t.Errorf("again: %v %v", again, err)
	}

	// A file behind the links of a ConfigMap, and its next generation at the next start.
	file := SubPath{UID: pod.UID, Volume: "cfg", VolumePath: r.Paths["cfg"], Container: "c", Index: 0, Path: "a", Foreign: true}
	at, err := w.v.EnsureSubPath(file)
	if err != nil {
		t.Fatal(err)
	}
	w.cms["cfg"] = &v1.ConfigMap{Data: map[string]string{"a": "2"}}
	w.ensure(pod)
	if data, _ := os.ReadFile(at); string(data) != "1" {
		t.Errorf("a mounted subPath changed to %q", data)
	}
	if _, err := w.v.EnsureSubPath(file); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(at); string(data) != "2" {
		t.Errorf("after the next start %q", data)
	}

	if err := w.v.Remove(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.v.PodDir(pod.UID)); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}

// What a container that owns the volume may try.
func TestSubPathAttacks(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "machine"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	pod := podWith(v1.Volume{Name: "e", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}})
	vol := w.ensure(pod).Paths["e"]
	for link, target := range map[string]string{
		"abs": outside, "up": strings.Repeat("../", 20) + outside, "magic": "/proc/self/cwd", "loop": "loop", "inside": "dir",
	} {
		if err := os.Symlink(target, filepath.Join(vol, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(vol, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{
		"abs": false, "up": false, "magic": false, "loop": false, "abs/machine": false, "up/machine": false, "abs/new": false,
		"../e": false, "/etc": false, "dir/../../x": false, "inside": true, "inside/new": true, "dir": true, ".": true, "": true,
	} {
		at, err := w.v.EnsureSubPath(SubPath{UID: pod.UID, Volume: "e", VolumePath: vol, Container: "c", Index: 0, Path: path})
		if (err == nil) != ok {
			t.Errorf("subPath %q: %q, %v", path, at, err)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside of the volume: %v %v", entries, err)
	}

	// Removal follows no link either, and enters no mount that is left.
	if err := w.v.Remove(t.Context(), pod.UID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(outside, "machine")); err != nil {
		t.Error("the machine's file is gone:", err)
	}
}

// A mount that the list of mounts did not show must stop the deletion and not lead it away.
func TestRemoveTreeStopsAtMounts(t *testing.T) {
	needRoot(t)
	base, outside := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "machine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(base, "pod", "mounted")
	if err := os.MkdirAll(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(outside, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(target, 0) }()
	if err := removeTree(base, "pod"); err == nil || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(outside, "machine")); err != nil {
		t.Error("the machine's file is gone:", err)
	}
}

func TestUIDIsNoPath(t *testing.T) {
	w := newWorld(t)
	for _, s := range []string{"", ".", "..", "../../etc", "a/b"} {
		if err := w.v.Remove(t.Context(), types.UID(s)); err == nil {
			t.Errorf("uid %q was taken", s)
		}
		if _, err := w.v.EnsureTerminationLog("u", s, 0); err == nil {
			t.Errorf("container name %q was taken", s)
		}
	}
}

// A file that the pod names for its environment is read from its volume and from nowhere else.
func TestReadFile(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"in": "f", "out": "/etc/hostname", "up": "../../etc/hostname"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"f": "", "in": "", "out": "leads out of the volume", "up": "leads out of the volume", "pipe": "not a regular file",
		".": "not a regular file", "gone": "does not exist", "../x": "must not contain", "/etc/hostname": "must not be an absolute path",
	} {
		data, err := w.v.ReadFile(dir, path)
		if want == "" && (err != nil || string(data) != "x") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v, want %q", path, data, err, want)
		}
	}
}

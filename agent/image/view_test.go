package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"coracle/internal/fault"
	"coracle/internal/testcontainerd"
	"coracle/internal/testimage"
)

// A volume shows an image read-only, keeps it when its name goes, shows the same after a reboot, and leaves nothing.
func TestMountVolume(t *testing.T) {
	d, r := testcontainerd.Start(t), startRegistry(t)
	m := newImages(t, d, nil)
	ref := r.host() + "/team/content:1"
	push := func(text string) {
		t.Helper()
		if err := testimage.Push(t.Context(), ref, testimage.Spec{Files: map[string]testimage.File{"/dir/file": {Content: text}}}); err != nil {
			t.Fatal(err)
		}
	}
	push("one")
	img, err := m.Ensure(t.Context(), Request{Ref: ref, Policy: v1.PullAlways})
	if err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	if _, err := m.VolumeImage(t.Context(), "uid-1", "content"); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("before it was made: %v", err)
	}
	if err := m.MountVolume(t.Context(), "uid-1", "content", Image{Ref: "x", ChainID: "sha256:gone"}, target); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("an image that is gone: %v", err)
	}
	reads := func(want string) {
		t.Helper()
		if data, err := os.ReadFile(filepath.Join(target, "dir/file")); string(data) != want || err != nil {
			t.Errorf("reads %q, %v; want %q", data, err, want)
		}
	}
	for range 2 { // the second changes nothing
		if err := m.MountVolume(t.Context(), "uid-1", "content", img, target); err != nil {
			t.Fatal(err)
		}
		reads("one")
	}
	if err := os.WriteFile(filepath.Join(target, "dir/new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("written: %v", err)
	}
	push("two")
	if _, err := m.Ensure(t.Context(), Request{Ref: ref, Policy: v1.PullAlways}); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	// A reboot takes the mount, and the next run knows neither image nor name.
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	if err := m.MountVolume(t.Context(), "uid-1", "content", Image{}, target); err != nil {
		t.Fatal(err)
	}
	reads("one")
	if id, err := m.VolumeImage(t.Context(), "uid-1", "content"); id != img.RepoDigest || err != nil {
		t.Errorf("shows %q, %v; want %q", id, err, img.RepoDigest)
	}
	if err := unix.Unmount(target, 0); err != nil {
		t.Errorf("mounted twice, or busy: %v", err)
	}
	for range 2 {
		if err := m.ReleaseVolumes(t.Context(), "uid-1"); err != nil {
			t.Error(err)
		}
	}
	if _, err := m.VolumeImage(t.Context(), "uid-1", "content"); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("after it was given back: %v", err)
	}
}

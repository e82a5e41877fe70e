package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"coracle/internal/testimage"
)

// views are the snapshots behind image volumes.
func (s *space) views() []string {
	s.t.Helper()
	out, err := output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "snapshots", "list")
	if err != nil {
		s.t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "coracle-volume-") {
			found = append(found, strings.Fields(line)[0])
		}
	}
	return found
}

// TestImageVolumes: content from a private registry, shared and read-only, by subPath too; what cannot be pulled holds back only its
// own container; a killed agent finds and leaves everything as it should be.
func TestImageVolumes(t *testing.T) {
	s := newSpace(t)
	private, err := startPrivateRegistry(t)
	if err != nil {
		t.Fatal(err)
	}
	ref := private.address + "/secret/content:latest"
	push := func(text string) {
		t.Helper()
		content := testimage.Spec{Files: map[string]testimage.File{"/dir/file": {Content: text + "\n"}, "/top": {Content: "top"}}}
		if err := testimage.Push(context.Background(), ref, content, private.login()); err != nil {
			t.Fatal(err)
		}
	}
	push("one")
	manifest := fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  imagePullSecrets: [{name: pull}]
  volumes: [{name: content, image: {reference: %q}}]
  containers:
  - {name: reader, image: %[2]q, command: [sh, -c, "cat /content/dir/file /sub/file; touch /content/x; sleep 600"],
     volumeMounts: [{name: content, mountPath: /content}, {name: content, mountPath: /sub, subPath: dir}]}
  - {name: plain, image: %[2]q, command: [sleep, "600"]}
`, ref, s.image)
	s.apply(strings.ReplaceAll(manifest, "NAME", "content"))
	waiting := func(reasons ...string) func(*pod) error {
		return func(p *pod) error {
			for _, cs := range p.Status.ContainerStatuses {
				if w := cs.State.Waiting; cs.Name == "reader" && (w == nil || !strings.Contains(strings.Join(reasons, " "), w.Reason)) {
					return fmt.Errorf("reader is %+v", cs.State)
				}
				if cs.Name == "plain" && cs.State.Running == nil {
					return fmt.Errorf("plain is %+v", cs.State)
				}
			}
			return started(&pod{Status: corev1.PodStatus{ContainerStatuses: p.Status.ContainerStatuses[1:]}})
		}
	}
	s.waitPod("content", 60*time.Second, func(p *pod) error {
		if len(p.Status.ContainerStatuses) != 2 {
			return fmt.Errorf("statuses %+v", p.Status.ContainerStatuses)
		}
		return waiting("ErrImagePull", "ImagePullBackOff")(p)
	})
	s.wantEvent("content", "Failed", fmt.Sprintf("Failed to pull image %q", ref))

	s.do("create", "secret", "docker-registry", "pull", "--docker-server="+private.address, "--docker-username="+private.user, "--docker-password="+private.password)
	s.waitReady("content")
	s.wantEvent("content", "Pulled", fmt.Sprintf("Successfully pulled image %q", ref))
	s.says([]string{"logs", "content", "-c", "reader"}, "one\none\n", "Read-only file system")
	shows := func(name string) string {
		for _, cs := range s.pod(name).Status.ContainerStatuses {
			for _, m := range cs.VolumeMounts {
				if m.VolumeStatus != nil && m.VolumeStatus.Image != nil {
					return m.VolumeStatus.Image.ImageRef
				}
			}
		}
		return ""
	}
	first := shows("content")
	if !strings.HasPrefix(first, private.address+"/secret/content@sha256:") {
		t.Errorf("the status shows image %q", first)
	}

	// The tag moves on and its policy is Always: the running pod keeps what it shows over a killed agent and a restarted
	// container, a new pod gets the new.
	push("two")
	restart(t, s.agent)
	reader := s.containerPID(s.pod("content"), "reader")
	s.kill(reader)
	s.waitPod("content", 90*time.Second, func(p *pod) error {
		for _, cs := range p.Status.ContainerStatuses {
			if cs.Name == "reader" && (cs.RestartCount == 0 || cs.State.Running == nil) {
				return fmt.Errorf("reader: %+v", cs)
			}
		}
		return nil
	})
	s.says([]string{"exec", "content", "-c", "reader", "--", "cat", "/content/dir/file"}, "one")
	if again := shows("content"); again != first {
		t.Errorf("the status shows image %q after a restart, and %q before", again, first)
	}
	for i, at := range []string{"before MountVolumes", "after MountVolumes"} {
		name := fmt.Sprintf("born-%d", i)
		s.killAt(at, func() { s.apply(strings.ReplaceAll(manifest, "NAME", name)) })
		s.waitReady(name)
		s.says([]string{"exec", name, "-c", "reader", "--", "cat", "/sub/file"}, "two")
	}
	for i, at := range []string{"before UnmountVolumes", "after UnmountVolumes"} {
		name := fmt.Sprintf("born-%d", i)
		s.killAt(at, func() { s.do("delete", "pod", name, "--wait=false") })
	}
	s.do("delete", "pod", "content", "--wait=false")
	s.eventually(60*time.Second, func() error {
		left := append(s.leftovers(), s.views()...)
		if len(left) > 0 {
			return fmt.Errorf("left behind: %s", strings.Join(left, "\n"))
		}
		return nil
	})

	// What is not in the image is told.
	s.apply(strings.NewReplacer("NAME", "mistaken", "subPath: dir", "subPath: nowhere").Replace(manifest))
	s.wantEvent("mistaken", "Failed", "is not there, and the volume is read-only")
}

// kill ends a container's first process from outside.
func (s *space) kill(pid string) {
	s.t.Helper()
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil || n <= 1 {
		s.t.Fatalf("no process to end: %q", pid)
	}
	if err := unix.Kill(n, unix.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

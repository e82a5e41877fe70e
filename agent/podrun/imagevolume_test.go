package podrun

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
)

func withImageVolume(uid string) *v1.Pod {
	p := newPod(uid, "reader", "plain")
	p.Spec.Volumes = []v1.Volume{{Name: "content", VolumeSource: v1.VolumeSource{
		Image: &v1.ImageVolumeSource{Reference: "content:1", PullPolicy: v1.PullAlways},
	}}}
	p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "content", MountPath: "/content"}}
	return p
}

// shows is the image that the reader's status names, empty where none.
func (n *node) shows() string {
	s, _, _ := n.outbox.Last("u1")
	for _, c := range s.ContainerStatuses {
		for _, m := range c.VolumeMounts {
			if c.Name == "reader" && m.VolumeStatus != nil {
				return m.VolumeStatus.Image.ImageRef
			}
		}
	}
	return ""
}

func TestImageVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.images.fails = map[string]error{"content:1": errors.New("no such thing")}
		_, stop := n.run(t)
		n.store.setComplete()
		n.store.assign(withImageVolume("u1"))
		n.pass(time.Second)
		reason, message := n.waiting("u1")
		if reason != "ErrImagePull" || !strings.Contains(message, "no such thing") || n.ready("u1") || n.shows() != "" {
			t.Errorf("waits for %s: %s; shows %q", reason, message, n.shows())
		}
		if n.runtime.starts["u1-plain-0"] != 1 || n.runtime.starts["u1-reader-0"] != 0 {
			t.Errorf("started %v: only what mounts the volume waits for it", n.runtime.starts)
		}
		if want := `Warning Failed : Failed to pull image "content:1": no such thing`; !strings.Contains(n.events.all(), strings.Replace(want, " : ", " ", 1)) && !strings.Contains(n.events.all(), want) {
			t.Errorf("events:\n%s", n.events.all())
		}
		n.pass(8 * time.Second)
		if reason, message = n.waiting("u1"); reason != "ImagePullBackOff" || !strings.Contains(message, `"content:1"`) {
			t.Errorf("waits for %s: %s", reason, message)
		}
		n.images.mu.Lock()
		n.images.fails = nil
		n.images.mu.Unlock()
		n.pass(30 * time.Second)
		if !n.ready("u1") || n.shows() != "content:1@sha256:1" {
			t.Fatalf("ready %v, shows %q\n%s", n.ready("u1"), n.shows(), n.events.all())
		}
		// Another run of the agent repeats what was told, and asks no registry for what is mounted.
		stop()
		n.images.mu.Lock()
		n.images.pulls = nil
		n.images.fails = map[string]error{"content:1": errors.New("the registry is away")}
		n.images.mu.Unlock()
		_, stop = n.run(t)
		defer stop()
		n.runtime.exit("u1-reader-0", 1)
		n.pass(time.Minute)
		if !n.ready("u1") || n.shows() != "content:1@sha256:1" || slices.Contains(n.images.pulls, "content:1") {
			t.Errorf("after a restart: ready %v, shows %q, pulled %v", n.ready("u1"), n.shows(), n.images.pulls)
		}
		n.store.userDeletes("u1", 1)
		n.pass(5 * time.Second)
		n.store.remove("u1")
		n.pass(time.Second)
		if left := n.left("u1"); left != "" {
			t.Errorf("left: %s", left)
		}
	})
}

package podrun

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
)

func fromFile(p *v1.Pod) *v1.Pod {
	p.Name, p.Annotations = "static-node-1", map[string]string{pod.SourceAnnotation: "file", "kubernetes.io/config.hash": string(p.UID)}
	return p
}

func mirrorOf(p *v1.Pod, uid string) *v1.Pod {
	m := newPod(uid, "web")
	m.Name, m.Annotations = p.Name, map[string]string{pod.SourceAnnotation: "file", v1.MirrorPodAnnotationKey: string(p.UID)}
	return m
}

// TestStaticPodLife: a pod of the node's own files runs before the control plane was ever heard, is
// shown by its mirror pod once there is one, and ends with its own grace when its file is gone.
func TestStaticPodLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.runtime.behave["web"] = behaviour{termAfter: 10 * time.Second}
		r, stop := n.run(t)
		p := fromFile(newPod("s1", "web"))
		n.store.assign(p)
		n.pass(time.Second)
		if !n.ready("s1") {
			t.Fatal("not ready")
		}
		if n.outbox.released["s1"] {
			t.Error("said to the API by a uid that it does not know")
		}
		n.store.assign(mirrorOf(p, "m1"))
		n.pass(time.Second)
		if !n.ready("m1") {
			t.Error("the mirror pod does not show that it is ready")
		}
		if n.runtime.starts["m1-web-0"] != 0 || len(r.Snapshot()) != 1 {
			t.Errorf("a mirror pod was run: %v, %v", n.runtime.starts, r.Snapshot())
		}
		// The user deletes the mirror: the pod runs on.
		n.store.userDeletes("m1", 30)
		n.pass(time.Minute)
		n.store.remove("m1")
		n.pass(time.Minute)
		if len(n.runtime.signals) > 0 || !n.ready("s1") {
			t.Errorf("the pod was touched with its mirror: %v", n.runtime.signals)
		}
		stop()

		// An agent that starts knows nothing until the files are read.
		n.store.setComplete()
		n.store.remove("s1")
		n.store.filesUnread = true
		_, stop = n.run(t)
		defer stop()
		n.pass(time.Minute)
		if len(n.runtime.signals) > 0 {
			t.Fatalf("ended before the files were read: %v", n.runtime.signals)
		}
		n.store.filesUnread = false
		n.store.assign(p)
		n.pass(time.Second)
		if !n.ready("s1") {
			t.Error("not ready after a restart of the agent")
		}

		n.store.remove("s1")
		n.pass(5 * time.Second)
		if want := []string{"s1-web-0 "}; !slices.Equal(n.runtime.signals, want) {
			t.Errorf("signals %v, want %v", n.runtime.signals, want)
		}
		n.pass(10 * time.Second)
		if left := n.left("s1"); left != "" {
			t.Errorf("left when the file was gone: %s", left)
		}
	})
}

// TestStaticPodChanges: the new pod waits for the old one, whose ports and paths it has.
func TestStaticPodChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.runtime.behave["web"] = behaviour{termAfter: 10 * time.Second}
		_, stop := n.run(t)
		defer stop()
		n.store.assign(fromFile(newPod("s1", "web")))
		n.pass(time.Second)
		n.store.remove("s1")
		n.store.assign(fromFile(newPod("s2", "web")))
		n.pass(5 * time.Second)
		if n.runtime.starts["s2-web-0"] != 0 {
			t.Error("the new pod was started beside the old one")
		}
		n.pass(10 * time.Second)
		if !n.ready("s2") || n.left("s1") != "" {
			t.Errorf("the new pod is ready: %v; left of the old: %s", n.ready("s2"), n.left("s1"))
		}

		// The same file goes and comes back while its pod is ending: it ends, and begins anew.
		n.store.remove("s2")
		n.pass(time.Second)
		n.store.assign(fromFile(newPod("s2", "web")))
		n.pass(20 * time.Second)
		if !n.ready("s2") || n.runtime.starts["s2-web-0"] != 2 {
			t.Errorf("after its file came back: ready %v, starts %v", n.ready("s2"), n.runtime.starts)
		}
	})
}

// TestStaticPodLeftBehind: whose file went while the agent was away ends without a word from the control plane.
func TestStaticPodLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run(t)
		n.store.assign(fromFile(newPod("s1", "web")))
		n.store.assign(newPod("u1", "web"))
		n.pass(time.Second)
		stop()
		n.store.remove("s1")
		n.store.remove("u1")
		_, stop = n.run(t)
		defer stop()
		n.pass(time.Minute)
		if left := n.left("s1"); left != "" {
			t.Errorf("left of the pod whose file is gone: %s", left)
		}
		if len(n.runtime.pods["u1"].Containers) != 1 {
			t.Error("a pod that the control plane had assigned was ended before that has named all")
		}
	})
}

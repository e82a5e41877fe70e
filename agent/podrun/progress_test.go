package podrun

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"coracle/agent/image"
)

func TestLongPullTellsItsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.images.takes = map[string]time.Duration{"web:1": 5 * time.Minute}
		_, stop := n.run(t)
		defer stop()
		n.store.assign(newPod("u1", "web"))
		n.pass(90 * time.Second)
		n.images.mu.Lock()
		n.images.progress = []image.Progress{{Ref: "docker.io/library/other:1", Bytes: 9e9}, {Ref: "docker.io/library/web:1", Bytes: 12_340_000}}
		n.images.mu.Unlock()
		n.pass(4 * time.Minute)
		var told []string
		for line := range strings.Lines(n.events.all()) {
			if _, text, ok := strings.Cut(strings.TrimSpace(line), "Pulling image "); ok {
				told = append(told, text)
			}
		}
		want := `"web:1" | "web:1": 0.0 MB received in 1m0s | "web:1": 12.3 MB received in 2m0s | "web:1": 12.3 MB received in 4m0s`
		if got := strings.Join(told, " | "); got != want {
			t.Errorf("told %s\nwant %s", got, want)
		}
		if !n.ready("u1") {
			t.Error("not ready in the end")
		}
	})
}

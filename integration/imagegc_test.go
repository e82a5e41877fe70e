package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"coracle/internal/testimage"
)

// images are the names of those that containerd holds for the agent.
func (s *space) images() (string, error) {
	return output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "images", "list", "--quiet")
}

// TestImagesAreCollected: on a disk that is too full the image that nothing needs goes, those of a pod and of its volume stay, and
// that this is not enough is told.
func TestImagesAreCollected(t *testing.T) {
	s := newSpace(t)
	ref := func(name string) string { return s.registry + "/" + s.name + "/" + name + ":1" }
	for _, name := range []string{"unused", "content"} {
		spec := testimage.Busybox("/bin/busybox", []string{"sh", "sleep"})
		spec.Files["/name"] = testimage.File{Content: name}
		if err := testimage.Push(context.Background(), ref(name), spec); err != nil {
			t.Fatal(err)
		}
	}
	s.apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: goes}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: main, image: %q, command: [sleep, '600']}]\n", ref("unused")))
	s.apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: stays}\nspec:\n  terminationGracePeriodSeconds: 1\n  volumes: [{name: v, image: {reference: %q}}]\n"+
		"  containers: [{name: main, image: %q, command: [sleep, '600'], volumeMounts: [{name: v, mountPath: /v}]}]\n", ref("content"), s.image))
	s.waitReady("goes", "stays")
	s.do("delete", "pod", "goes", "--timeout=60s")
	if held, err := s.images(); err != nil || !strings.Contains(held, ref("unused")) {
		t.Fatalf("before: %v, %s", err, held)
	}

	argv := s.agent.argv
	t.Cleanup(func() {
		s.agent.argv = argv
		restart(t, s.agent)
	})
	s.agent.argv = append(slices.Clone(argv), "--images-gc-high-threshold-percent", "2", "--images-gc-low-threshold-percent", "1",
		"--images-minimum-gc-age", "1s", "--images-gc-period", "2s")
	restart(t, s.agent)
	s.eventually(60*time.Second, func() error {
		held, err := s.images()
		if err == nil && strings.Contains(held, ref("unused")) {
			err = fmt.Errorf("the unused image is still there:\n%s", held)
		}
		return err
	})
	s.eventually(60*time.Second, func() error {
		out, err := s.kubectl("get", "events", "--all-namespaces", "--field-selector", "involvedObject.kind=Node", "-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
		if err == nil && !strings.Contains(out, "FreeDiskSpaceFailed: Failed to garbage collect required amount of images.") {
			err = fmt.Errorf("nothing is told:\n%s", out)
		}
		return err
	})
	held, err := s.images()
	if err != nil || !strings.Contains(held, ref("content")) || !strings.Contains(held, s.image) {
		t.Errorf("after: %v, %s", err, held)
	}
	s.says([]string{"exec", "stays", "--", "sh", "-c", "read x </v/name; echo shows $x"}, "shows content")
}

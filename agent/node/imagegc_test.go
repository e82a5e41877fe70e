package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/image"
)

// fakeCollector asks for the users, as the real one does on a full disk, and fails on script.
type fakeCollector struct {
	inUse map[string]bool
	noted []string
	err   error
}

func (f *fakeCollector) Note(names []string, _ time.Time) { f.noted = names }

func (f *fakeCollector) Collect(ctx context.Context, users image.Users, _ time.Time) (int64, error) {
	var err error
	f.inUse, err = users(ctx)
	return 0, errors.Join(err, f.err)
}

func TestImageGCKeepsWhatPodsName(t *testing.T) {
	p := &v1.Pod{Spec: v1.PodSpec{
		InitContainers:      []v1.Container{{Image: "init:1"}},
		Containers:          []v1.Container{{Image: "main:1"}, {Image: "not a name"}},
		EphemeralContainers: []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon{Image: "debug:1"}}},
		Volumes:             []v1.Volume{{VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "content:1"}}}, {}},
	}}
	f := &fakeCollector{}
	g := &imageGC{
		images: f, pods: func() []*v1.Pod { return []*v1.Pod{p} }, log: slog.New(slog.DiscardHandler),
		made: func(context.Context) (map[string]bool, error) {
			return map[string]bool{"docker.io/library/ran:1": true}, nil
		},
	}
	g.look(t.Context(), time.Now())
	want := []string{"docker.io/library/init:1", "docker.io/library/main:1", "docker.io/library/debug:1", "docker.io/library/content:1"}
	if !slices.Equal(f.noted, want) {
		t.Errorf("noted %v, want %v", f.noted, want)
	}
	for _, name := range append(want, "docker.io/library/ran:1") {
		if !f.inUse[name] {
			t.Errorf("%s may be removed: %v", name, f.inUse)
		}
	}
}

func TestImageGCTells(t *testing.T) {
	short := &image.ShortError{Wanted: 9, Freed: 2}
	steps := []struct {
		err  error
		want []string
	}{
		{nil, nil},
		{errors.New("containerd is away"), nil}, // once may happen
		{errors.New("containerd is away"), []string{"ImageGCFailed: containerd is away"}},
		{nil, nil},
		{short, []string{"FreeDiskSpaceFailed: " + short.Error()}},
		{short, []string{"FreeDiskSpaceFailed: " + short.Error(), "ImageGCFailed: " + short.Error()}},
		{nil, nil},
		{image.ErrNoCapacity, []string{"InvalidDiskCapacity: invalid capacity 0 on image filesystem"}},
	}
	f := &fakeCollector{}
	var told []string
	g := &imageGC{
		images: f, pods: func() []*v1.Pod { return nil }, log: slog.New(slog.DiscardHandler),
		made:  func(context.Context) (map[string]bool, error) { return map[string]bool{}, nil },
		event: func(reason, message string) { told = append(told, reason+": "+message) },
	}
	for i, step := range steps {
		f.err, told = step.err, nil
		g.look(t.Context(), time.Now())
		if !slices.Equal(told, step.want) {
			t.Errorf("look %d told %q, want %q", i, told, step.want)
		}
	}
}

func TestPrintShowsPulls(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var b strings.Builder
	s := Status{Pulls: []PullStatus{{Image: "registry.example/big:1", Began: now.Add(-90 * time.Second), Bytes: 12_340_000}}}
	if err := s.Print(&b, now); err != nil {
		t.Fatal(err)
	}
	if want := "\npulls (1)\n      12.3 MB  registry.example/big:1, for 1m30s\n"; !strings.Contains(b.String(), want) {
		t.Errorf("%s\nwant %q", b.String(), want)
	}
}

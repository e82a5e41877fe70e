package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/config"
	"coracle/agent/image"
	"coracle/agent/status"
)

// imageGC looks at the disk of images from time to time, and has unused ones removed where it is full.
type imageGC struct {
	images interface {
		Collect(ctx context.Context, users image.Users, now time.Time) (int64, error)
		Note(names []string, now time.Time)
	}
	pods   func() []*v1.Pod // of this node, as assigned
	made   image.Users      // the images of the containers that exist
	event  func(reason, message string)
	period time.Duration
	log    *slog.Logger

	failed bool   // the last look
	told   string // the error that was logged last
}

func newImageGC(n *Node) (*imageGC, error) {
	t, _, err := n.cfg.Images.Times()
	if err != nil {
		return nil, err
	}
	return &imageGC{
		images: n.images, pods: n.store.Pods, made: n.imagesOfContainers, period: t.Period, log: n.log,
		event: func(reason, message string) {
			n.recorder.Event(status.NodeReference(n.name), v1.EventTypeWarning, reason, message)
		},
	}, nil
}

// thresholds are the configuration's; a minimum age of 0 is meant so.
func thresholds(c config.Images) (image.Thresholds, error) {
	t, _, err := c.Times()
	return image.Thresholds{
		High: c.GCHighThresholdPercent, Low: max(c.GCLowThresholdPercent, 1), MinAge: max(t.MinAge, 1), MaxAge: t.MaxAge,
	}, err
}

// Run looks until ctx ends.
func (g *imageGC) Run(ctx context.Context) error {
	tick := time.NewTicker(g.period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			g.look(ctx, time.Now())
		}
	}
}

// look collects once. Events are those of kubelet: of a disk that stays full each time, of other failures from the second in a row on.
func (g *imageGC) look(ctx context.Context, now time.Time) {
	named := g.named()
	g.images.Note(named, now)
	_, err := g.images.Collect(ctx, g.users(named), now)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		g.failed, g.told = false, ""
		return
	}
	var short *image.ShortError
	switch {
	case errors.As(err, &short):
		g.event("FreeDiskSpaceFailed", short.Error())
	case errors.Is(err, image.ErrNoCapacity):
		g.event("InvalidDiskCapacity", err.Error())
	}
	if g.failed {
		g.event("ImageGCFailed", err.Error())
	}
	g.failed = true
	if text := reasonOf(err); text != g.told {
		g.told = text
		g.log.Warn("images not collected as wanted", "err", err)
	}
}

// reasonOf is the part of an error that does not change with each look.
func reasonOf(err error) string {
	var short *image.ShortError
	if errors.As(err, &short) {
		return "short"
	}
	return err.Error()
}

// named are the images that the node's pods name, in containerd's spelling.
//
// Differs: kubelet removes the image of a pod that is assigned and has no container just then. Here it stays, because the
// node may be offline when the pod needs it again.
func (g *imageGC) named() []string {
	var out []string
	add := func(ref string) {
		if name, err := image.Normalize(ref); err == nil {
			out = append(out, name)
		}
	}
	for _, p := range g.pods() {
		for _, c := range p.Spec.InitContainers {
			add(c.Image)
		}
		for _, c := range p.Spec.Containers {
			add(c.Image)
		}
		for _, c := range p.Spec.EphemeralContainers {
			add(c.Image)
		}
		for _, v := range p.Spec.Volumes {
			if v.Image != nil {
				add(v.Image.Reference)
			}
		}
	}
	return out
}

func (g *imageGC) users(named []string) image.Users {
	return func(ctx context.Context) (map[string]bool, error) {
		out, err := g.made(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range named {
			out[name] = true
		}
		return out, nil
	}
}

// imagesOfContainers names the images of all containers, running or not.
func (n *Node) imagesOfContainers(ctx context.Context) (map[string]bool, error) {
	pods, err := n.runtime.ObserveAll(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, p := range pods {
		for i := range p.Containers {
			c := &p.Containers[i]
			for _, name := range []string{c.Image, c.ImageID} {
				out[name] = true
			}
		}
	}
	return out, nil
}

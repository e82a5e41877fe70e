package podrun

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/image"
	"coracle/agent/pod"
)

const (
	progressJob = pullJob + "progress/"
	// progressFirst is when a pull that takes long is told of first; after that each time as much has passed again.
	progressFirst = time.Minute
)

// tellProgress says in events how far a long pull is, until done is closed.
func (w *worker) tellProgress(ctx context.Context, s pod.PullImage, done <-chan struct{}) {
	name, err := image.Normalize(s.Image)
	if err != nil {
		return // the pull says so
	}
	began := time.Now()
	w.job(ctx, progressJob+s.Volume+"/"+s.Container, func(ctx context.Context) {
		for wait := progressFirst; ; wait *= 2 {
			timer := time.NewTimer(time.Until(began.Add(wait)))
			select {
			case <-timer.C:
			case <-done:
				timer.Stop()
				return
			case <-ctx.Done():
				timer.Stop()
				return
			}
			var received int64
			for _, p := range w.r.cfg.Images.Pulls() {
				if p.Ref == name {
					received = max(received, p.Bytes)
				}
			}
			w.imageEvent(s, v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q: %.1f MB received in %s", s.Image, float64(received)/1e6, wait))
		}
	})
}

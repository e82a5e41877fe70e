package podrun

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/fact"
	"coracle/agent/pod"
	"coracle/internal/fault"
)

const (
	// storageEvery is how often what a pod writes is measured, if it has a limit: as often as a kubelet looks.
	storageEvery = 10 * time.Second
	// storageShare bounds what measuring takes of a disk: this many times what it took goes by before the next.
	storageShare = 20
	storageJob   = "measure storage"
)

// watchStorage has a pod evicted that writes more than it may. It costs nothing for pods without such limits. It returns
// when to measure next; zero: never.
func (w *worker) watchStorage(ctx context.Context, d pod.Desired, o pod.Observed) time.Time {
	if d.Pod == nil || d.Removed || d.Pod.DeletionTimestamp != nil || w.facts.Finished != "" || w.facts.Failed != nil || !pod.LimitsStorage(d.Pod) {
		return time.Time{}
	}
	w.mu.Lock()
	next := w.storageAt
	w.mu.Unlock()
	if now := time.Now(); now.Before(next) {
		return next
	}
	p, volumes := w.granted(), w.volumes // a map that is replaced, never changed
	newest := map[string]pod.Container{}
	for _, c := range o.Containers {
		if have, ok := newest[c.Name]; !ok || have.Attempt < c.Attempt {
			newest[c.Name] = c
		}
	}
	w.job(ctx, storageJob, func(ctx context.Context) {
		began := time.Now()
		use, err := w.measureStorage(ctx, p, volumes, newest)
		w.mu.Lock()
		w.storageAt = time.Now().Add(max(storageEvery, storageShare*time.Since(began)))
		w.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.log.Warn("what the pod has written is not wholly known", "err", err)
		}
		if f := pod.OverStorage(p, use); f != nil {
			w.r.End(w.uid, *f)
		}
	})
	return time.Now().Add(storageEvery)
}

// measureStorage adds up what containers, their logs and emptyDirs hold. What could be measured is returned beside the error.
func (w *worker) measureStorage(ctx context.Context, p *v1.Pod, volumes map[string]string, containers map[string]pod.Container) (pod.StorageUse, error) {
	use := pod.StorageUse{Containers: map[string]int64{}, EmptyDirs: map[string]int64{}}
	var errs []error
	logs := w.logDir(p.Namespace, p.Name)
	for name, c := range containers {
		bytes, _, err := w.r.cfg.Runtime.RootfsUsage(ctx, c.ID)
		if err != nil && !errors.Is(err, fault.ErrNotFound) {
			errs = append(errs, err)
		}
		logged, _, _ := fact.DirSize(filepath.Join(logs, name)) // none where nothing was logged
		use.Containers[name] = bytes + logged
	}
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if path := volumes[v.Name]; path != "" && pod.OnDisk(v) {
			use.EmptyDirs[v.Name], _, _ = fact.DirSize(path)
		}
	}
	return use, errors.Join(errs...)
}

package podrun

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/image"
	"coracle/agent/pod"
	"coracle/agent/volume"
	"coracle/internal/fault"
)

// shown is what this run of the agent knows of an image volume.
type shown struct {
	pod.Image
	img image.Image // to make the volume from; zero where it was made before
}

// showsAlready says whether the volume was made before, by this run or an earlier one: then it shows what it did, and no
// registry is asked. That a look fails counts as no.
func (w *worker) showsAlready(ctx context.Context, s pod.PullImage) bool {
	id, err := w.r.cfg.Images.VolumeImage(ctx, w.uid, s.Volume)
	if err != nil {
		if !errors.Is(err, fault.ErrNotFound) {
			w.log.Warn("image of volume not looked up", "volume", s.Volume, "err", err)
		}
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shown[s.Volume] = shown{Image: pod.Image{Ref: s.Image, State: pod.ImagePresent, ImageID: id}}
	return true
}

// willShow keeps the image that the volume is to be made from.
func (w *worker) willShow(name string, img image.Image) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.shown[name]
	v.img, v.ImageID = img, img.RepoDigest
	if v.ImageID == "" {
		v.ImageID = img.ID
	}
	w.shown[name] = v
}

// showImage mounts an image volume. An image that was removed since it was pulled is pulled again.
func (w *worker) showImage(ctx context.Context, vol *v1.Volume, target string) error {
	w.mu.Lock()
	s := w.shown[vol.Name]
	w.mu.Unlock()
	if s.State != pod.ImagePresent {
		return volume.ErrNotYet
	}
	err := w.r.cfg.Images.MountVolume(ctx, w.uid, vol.Name, s.img, target)
	if errors.Is(err, fault.ErrNotFound) {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.shown, vol.Name)
		w.log.Info("image of volume is gone, pulling it again", "volume", vol.Name, "image", vol.Image.Reference, "err", err)
		return volume.ErrNotYet
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", vol.Image.Reference, err)
	}
	return nil
}

// showsAll says whether every image volume whose image is there is mounted.
func (w *worker) showsAll() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, s := range w.shown {
		if s.State == pod.ImagePresent && w.volumes[name] == "" {
			return false
		}
	}
	return true
}

// volumeImages is what Plan is told. The lock is held.
func (w *worker) volumeImages() map[string]pod.Image {
	if len(w.shown) == 0 {
		return nil
	}
	out := map[string]pod.Image{}
	for name, s := range w.shown {
		out[name] = s.Image
	}
	return out
}

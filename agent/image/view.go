package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/sys/mountinfo"
	"k8s.io/apimachinery/pkg/types"

	"coracle/internal/fault"
)

// An image that is a pod's volume is a read-only view of its layers: a snapshot of our own, named by pod and volume. It keeps
// the layers for as long as the pod is there, whatever becomes of the image's name, and is what tells a later run of the
// agent, or one after a reboot, what the volume shows.
const (
	labelVolumeOf = "coracle/volume.pod"
	labelShows    = "coracle/volume.image"
	labelGCRoot   = "containerd.io/gc.root"
)

func viewKey(uid types.UID, volume string) string {
	return "coracle-volume-" + string(uid) + "-" + volume
}

// VolumeImage is the image that a pod's volume shows, as "REPO@sha256:…". The error is of class NotFound where it shows none yet.
func (m *Images) VolumeImage(ctx context.Context, uid types.UID, volume string) (string, error) {
	info, err := m.client.SnapshotService(m.cfg.Snapshotter).Stat(m.context(ctx), viewKey(uid, volume))
	if err != nil {
		return "", fmt.Errorf("look for image of volume %s: %w", volume, classify(err))
	}
	return info.Labels[labelShows], nil
}

// MountVolume shows an image read-only at target, an empty folder. Where the volume was made before, it shows the same again,
// and img is not looked at. Idempotent.
func (m *Images) MountVolume(ctx context.Context, uid types.UID, volume string, img Image, target string) error {
	ctx = m.context(ctx)
	key, views := viewKey(uid, volume), m.client.SnapshotService(m.cfg.Snapshotter)
	mounts, err := views.Mounts(ctx, key)
	if err = classify(err); errors.Is(err, fault.ErrNotFound) {
		mounts, err = views.View(ctx, key, img.ChainID, snapshots.WithLabels(map[string]string{
			labelVolumeOf: string(uid), labelShows: img.shown(), labelGCRoot: time.Now().UTC().Format(time.RFC3339),
		}))
	}
	if err != nil {
		return fmt.Errorf("make view of image %s: %w", img.Ref, classify(err))
	}
	there, err := mountinfo.Mounted(target)
	if err != nil || there {
		return err
	}
	if err := mount.All(readOnly(mounts), target); err != nil {
		return fmt.Errorf("mount image %s at %s: %w", img.Ref, target, err)
	}
	return nil
}

// shown is what statuses say of the image.
func (i Image) shown() string {
	if i.RepoDigest != "" {
		return i.RepoDigest
	}
	return i.ID
}

// readOnly are mounts that nobody writes through, whatever the snapshotter makes of a view.
func readOnly(mounts []mount.Mount) []mount.Mount {
	out := make([]mount.Mount, len(mounts))
	for i, m := range mounts {
		options := []string{"ro"}
		for _, o := range m.Options {
			if o != "rw" && o != "ro" {
				options = append(options, o)
			}
		}
		m.Options = options
		out[i] = m
	}
	return out
}

// ReleaseVolumes gives back what MountVolume made for a pod. Its mounts must be gone. Idempotent.
func (m *Images) ReleaseVolumes(ctx context.Context, uid types.UID) error {
	ctx = m.context(ctx)
	views := m.client.SnapshotService(m.cfg.Snapshotter)
	var keys []string
	err := views.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		keys = append(keys, info.Name)
		return nil
	}, fmt.Sprintf("labels.%q==%q", labelVolumeOf, string(uid)))
	if err != nil {
		return fmt.Errorf("list image volumes of pod %s: %w", uid, classify(err))
	}
	var errs []error
	for _, key := range keys {
		if err := classify(views.Remove(ctx, key)); err != nil && !errors.Is(err, fault.ErrNotFound) {
			errs = append(errs, fmt.Errorf("remove image volume %s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}

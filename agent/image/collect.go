package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"golang.org/x/sys/unix"

	"coracle/internal/fault"
)

// Defaults are the kubelet's.
func (t Thresholds) withDefaults() Thresholds {
	if t.High == 0 {
		t.High = 85
	}
	if t.Low == 0 {
		t.Low = min(80, t.High)
	}
	if t.MinAge == 0 {
		t.MinAge = 2 * time.Minute
	}
	return t
}

// Collect removes images where the disk is fuller than the high threshold. inUse names the images
// of all containers that exist, by name or id. It returns the bytes that the removed images
// counted for; where that is not enough the error, of class Unavailable, says how much is missing.
func (m *Images) Collect(ctx context.Context, inUse map[string]bool, now time.Time) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(m.cfg.DiskPath, &st); err != nil {
		return 0, fmt.Errorf("measure disk of images %s: %w", m.cfg.DiskPath, err)
	}
	block := uint64(st.Bsize)
	disk := Disk{Capacity: int64(st.Blocks * block), Available: int64(st.Bavail * block)}
	return m.collect(ctx, inUse, disk, now)
}

func (m *Images) collect(ctx context.Context, inUse map[string]bool, disk Disk, now time.Time) (int64, error) {
	stored, err := m.List(ctx)
	if err != nil {
		return 0, err
	}
	remove, short := PlanRemoval(m.candidates(stored, inUse, now), disk, m.cfg.GC.withDefaults(), now)
	var freed int64
	var errs []error
	for _, c := range remove {
		if err := m.remove(ctx, c.Names); err != nil {
			errs = append(errs, err)
			continue
		}
		freed += c.Size
		m.cfg.Log.Info("image removed to free disk space", "image", c.Names[0], "bytes", c.Size)
	}
	if short > 0 {
		errs = append(errs, fault.As(fault.ErrUnavailable, fmt.Errorf("free disk space of images: %d bytes more are wanted, but the other images are in use", short)))
	}
	return freed, errors.Join(errs...)
}

func (m *Images) candidates(stored []Stored, inUse map[string]bool, now time.Time) []Candidate {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Candidate, 0, len(stored))
	for _, s := range stored {
		c := Candidate{ID: s.ID, Names: s.Names, Size: s.Size, InUse: inUse[s.ID]}
		for _, name := range s.Names {
			c.InUse = c.InUse || inUse[name]
			c.Pinned = c.Pinned || slices.Contains(m.cfg.Pinned, name)
			if used := m.used[name]; used.After(c.LastUsed) {
				c.LastUsed = used
			}
		}
		if c.LastUsed.IsZero() { // first seen now: its age counts from here
			c.LastUsed = now
			m.used[s.Names[0]] = now
		}
		if c.InUse {
			m.used[s.Names[0]] = now
		}
		out = append(out, c)
	}
	return out
}

// Remove removes an image under one name; its content goes with its last name. Idempotent.
func (m *Images) Remove(ctx context.Context, ref string) error {
	name, err := Normalize(ref)
	if err != nil {
		return err
	}
	return m.remove(ctx, []string{name})
}

func (m *Images) remove(ctx context.Context, names []string) error {
	ctx = m.context(ctx)
	var errs []error
	for i, name := range names {
		var options []images.DeleteOpt
		if i == len(names)-1 { // one run of containerd's collector for all
			options = append(options, images.SynchronousDelete())
		}
		err := classify(m.client.ImageService().Delete(ctx, name, options...))
		if err != nil && !errors.Is(err, fault.ErrNotFound) {
			errs = append(errs, fmt.Errorf("remove image %s: %w", name, err))
		}
		m.mu.Lock()
		delete(m.used, name)
		delete(m.seen, name)
		m.mu.Unlock()
	}
	return errors.Join(errs...)
}

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

// Users names the images that must stay, by name or id: those of all containers and of pods that may start one.
type Users func(ctx context.Context) (map[string]bool, error)

// ShortError says that the disk stays fuller than it should because nothing more may be removed. It is of class Unavailable.
type ShortError struct{ Wanted, Freed int64 } // bytes

func (e *ShortError) Error() string {
	return fmt.Sprintf("Failed to garbage collect required amount of images. Attempted to free %d bytes, but only found %d bytes eligible to free.", e.Wanted, e.Freed)
}

// Unwrap gives the class.
func (e *ShortError) Unwrap() error { return fault.ErrUnavailable }

// ErrNoCapacity says that the disk of images tells no size, so that nothing can be decided.
var ErrNoCapacity = errors.New("invalid capacity 0 on image filesystem")

// Collect removes images that nothing has used for too long, and others where the disk is fuller than the high threshold. On a disk
// with room and without an age to look for, it costs one system call. It returns the bytes that became free; where these
// are not enough the error is a *ShortError.
func (m *Images) Collect(ctx context.Context, users Users, now time.Time) (int64, error) {
	return m.collect(ctx, users, m.disk, m.cfg.GC.withDefaults(), now)
}

// RemoveUnused removes every image that may go, whatever room the disk has: before pods are evicted for want of it.
func (m *Images) RemoveUnused(ctx context.Context, users Users, now time.Time) (int64, error) {
	t := m.cfg.GC.withDefaults()
	t.MaxAge = max(t.MinAge-1, 1)
	return m.collect(ctx, users, m.disk, t, now)
}

// disk is the file system that the snapshotter's layers are on.
func (m *Images) disk(ctx context.Context) (Disk, error) {
	path := m.diskPath(ctx)
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Disk{}, fmt.Errorf("measure disk of images %s: %w", path, err)
	}
	block := uint64(st.Bsize)
	return Disk{Capacity: int64(st.Blocks * block), Available: int64(st.Bavail * block)}, nil
}

// DiskPath is a folder on the file system that images are unpacked on.
func (m *Images) DiskPath(ctx context.Context) string { return m.diskPath(ctx) }

// diskPath asks containerd once where it unpacks images.
func (m *Images) diskPath(ctx context.Context) string {
	m.mu.Lock()
	path := m.cfg.DiskPath
	m.mu.Unlock()
	if path != "" {
		return path
	}
	found, err := m.client.IntrospectionService().Plugins(m.context(ctx), "type==io.containerd.snapshotter.v1,id=="+m.cfg.Snapshotter)
	if err != nil {
		return defaultDiskPath // until containerd answers
	}
	path = defaultDiskPath
	for _, p := range found.Plugins {
		if root := p.Exports["root"]; root != "" {
			path = root
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cfg.DiskPath = path
	return path
}

const defaultDiskPath = "/var/lib/containerd"

func (m *Images) collect(ctx context.Context, users Users, measure func(context.Context) (Disk, error), t Thresholds, now time.Time) (int64, error) {
	before, err := measure(ctx)
	if err != nil {
		return 0, err
	}
	if before.Capacity == 0 {
		return 0, ErrNoCapacity
	}
	if !t.full(before) && t.MaxAge == 0 {
		return 0, nil
	}
	inUse, err := users(ctx)
	if err != nil {
		return 0, fmt.Errorf("find what images are in use: %w", err)
	}
	stored, err := m.List(ctx)
	if err != nil {
		return 0, err
	}
	remove, _ := PlanRemoval(m.candidates(stored, inUse, now), before, t, now)
	after := before
	var freed int64
	var errs []error
	for _, c := range remove {
		// Sizes are those of compressed layers: unpacked ones free more, and layers that images share nothing.
		tooOld := t.MaxAge > 0 && now.Sub(c.LastUsed) > t.MaxAge
		if !tooOld && (after.Capacity-after.Available)*100 <= after.Capacity*int64(t.Low) {
			continue
		}
		if err := m.remove(ctx, c.Names); err != nil {
			errs = append(errs, err)
			continue
		}
		freed += c.Size
		m.cfg.Log.Info("image removed to free disk space", "image", c.Names[0], "bytes", c.Size)
		if after, err = measure(ctx); err != nil {
			return freed, errors.Join(append(errs, err)...)
		}
	}
	freed = max(freed, after.Available-before.Available)
	if wanted := t.wanted(before); t.full(before) && freed < wanted {
		errs = append(errs, &ShortError{Wanted: wanted, Freed: freed})
	}
	return freed, errors.Join(errs...)
}

// Note says that these images are in use now, so that the time since is their age.
func (m *Images) Note(names []string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range names {
		m.used[name] = now
	}
}

func (m *Images) candidates(stored []Stored, inUse map[string]bool, now time.Time) []Candidate {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Candidate, 0, len(stored))
	for _, s := range stored {
		c := Candidate{ID: s.ID, Names: s.Names, Size: s.Size, InUse: inUse[s.ID], Pinned: s.Pinned}
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

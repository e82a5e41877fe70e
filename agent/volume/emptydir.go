package volume

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ensureEmptyDir makes a folder that every user of the pod may write, on the node's disk or in memory.
func (v *Volumes) ensureEmptyDir(r Request, vol *v1.Volume) (string, error) {
	dir := v.volumeDir(r.Pod.UID, "empty-dir", vol.Name)
	medium := vol.EmptyDir.Medium
	switch {
	case medium == v1.StorageMediumDefault:
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
	case medium == v1.StorageMediumMemory:
		if err := ensureTmpfs(dir, memorySize(r.Pod, vol.EmptyDir.SizeLimit, r.Allocatable)); err != nil {
			return "", err
		}
	case strings.HasPrefix(string(medium), string(v1.StorageMediumHugePages)):
		if err := ensureHugePages(dir, r.Pod, medium); err != nil {
			return "", err
		}
	default:
		return "", fmt.Errorf("%w: emptyDir with medium %q", ErrUnsupported, medium)
	}
	// 0777 whatever the umask is; a pod's fsGroup owns it, and what is made inside stays the group's.
	perm := os.FileMode(0o777)
	group := fsGroup(r.Pod)
	if group != nil {
		perm |= os.ModeSetgid
	}
	return dir, own(dir, perm, group)
}

// own sets mode and group of a folder where they differ, so that a repeated call writes nothing.
func own(dir string, perm os.FileMode, group *int64) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	// Group first: changing it clears the setgid bit.
	if group != nil && int64(st.Gid) != *group {
		if err := os.Lchown(dir, -1, int(*group)); err != nil {
			return err
		}
		st.Mode = 0
	}
	want := uint32(perm.Perm())
	if perm&os.ModeSetgid != 0 {
		want |= unix.S_ISGID
	}
	if st.Mode&0o7777 == want {
		return nil
	}
	return os.Chmod(dir, perm)
}

// memorySize is the least of what the volume asks for, what the pod's containers may use together,
// and what the node has for pods. 0: nothing bounds it.
func memorySize(pod *v1.Pod, limit *resource.Quantity, allocatable v1.ResourceList) int64 {
	var size int64
	least := func(n int64) {
		if n > 0 && (size == 0 || n < size) {
			size = n
		}
	}
	if q, ok := allocatable[v1.ResourceMemory]; ok {
		least(q.Value())
	}
	least(podMemoryLimit(pod))
	if limit != nil {
		least(limit.Value())
	}
	return size
}

// podMemoryLimit is what the pod's group is limited to: its own limit, or what its containers may use together at any
// time, sidecars and the pod's overhead included. 0 unless every container has a limit.
func podMemoryLimit(pod *v1.Pod) int64 {
	if pod.Spec.Resources != nil {
		if q, ok := pod.Spec.Resources.Limits[v1.ResourceMemory]; ok {
			return q.Value()
		}
	}
	var mains, sidecars, init int64
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		limit := c.Resources.Limits[v1.ResourceMemory]
		if limit.IsZero() {
			return 0
		}
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			sidecars += limit.Value()
			init = max(init, sidecars)
			continue
		}
		init = max(init, sidecars+limit.Value())
	}
	for i := range pod.Spec.Containers {
		limit := pod.Spec.Containers[i].Resources.Limits[v1.ResourceMemory]
		if limit.IsZero() {
			return 0
		}
		mains += limit.Value()
	}
	overhead := pod.Spec.Overhead[v1.ResourceMemory]
	return max(init, mains+sidecars) + overhead.Value()
}

// ensureHugePages mounts a hugetlbfs of the page size that the medium names, or else of the one
// size that the pod's containers ask for.
func ensureHugePages(dir string, pod *v1.Pod, medium v1.StorageMedium) error {
	size := strings.TrimPrefix(string(medium), "HugePages-")
	if medium == v1.StorageMediumHugePages {
		var err error
		if size, err = onlyPageSize(pod); err != nil {
			return err
		}
	}
	q, err := resource.ParseQuantity(size)
	if err != nil {
		return fmt.Errorf("page size of medium %q: %w", medium, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	there, err := isMount(dir)
	if err != nil || there {
		return err
	}
	if err := unix.Mount("nodev", dir, "hugetlbfs", 0, fmt.Sprintf("pagesize=%d", q.Value())); err != nil {
		return fmt.Errorf("mount hugetlbfs with pages of %s at %s: %w", size, dir, err)
	}
	return nil
}

func onlyPageSize(pod *v1.Pod) (string, error) {
	sizes := map[string]bool{}
	for _, c := range pod.Spec.Containers {
		for name := range c.Resources.Requests {
			if s, ok := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix); ok {
				sizes[s] = true
			}
		}
		for name := range c.Resources.Limits {
			if s, ok := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix); ok {
				sizes[s] = true
			}
		}
	}
	if len(sizes) != 1 {
		return "", fmt.Errorf("medium HugePages needs containers that ask for exactly one page size, not %d", len(sizes))
	}
	for s := range sizes {
		return s, nil
	}
	return "", nil
}

package runtime

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// oomKilled says whether the kernel killed a process of the container for want of memory: by the
// mark that the event left, else by the counter of its group, which is there until the task is deleted.
func (r *Runtime) oomKilled(record containers.Container) bool {
	if _, err := os.Stat(r.oomPath(record.ID)); err == nil {
		return true
	}
	for _, dir := range r.memoryGroups(record) {
		for _, file := range []string{"memory.oom_control", "memory.events"} {
			if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil && oomKills(data) > 0 {
				return true
			}
		}
	}
	return false
}

// memoryGroups are the directories where the container's group may have its files of memory, in v1 and v2.
func (r *Runtime) memoryGroups(record containers.Container) []string {
	spec, err := specIn(record)
	if err != nil || spec.Linux == nil {
		return nil
	}
	path := spec.Linux.CgroupsPath
	if slice, rest, ok := strings.Cut(path, ":"); ok { // slice:prefix:name
		path = filepath.Join(sliceDir(slice), strings.Replace(rest, ":", "-", 1)+".scope")
	}
	return []string{
		filepath.Join("/sys/fs/cgroup/memory", path),
		filepath.Join("/sys/fs/cgroup/memory", path, "container"), // crun below a systemd scope
		filepath.Join("/sys/fs/cgroup", path),
	}
}

func (r *Runtime) oomPath(id string) string { return filepath.Join(r.ioDir(), id, "oom") }

// oomKills reads the counter oom_kill of memory.events (v2) or memory.oom_control (v1).
func oomKills(data []byte) int {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return 0
}

// sliceDir is the directory of a slice: a-b.slice is in a.slice.
func sliceDir(slice string) string {
	name := strings.TrimSuffix(slice, ".slice")
	var dir string
	for i, c := range name {
		if c == '-' {
			dir = filepath.Join(dir, name[:i]+".slice")
		}
	}
	return filepath.Join(dir, slice)
}

func specIn(record containers.Container) (*specs.Spec, error) {
	spec := &specs.Spec{}
	return spec, typeurl.UnmarshalTo(record.Spec, spec)
}

package cgroup

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts is where the machine's cgroup file systems are.
type mounts struct {
	unified bool
	points  map[string]string // controller → mount point; "" in v2
}

func readMounts(root string) (mounts, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return mounts{}, fmt.Errorf("cgroup: look at %s: %w; mount the cgroup file system there", root, err)
	}
	if uint32(st.Type) == unix.CGROUP2_SUPER_MAGIC {
		return mounts{unified: true, points: map[string]string{"": root}}, nil
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return mounts{}, fmt.Errorf("cgroup: %w", err)
	}
	defer f.Close()
	m, err := parseMountinfo(f, root)
	if err != nil {
		return mounts{}, fmt.Errorf("cgroup: read mountinfo: %w", err)
	}
	if len(m.points) == 0 {
		return mounts{}, fmt.Errorf("cgroup: neither cgroup v2 at %s nor v1 controllers below it are mounted", root)
	}
	return m, nil
}

// parseMountinfo finds the v1 hierarchies below root, by controller, in the format of
// proc_pid_mountinfo(5). Named hierarchies are kept as "name=…": OCI runtimes make groups in them too.
func parseMountinfo(r io.Reader, root string) (mounts, error) {
	m := mounts{points: map[string]string{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, options := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(options) < 3 || !strings.HasPrefix(fields[4], root+"/") {
			continue
		}
		point := fields[4]
		if options[0] == "cgroup2" { // beside v1: OCI runtimes make groups there as well
			m.points["unified"] = point
		}
		if options[0] != "cgroup" {
			continue
		}
		for _, option := range strings.Split(options[2], ",") {
			switch {
			case option == "rw" || option == "ro" || option == "xattr" || option == "clone_children" || strings.HasPrefix(option, "release_agent="):
			case m.points[option] == "" || path.Base(point) == option:
				m.points[option] = point
			}
		}
	}
	return m, lines.Err()
}

package runtime

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// selinuxDir is where the kernel's SELinux is spoken to; it is there where SELinux is enabled.
const selinuxDir = "/sys/fs/selinux"

// The types of container-selinux, the policy that distributions with SELinux ship for containers.
const (
	selinuxProcess = "container_t"
	selinuxFile    = "container_file_t"
)

// labels are a container's: of its processes, and of the files that are made for it. Empty: none.
type labels struct{ process, file string }

// selinuxLabels computes the labels of a container that asks for some. What it leaves open is container-selinux'
// default; each pod has two categories of its own, so that one pod's processes cannot touch another's files.
//
// Differs: container runtimes confine every container where SELinux is enabled. That takes a policy that knows this
// agent's own folders and pipes, which no distribution ships; so only those that name seLinuxOptions are.
func selinuxLabels(c pod.ContainerSpec) labels {
	o := c.Security.SELinuxOptions
	if o == nil {
		return labels{}
	}
	or := func(have, otherwise string) string {
		if have == "" {
			return otherwise
		}
		return have
	}
	level := or(o.Level, categories(c.PodUID))
	return labels{
		process: fmt.Sprintf("%s:%s:%s:%s", or(o.User, "system_u"), or(o.Role, "system_r"), or(o.Type, selinuxProcess), level),
		file:    fmt.Sprintf("%s:object_r:%s:%s", or(o.User, "system_u"), selinuxFile, level),
	}
}

// categories are two of the 1024 of multi-category security, from the pod's uid: the same after every restart.
func categories(uid types.UID) string {
	sum := sha256.Sum256([]byte(uid))
	a := binary.BigEndian.Uint16(sum[0:]) % 1024
	b := binary.BigEndian.Uint16(sum[2:]) % 1023
	if b >= a {
		b++
	}
	return fmt.Sprintf("s0:c%d,c%d", min(a, b), max(a, b))
}

// selinuxFor gives a container's labels once the machine's policy has said that it knows them. Where SELinux is not
// enabled they mean nothing, as everywhere in Kubernetes.
func (r *Runtime) selinuxFor(c pod.ContainerSpec) (labels, error) {
	if !r.host.SELinux || c.Security.SELinuxOptions == nil {
		return labels{}, nil
	}
	l := selinuxLabels(c)
	for _, label := range []string{l.process, l.file} {
		if err := os.WriteFile(filepath.Join(selinuxDir, "context"), []byte(label), 0); err != nil {
			return labels{}, fault.As(fault.ErrInvalid, fmt.Errorf("SELinux label %s is not known to this node's policy (is container-selinux installed?): %w", label, err))
		}
	}
	return l, nil
}

// relabel gives what the node has made for a container the label of its files: the mounts but for hostPath volumes, which
// are the machine's, and more paths.
func relabel(mounts []pod.Mount, label string, more ...string) error {
	if label == "" {
		return nil
	}
	for _, m := range mounts {
		if !m.OfMachine && !m.OfImage {
			more = append(more, m.HostPath)
		}
	}
	for _, root := range more {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return setLabel(path, label)
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("label %s for SELinux: %w", root, err)
		}
	}
	return nil
}

func setLabel(path, label string) error {
	buf := make([]byte, 4096)
	if n, err := unix.Lgetxattr(path, "security.selinux", buf); err == nil && strings.TrimRight(string(buf[:n]), "\x00") == label {
		return nil
	}
	err := unix.Lsetxattr(path, "security.selinux", []byte(label), 0)
	if err != nil && !errors.Is(err, unix.ENOTSUP) { // of a file system without labels
		return &os.PathError{Op: "setxattr", Path: path, Err: err}
	}
	return nil
}

// withContext mounts a root file system under one label.
func withContext(mounts []mount.Mount, label string) []mount.Mount {
	if label == "" || len(mounts) != 1 || mounts[0].Type != "overlay" {
		return mounts
	}
	m := mounts[0]
	m.Options = append(slices.Clone(m.Options), fmt.Sprintf("context=%q", label))
	return []mount.Mount{m}
}

package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// FilesRequest is what a pod's own files are made from.
type FilesRequest struct {
	Pod           *v1.Pod
	PodIPs        []string // primary first; ignored for hostNetwork
	NodeName      string
	ClusterDomain string
	ClusterDNS    []string
	ResolvConf    string // the machine's, "/etc/resolv.conf"
}

// Files are paths on the host, to be mounted at the places of the same name.
type Files struct {
	Hosts, ResolvConf, Hostname string
	// Warnings are for the pod's events.
	Warnings []Warning
}

// systemdResolv lists the servers behind systemd's stub resolver.
const systemdResolv = "/run/systemd/resolve/resolv.conf"

// EnsureFiles writes the files that every container of the pod sees at /etc. They are rewritten
// in place, because running containers hold the file and not its name, and only when they differ.
func (v *Volumes) EnsureFiles(_ context.Context, r FilesRequest) (Files, error) {
	unlock, err := v.lock(r.Pod.UID)
	if err != nil {
		return Files{}, err
	}
	defer unlock()
	hostname, domain, err := pod.Hostname(r.Pod, r.NodeName, r.ClusterDomain)
	if err != nil {
		return Files{}, err
	}
	dir := v.PodDir(r.Pod.UID)
	out := Files{
		Hosts: filepath.Join(dir, "etc-hosts"), ResolvConf: filepath.Join(dir, "resolv.conf"), Hostname: filepath.Join(dir, "hostname"),
	}
	hosts := hostsText(r.PodIPs, hostname, domain, r.Pod.Spec.HostAliases)
	if r.Pod.Spec.HostNetwork {
		machine, err := os.ReadFile("/etc/hosts")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Files{}, err
		}
		hosts = hostNetworkHostsText(string(machine), r.Pod.Spec.HostAliases)
	}
	dns, warnings := podDNS(r.Pod, machineDNS(r.ResolvConf, r.Pod.Spec.HostNetwork), r.ClusterDNS, r.ClusterDomain)
	out.Warnings = warnings
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return Files{}, err
	}
	for path, text := range map[string]string{out.Hosts: hosts, out.ResolvConf: dns.text(), out.Hostname: hostname + "\n"} {
		if err := rewrite(path, text, 0o644); err != nil {
			return Files{}, err
		}
	}
	return out, nil
}

// machineDNS reads the machine's resolv.conf and looks past a stub resolver on loopback, which a
// pod with its own network cannot reach. A file that is missing is an empty one.
func machineDNS(path string, hostNetwork bool) DNS {
	d := readResolv(path)
	if !hostNetwork && d.onlyLoopback() {
		if behind := readResolv(systemdResolv); len(behind.Servers) > 0 {
			return behind
		}
	}
	return d
}

func readResolv(path string) DNS {
	if path == "" {
		return DNS{}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return DNS{}
	}
	return parseResolv(string(data))
}

// EnsureTerminationLog gives the file in which one attempt of a container leaves its last words.
// Any user of the container may write it.
func (v *Volumes) EnsureTerminationLog(uid types.UID, container string, attempt int) (string, error) {
	unlock, err := v.lock(uid)
	if err != nil {
		return "", err
	}
	defer unlock()
	if container == "" || strings.ContainsAny(container, "/\x00") || strings.HasPrefix(container, ".") {
		return "", fmt.Errorf("%q is not a container's name", container)
	}
	dir := filepath.Join(v.PodDir(uid), "containers", container, strconv.Itoa(attempt))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "termination-log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return "", err
	}
	return path, errors.Join(f.Chmod(0o666), f.Close())
}

// RemoveAttempt removes the folder of one attempt of a container.
func (v *Volumes) RemoveAttempt(uid types.UID, container string, attempt int) error {
	unlock, err := v.lock(uid)
	if err != nil {
		return err
	}
	defer unlock()
	return removeTree(v.root, filepath.Join("pods", string(uid), "containers", container, strconv.Itoa(attempt)))
}

// rewrite makes the file's content text, without replacing the file and without writing when it is.
func rewrite(path, text string, mode fs.FileMode) error {
	have, err := os.ReadFile(path)
	if err == nil && string(have) == text {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, werr := f.WriteString(text)
	return errors.Join(werr, f.Chmod(mode), f.Close())
}

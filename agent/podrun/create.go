package podrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
	"coracle/agent/volume"
)

// Reasons of a container that waits, as kubectl shows them.
const (
	reasonConfig = "CreateContainerConfigError"
	reasonCreate = "CreateContainerError"
	reasonStart  = "RunContainerError"
)

// create resolves one attempt's definition and makes it.
func (r *round) create(ctx context.Context, s pod.CreateContainer) error {
	release, err := r.start(ctx)
	if err != nil {
		return err
	}
	defer release()
	if share := r.w.pod.Spec.ShareProcessNamespace; share != nil && *share {
		// The first process may have died since; containers join its namespace.
		if err := r.pin(ctx); err != nil {
			return r.trouble(ctx, s.Name, s.Kind, s.Attempt, reasonCreate, err)
		}
	}
	spec, err := r.resolve(ctx, s)
	if err != nil {
		return r.trouble(ctx, s.Name, s.Kind, s.Attempt, reasonOf(err), err)
	}
	if err := os.MkdirAll(filepath.Dir(spec.LogPath), 0o755); err != nil {
		return r.trouble(ctx, s.Name, s.Kind, s.Attempt, reasonCreate, fmt.Errorf("make log directory: %w", err))
	}
	id, err := r.w.r.cfg.Runtime.Create(ctx, spec)
	if err != nil {
		return r.trouble(ctx, s.Name, s.Kind, s.Attempt, reasonCreate, err)
	}
	r.mu.Lock()
	r.ids[s.Name] = id
	r.mu.Unlock()
	r.w.containerEvent(s.Name, s.Kind, v1.EventTypeNormal, "Created", "Container created")
	return nil
}

func reasonOf(err error) string {
	var config *pod.ConfigError
	if errors.As(err, &config) {
		return reasonConfig
	}
	return reasonCreate
}

// resolve gathers what the container refers to.
func (r *round) resolve(ctx context.Context, s pod.CreateContainer) (pod.ContainerSpec, error) {
	w, cfg := r.w, r.w.r.cfg
	p := w.granted()
	c, _, ok := pod.FindContainer(p, s.Name)
	if !ok {
		return pod.ContainerSpec{}, fmt.Errorf("container %s is not in the pod's definition", s.Name)
	}
	image, err := cfg.Images.Get(ctx, c.Image)
	if err != nil {
		w.forgetImage(s.Name) // it was there a moment ago; the next plan brings it back
		return pod.ContainerSpec{}, err
	}
	podIPs := r.podIPs()
	files, err := r.files(ctx)
	if err != nil {
		return pod.ContainerSpec{}, err
	}
	for _, warning := range files.Warnings {
		w.event(v1.EventTypeWarning, warning.Reason, warning.Message)
	}
	lastWords, err := cfg.Volumes.EnsureTerminationLog(w.uid, s.Name, s.Attempt)
	if err != nil {
		return pod.ContainerSpec{}, fmt.Errorf("make termination log: %w", err)
	}
	spec, err := pod.ResolveContainer(p, c, s.Kind, s.Attempt, pod.Sources{
		ConfigMap: cfg.Store.ConfigMap, Secret: cfg.Store.Secret, Services: w.r.services.of(cfg.Store),
		ImageUser: image.User, Volumes: w.volumes, EnvFile: cfg.Volumes.ReadFile,
		Hosts: files.Hosts, ResolvConf: files.ResolvConf, HostnameFile: files.Hostname, TerminationLog: lastWords,
		NodeName: cfg.NodeName, ClusterDomain: cfg.ClusterDomain(), PodIPs: podIPs, HostIPs: r.desired.HostIPs,
		Allocatable: cfg.Allocatable(), MemoryBytes: cfg.MemoryBytes, Memory: cfg.Memory,
		CgroupParent: w.cgroupParent, LogPath: w.logPath(s.Name, s.Attempt),
		RecursiveReadOnly: pod.AsksRecursiveReadOnly(w.pod) && cfg.Runtime.Features(ctx).RecursiveReadOnly,
	})
	if err != nil {
		return spec, err
	}
	if err := w.resolveSubPaths(&spec); err != nil || cfg.Devices == nil {
		return spec, err
	}
	if err := cfg.Devices.Prepare(ctx, p, c, &spec); err != nil {
		return spec, &pod.ConfigError{Message: err.Error()}
	}
	return spec, nil
}

// files writes the pod's own files as far as its addresses are known.
func (r *round) files(ctx context.Context) (volume.Files, error) {
	cfg := r.w.r.cfg
	files, err := cfg.Volumes.EnsureFiles(ctx, volume.FilesRequest{
		Pod: r.w.pod, PodIPs: r.podIPs(), NodeName: cfg.NodeName, ClusterDomain: cfg.ClusterDomain(), ClusterDNS: cfg.ClusterDNS(), ResolvConf: cfg.ResolvConf,
	})
	if err != nil {
		return files, fmt.Errorf("write the pod's own files: %w", err)
	}
	return files, nil
}

// resolveSubPaths turns each subPath into a path that the container cannot turn elsewhere.
func (w *worker) resolveSubPaths(spec *pod.ContainerSpec) error {
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if m.SubPath == "" {
			continue
		}
		path, err := w.r.cfg.Volumes.EnsureSubPath(volume.SubPath{
			UID: w.uid, Volume: m.Volume, VolumePath: m.HostPath, Container: spec.Name, Index: i, Path: m.SubPath, Foreign: m.NodeWrites,
		})
		if err != nil {
			return &pod.ConfigError{Message: fmt.Sprintf("failed to prepare subPath for volumeMount %q of container %q: %s", m.Volume, spec.Name, err)}
		}
		m.HostPath, m.SubPath = path, ""
	}
	return nil
}

// podIPs are the addresses that containers are told.
func (r *round) podIPs() []string {
	if r.w.pod.Spec.HostNetwork {
		return r.desired.HostIPs
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandbox == nil {
		return nil
	}
	return r.sandbox.IPs
}

func (r *round) startContainer(ctx context.Context, s pod.StartContainer) error {
	release, err := r.start(ctx)
	if err != nil {
		return err
	}
	defer release()
	// The container may have been made before the pod had its addresses, which /etc/hosts holds.
	if _, err := r.files(ctx); err != nil {
		return r.trouble(ctx, s.Name, s.Kind, s.Attempt, reasonStart, err)
	}
	r.mu.Lock()
	id := cmp.Or(s.ID, r.ids[s.Name])
	r.mu.Unlock()
	if err := r.w.r.cfg.Runtime.Start(ctx, id); err != nil {
		return r.trouble(ctx, s.Name, s.Kind, s.Attempt, reasonStart, err)
	}
	r.w.clearTrouble(s.Name)
	r.w.containerEvent(s.Name, s.Kind, v1.EventTypeNormal, "Started", "Container started")
	return nil
}

// trouble remembers why an attempt is not running; Plan decides when to try again. The error
// is not a failed step: the step has been dealt with.
func (r *round) trouble(ctx context.Context, name string, kind pod.Kind, attempt int, reason string, err error) error {
	if ctx.Err() != nil {
		return err
	}
	w := r.w
	w.mu.Lock()
	t := w.troubles[name]
	if t.Attempt != attempt {
		t = pod.Trouble{Attempt: attempt}
	}
	changed := t.Message != err.Error()
	t.Count++
	t.At, t.Reason, t.Message = time.Now(), reason, err.Error()
	w.troubles[name] = t
	w.mu.Unlock()
	if changed {
		w.log.Warn("container does not run", "container", name, "attempt", attempt, "reason", reason, "err", err)
		w.note(fmt.Errorf("container %s: %w", name, err))
	}
	w.containerEvent(name, kind, v1.EventTypeWarning, "Failed", "Error: "+err.Error())
	return errLater
}

func (w *worker) clearTrouble(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.troubles, name)
}

func (w *worker) forgetImage(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.images, name)
}

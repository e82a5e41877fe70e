package runtime

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/image"
	"coracle/agent/logwriter"
	"coracle/agent/pod"
	"coracle/internal/fault"
)

// undoTimeout bounds taking back what a failed step has made; it is cut from the caller's cancellation.
const undoTimeout = 10 * time.Second

// Create makes a container's record, its root file system and, as far as that works, its task, which runs
// nothing yet. The image must be present, the sandbox complete and the volumes mounted; the network need
// not be attached. Creating again what is there returns the same id. Errors of class Invalid mean that the
// pod itself is wrong.
func (r *Runtime) Create(ctx context.Context, c pod.ContainerSpec) (string, error) {
	if c.Security == nil {
		return "", fault.Invalid("create container " + c.Name + ": it has no security context")
	}
	id := ContainerID(c.PodUID, c.Name, c.Attempt)
	if err := r.create(r.context(ctx), id, c); err != nil {
		return "", fmt.Errorf("create container %s of pod %s/%s: %w", c.Name, c.PodNamespace, c.PodName, err)
	}
	return id, nil
}

func (r *Runtime) create(ctx context.Context, id string, c pod.ContainerSpec) (err error) {
	record, err := r.readSandbox(c.PodUID)
	if err != nil {
		return err
	}
	img, err := r.cfg.Images.Get(ctx, c.Image)
	if err != nil {
		return err
	}
	mounts, made, err := r.prepareSnapshot(ctx, id, img, c)
	if err != nil || made {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.undoCreate(ctx, id))
		}
	}()
	spec, err := r.specOf(ctx, id, c, img, mounts, record)
	if err != nil {
		return err
	}
	reg := logwriter.Registration{LogPath: c.LogPath, TTY: c.TTY, Stdin: c.Stdin}
	if _, err := logwriter.Register(r.ioDir(), id, reg); err != nil {
		return err
	}
	if err := r.writeRecord(ctx, id, c, record.Handler, img, spec, reg); err != nil {
		return err
	}
	prep := prepared{mounts: mounts, io: reg, uid: c.PodUID, base: record.Base, label: spec.Linux.MountLabel}
	prep.pid = r.makeTaskEarly(ctx, id, prep)
	r.mu.Lock()
	r.owners[id] = c.PodUID
	r.fresh[id] = prep
	r.mu.Unlock()
	return nil
}

// makeTaskEarly has the OCI runtime prepare the container, the slow part of a start, while plugins still attach the
// pod's network. Where it does not work nothing is left, and Start makes the task and says why that fails.
func (r *Runtime) makeTaskEarly(ctx context.Context, id string, prep prepared) (pid uint32) {
	fifos := logwriter.PathsOf(r.ioDir(), id, prep.io)
	r.holdFIFOs(id, fifos)
	pid, state, err := r.makeTask(ctx, id, prep, fifos)
	if err == nil && state == tasktypes.Status_CREATED {
		return pid
	}
	r.log.Debug("task is left to the start", "container", id, "state", state.String(), "err", err)
	return 0
}

// prepareSnapshot makes the container's own layer over the image's. made is true when the whole
// container was there before.
func (r *Runtime) prepareSnapshot(ctx context.Context, id string, img image.Image, c pod.ContainerSpec) (mounts []mount.Mount, made bool, err error) {
	labels := map[string]string{labelUID: string(c.PodUID), labelGCRoot: time.Now().UTC().Format(time.RFC3339)}
	mounts, err = r.snapshotter().Prepare(ctx, id, img.ChainID, snapshots.WithLabels(labels))
	if err == nil {
		return mounts, false, nil
	}
	if !isConflict(err) {
		return nil, false, fmt.Errorf("make root file system: %w", classify(err))
	}
	have, err := r.containers().Get(ctx, id)
	if err == nil {
		if have.Labels[labelUID] != string(c.PodUID) {
			return nil, false, fault.As(fault.ErrConflict, fmt.Errorf("id %s belongs to pod %s", id, have.Labels[labelUID]))
		}
		return nil, true, nil
	}
	if !isNotFound(err) {
		return nil, false, classify(err)
	}
	mounts, err = r.snapshotter().Mounts(ctx, id) // of a creation that was cut short
	if err != nil {
		return nil, false, fmt.Errorf("make root file system: %w", classify(err))
	}
	return mounts, false, nil
}

func (r *Runtime) specOf(ctx context.Context, id string, c pod.ContainerSpec, img image.Image, mounts []mount.Mount, record sandboxRecord) (*specs.Spec, error) {
	acc, err := r.readAccounts(ctx, img.ID, mounts)
	if err != nil {
		return nil, err
	}
	who, err := resolveUser(c, img.User, acc)
	if err != nil {
		return nil, err
	}
	if err := checkPropagation(c.Mounts); err != nil {
		return nil, err
	}
	appArmor, err := r.appArmorFor(ctx, c.Security)
	if err != nil {
		return nil, err
	}
	label, err := r.selinuxFor(c)
	if err != nil {
		return nil, err
	}
	if err := relabel(c.Mounts, label.file, c.TerminationMessageHostPath); err != nil {
		return nil, err
	}
	profile, err := localhostSeccomp(r.cfg.SeccompDir, c.Security)
	if err != nil {
		return nil, err
	}
	if record.Base != 0 {
		if err := r.mapMounts(id, &c); err != nil {
			return nil, err
		}
	}
	in := specInput{
		Base: record.Base,
		ID:   id, Container: c, Image: img, User: who, Paths: r.paths(c.PodUID, record),
		Group: groupOf(c, record.Group), Host: r.host, Seccomp: profile, AppArmor: appArmor, SELinux: label, SeccompDefault: r.cfg.SeccompDefault,
	}
	if in.Devices, in.DeviceRules, err = givenDevices(c.Devices); err != nil {
		return nil, err
	}
	if isPrivileged(c) {
		if in.Host.Devices, err = hostDevices("/dev"); err != nil {
			return nil, err
		}
	}
	if c.TargetContainer != "" {
		if in.Target, err = r.processNamespace(ctx, c.PodUID, c.TargetContainer); err != nil {
			return nil, err
		}
	}
	in.Shm = "/dev/shm"
	if record.Shm {
		in.Shm = filepath.Join(r.podDir(c.PodUID), "shm")
	}
	return buildSpec(in)
}

func (r *Runtime) writeRecord(ctx context.Context, id string, c pod.ContainerSpec, handler string, img image.Image, spec *specs.Spec, reg logwriter.Registration) error {
	any, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("write OCI spec: %w", err)
	}
	info, err := r.runtimeInfo(handler)
	if err != nil {
		return err
	}
	labels, err := labelsOf(c, img.RepoDigest, stopSignal(c, img), r.bootID, reg)
	if err != nil {
		return err
	}
	labels[labelUser] = userLabel(spec.Process.User)
	_, err = r.containers().Create(ctx, containers.Container{
		ID: id, Labels: labels, Image: img.Ref, Runtime: info, Spec: any,
		Snapshotter: r.cfg.Images.Snapshotter(), SnapshotKey: id,
	})
	if err != nil {
		return fmt.Errorf("write container record: %w", classify(err))
	}
	return nil
}

func stopSignal(c pod.ContainerSpec, img image.Image) string {
	for _, s := range []string{c.StopSignal, img.StopSignal} {
		if s != "" {
			return s
		}
	}
	return "SIGTERM"
}

func (r *Runtime) undoCreate(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return errors.Join(logwriter.Unregister(r.ioDir(), id), ignoreNotFound(r.snapshotter().Remove(ctx, id)))
}

// sweepSnapshots removes the snapshots of a pod that no container's record names.
func (r *Runtime) sweepSnapshots(ctx context.Context, uid types.UID) error {
	ctx = r.context(ctx)
	var keys []string
	err := r.snapshotter().Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		keys = append(keys, info.Name)
		return nil
	}, fmt.Sprintf("labels.%q==%q", labelUID, string(uid)))
	if err != nil {
		return fmt.Errorf("list snapshots: %w", classify(err))
	}
	var errs []error
	for _, key := range keys {
		if err := ignoreNotFound(r.snapshotter().Remove(ctx, key)); err != nil {
			errs = append(errs, fmt.Errorf("remove snapshot %s: %w", key, err))
		}
		errs = append(errs, logwriter.Unregister(r.ioDir(), key))
	}
	return errors.Join(errs...)
}

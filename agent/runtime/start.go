package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	apitypes "github.com/containerd/containerd/api/types"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/logwriter"
	"coracle/internal/fault"
)

// startMark is written beside a container's FIFOs once its task is made and before it runs:
// without a task and with a mark it has run and is lost; without both it never ran.
type startMark struct {
	StartedAt time.Time `json:"startedAt"`
	PID       uint32    `json:"pid"`
}

// Start makes the task and runs the container's command; started already is no error. Where the
// OCI runtime refuses, the container is from then on observed as Exited with the runtime's
// words, and the error is a *StartError. Other errors leave it startable.
func (r *Runtime) Start(ctx context.Context, id string) error {
	ctx = r.context(ctx)
	prep, err := r.prepared(ctx, id)
	if err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	if prep.pid != 0 {
		err = r.runTask(ctx, id, prep.pid)
	}
	if prep.pid == 0 || isNotFound(err) { // the second: its shim has died since
		err = r.makeAndRunTask(ctx, id, prep)
	}
	if err == nil {
		r.mu.Lock()
		delete(r.fresh, id)
		r.mu.Unlock()
		return nil
	}
	if isUnavailable(err) || isNotFound(err) || isConflict(err) || ctx.Err() != nil || errors.Is(err, errMark) || errors.Is(err, errIO) {
		return fmt.Errorf("start container %s: %w", id, classify(err))
	}
	return r.failStart(ctx, id, startError(err))
}

// What fails on the agent's side leaves the container startable.
var (
	errMark = errors.New("write start mark")
	errIO   = errors.New("prepare output")
)

// prepared is what Create left in memory, or the same asked from containerd.
func (r *Runtime) prepared(ctx context.Context, id string) (prepared, error) {
	r.mu.Lock()
	prep, ok := r.fresh[id]
	r.mu.Unlock()
	if ok {
		return prep, nil
	}
	record, err := r.containers().Get(ctx, id)
	if err != nil {
		return prepared{}, classify(err)
	}
	if prep.io, err = parseIO(record.Labels[labelIO]); err != nil {
		return prepared{}, err
	}
	if record.SnapshotKey == "" {
		return prep, nil
	}
	prep.uid = types.UID(record.Labels[labelUID])
	if sandbox, err := r.readSandbox(prep.uid); err == nil {
		prep.base = sandbox.Base
	}
	if r.host.SELinux {
		if spec, err := specIn(record); err == nil && spec.Linux != nil {
			prep.label = spec.Linux.MountLabel
		}
	}
	if prep.mounts, err = r.snapshotter().Mounts(ctx, record.SnapshotKey); err != nil {
		return prepared{}, fmt.Errorf("find root file system: %w", classify(err))
	}
	return prep, nil
}

func (r *Runtime) makeAndRunTask(ctx context.Context, id string, prep prepared) error {
	fifos, err := logwriter.Register(r.ioDir(), id, prep.io) // there, unless the run directory was lost
	if err != nil {
		return fmt.Errorf("%w: %w", errIO, err)
	}
	r.holdFIFOs(id, fifos)
	pid, state, err := r.makeTask(ctx, id, prep, fifos)
	if err != nil || state != tasktypes.Status_CREATED {
		return err
	}
	return r.runTask(ctx, id, pid)
}

// makeTask has the shim and the OCI runtime prepare the container, or finds that they have.
func (r *Runtime) makeTask(ctx context.Context, id string, prep prepared, fifos logwriter.Paths) (pid uint32, state tasktypes.Status, err error) {
	if prep.base != 0 {
		var done func() error
		if prep.mounts, done, err = r.mapRoot(prep.uid, id, prep.base, prep.mounts); err != nil {
			return 0, 0, err
		}
		defer func() { err = errors.Join(err, done()) }()
	}
	if err := relabel(nil, prep.label, filepath.Join(r.ioDir(), id)); err != nil {
		return 0, 0, err
	}
	response, err := r.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: id, Rootfs: rootfs(withContext(prep.mounts, prep.label)), Terminal: prep.io.TTY,
		Stdin: fifos.Stdin, Stdout: fifos.Stdout, Stderr: fifos.Stderr,
	})
	if err == nil {
		return response.Pid, tasktypes.Status_CREATED, nil
	}
	if !isConflict(err) {
		return 0, 0, err
	}
	have, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return 0, 0, err
	}
	return have.Process.Pid, have.Process.Status, nil
}

func rootfs(mounts []mount.Mount) []*apitypes.Mount {
	out := make([]*apitypes.Mount, 0, len(mounts))
	for _, m := range mounts {
		out = append(out, &apitypes.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return out
}

func (r *Runtime) runTask(ctx context.Context, id string, pid uint32) error {
	mark, err := json.Marshal(startMark{StartedAt: time.Now(), PID: pid})
	if err != nil {
		return fmt.Errorf("%w: %w", errMark, err)
	}
	if err := os.WriteFile(r.markPath(id), mark, 0o600); err != nil {
		return fmt.Errorf("%w: %w", errMark, err)
	}
	_, err = r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: id})
	if isNotFound(err) { // there was no task to start: it must not count as one that ran and is lost
		err = errors.Join(err, os.Remove(r.markPath(id)))
	}
	return err
}

func (r *Runtime) markPath(id string) string { return filepath.Join(r.ioDir(), id, "started") }

func (r *Runtime) readMark(id string) (startMark, bool) {
	data, err := os.ReadFile(r.markPath(id))
	if err != nil {
		return startMark{}, false
	}
	var mark startMark
	if err := json.Unmarshal(data, &mark); err != nil {
		return startMark{}, true // it ran, whatever the file says
	}
	return mark, true
}

// failStart records why the container cannot run and removes what there is of its task.
func (r *Runtime) failStart(ctx context.Context, id string, cause *StartError) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
	errs := []error{fmt.Errorf("start container %s: %w", id, cause), ignoreNotFound(err)}
	errs = append(errs, r.recordExit(ctx, id, exitRecord{
		Code: cause.ExitCode, Reason: cause.Reason, Message: cause.Message, Finished: time.Now(),
	}))
	r.releaseFIFOs(id)
	return errors.Join(errs...)
}

// recordExit writes how a container ended to its record.
func (r *Runtime) recordExit(ctx context.Context, id string, exit exitRecord) error {
	label, err := exit.label()
	if err != nil {
		return err
	}
	_, err = r.containers().Update(ctx, containers.Container{ID: id, Labels: map[string]string{labelExit: label}}, "labels."+labelExit)
	if err != nil {
		return fmt.Errorf("record exit of container %s: %w", id, classify(err))
	}
	return nil
}

// holdFIFOs keeps a reading end of each output FIFO until the container is removed, so that the
// shim finds a reader when it opens them and what is unread outlives a log writer that is down.
func (r *Runtime) holdFIFOs(id string, paths logwriter.Paths) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.fifos[id]) > 0 {
		return
	}
	for _, path := range []string{paths.Stdout, paths.Stderr} {
		if path == "" {
			continue
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			r.log.Error("container output is not held", "container", id, "err", err)
			continue
		}
		r.fifos[id] = append(r.fifos[id], os.NewFile(uintptr(fd), path))
	}
}

func (r *Runtime) releaseFIFOs(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.fifos[id] {
		_ = f.Close() // a reading end has nothing to lose
	}
	delete(r.fifos, id)
}

// StartErrorOf finds the *StartError in an error of Start; nil where there is none.
func StartErrorOf(err error) *StartError {
	var e *StartError
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// notThere is true for errors that say that a container or task is gone.
func notThere(err error) bool { return errors.Is(err, fault.ErrNotFound) || isNotFound(err) }

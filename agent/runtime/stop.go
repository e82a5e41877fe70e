package runtime

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"coracle/agent/logwriter"
	"coracle/internal/fault"
)

// killTimeout bounds how long Remove waits for a container that it had to kill; the kernel may
// take its time over one that is writing to a slow disk.
const killTimeout = 30 * time.Second

// How long containerd may take to clean up after a shim that died: one run of its shim binary
// for each container.
const (
	shimCleanupPause = 50 * time.Millisecond
	shimCleanupTries = 100
)

// Signal sends a signal to the container's first process; an empty name is the container's own
// stop signal. To one that does not run, or is gone, it does nothing. SIGKILL reaches every
// process of a container whose first process is not the first of its namespace.
func (r *Runtime) Signal(ctx context.Context, id string, name string) error {
	ctx = r.context(ctx)
	record, err := r.containers().Get(ctx, id)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("signal container %s: %w", id, classify(err))
	}
	if name == "" {
		name = record.Labels[labelStopSignal]
	}
	number, err := signalNumber(name)
	if err != nil {
		return fmt.Errorf("signal container %s: %w", id, err)
	}
	targets := []bool{false} // the first process; true is all of them
	if number == unix.SIGKILL && record.Labels[labelShares] == "true" {
		targets = append(targets, true)
	}
	for _, all := range targets {
		_, err = r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(number), All: all})
		if err != nil && !notThere(err) && !finished(err) {
			return fmt.Errorf("signal container %s with %s: %w", id, name, classify(err))
		}
	}
	return nil
}

// finished is true for the words in which OCI runtimes say that there is nothing to signal.
func finished(err error) bool {
	text := err.Error()
	return strings.Contains(text, "process already finished") || strings.Contains(text, "container not running") ||
		strings.Contains(text, "no such process")
}

// signalNumber reads "SIGTERM", "TERM", "15" and the real-time signals "SIGRTMIN+3", "SIGRTMAX-1".
func signalNumber(name string) (unix.Signal, error) {
	text := strings.ToUpper(strings.TrimSpace(name))
	if text == "" {
		return unix.SIGTERM, nil
	}
	if n, err := strconv.Atoi(text); err == nil {
		if n < 1 || n > 64 {
			return 0, fault.Invalid(fmt.Sprintf("signal %q is out of range", name))
		}
		return unix.Signal(n), nil
	}
	if !strings.HasPrefix(text, "SIG") {
		text = "SIG" + text
	}
	if n := unix.SignalNum(text); n != 0 {
		return n, nil
	}
	for _, base := range []struct {
		name string
		at   int
	}{{"SIGRTMIN", 34}, {"SIGRTMAX", 64}} { // the C library keeps 32 and 33 for itself
		rest, ok := strings.CutPrefix(text, base.name)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				break
			}
		}
		if n := base.at + offset; n >= 34 && n <= 64 {
			return unix.Signal(n), nil
		}
	}
	return 0, fault.Invalid(fmt.Sprintf("signal %q is unknown", name))
}

// Remove removes a container with its task, shim's share, snapshot and FIFOs, killing it where
// it still runs. The record goes last: what is half removed is found again. Idempotent.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	ctx = r.context(ctx)
	if err := r.deleteTask(ctx, id); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	if err := r.snapshotter().Remove(ctx, id); ignoreNotFound(err) != nil {
		return fmt.Errorf("remove container %s: remove snapshot: %w", id, classify(err))
	}
	if err := logwriter.Unregister(r.ioDir(), id); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	r.releaseFIFOs(id)
	if err := r.unmapMounts(id); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	if err := r.containers().Delete(ctx, id); ignoreNotFound(err) != nil {
		return fmt.Errorf("remove container %s: %w", id, classify(err))
	}
	r.mu.Lock()
	delete(r.owners, id)
	delete(r.fresh, id)
	r.mu.Unlock()
	return nil
}

func (r *Runtime) deleteTask(ctx context.Context, id string) error {
	err := r.deleteEnded(ctx, id)
	if err == nil || notThere(err) {
		return nil
	}
	if !isConflict(err) && !strings.Contains(err.Error(), "cannot delete a running process") {
		return fmt.Errorf("delete task: %w", classify(err))
	}
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	// The first process by itself: runc finds "all" in a cgroup that systemd may have moved. All the
	// others afterwards, where they do not end with it.
	for _, all := range []bool{false, true} {
		_, err = r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: id, Signal: uint32(unix.SIGKILL), All: all})
		if err != nil && !all && !notThere(err) && !finished(err) { // that there are no others is said in many ways
			return fmt.Errorf("kill: %w", classify(err))
		}
	}
	if _, err := r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: id}); err != nil && !notThere(err) {
		return fmt.Errorf("wait for its end: %w", classify(err))
	}
	if err := r.deleteEnded(ctx, id); err != nil && !notThere(err) {
		return fmt.Errorf("delete task: %w", classify(err))
	}
	return nil
}

// deleteEnded deletes a task that has ended. While containerd cleans up after a shim that died
// it answers that the connection is closed: that passes, and is waited for.
func (r *Runtime) deleteEnded(ctx context.Context, id string) error {
	tick := time.NewTicker(shimCleanupPause)
	defer tick.Stop()
	for try := 0; ; try++ {
		_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		if err == nil || try >= shimCleanupTries || !strings.Contains(err.Error(), "ttrpc: closed") {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

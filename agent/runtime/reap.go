package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"

	"coracle/agent/logwriter"
)

const (
	// reapDelay is how long the task of a container that ended is kept: long enough for the pod's
	// next container to start in the same shim, which else would end and be started anew.
	reapDelay = 5 * time.Second
	// drainPatience is how long the end of a container waits to be seen until its log is whole:
	// milliseconds, unless a process of another container holds its output.
	drainPatience = 300 * time.Millisecond
)

// reaper is the queue of ended containers whose tasks hold a shim, a mount and a group for
// nothing: how they ended is on their records.
type reaper struct {
	delay time.Duration
	queue []dueReap
	have  map[string]bool
}

type dueReap struct {
	id string
	at time.Time
}

func newReaper(delay time.Duration) *reaper { return &reaper{delay: delay, have: map[string]bool{}} }

func (q *reaper) add(id string, now time.Time) {
	if !q.have[id] {
		q.have[id] = true
		q.queue = append(q.queue, dueReap{id, now.Add(q.delay)})
	}
}

// next is when the first is due; a channel that never fires where there is none.
func (q *reaper) next(now time.Time) (<-chan time.Time, func() bool) {
	if len(q.queue) == 0 {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(q.queue[0].at.Sub(now))
	return timer.C, timer.Stop
}

func (q *reaper) take() string {
	id := q.queue[0].id
	q.queue = q.queue[1:]
	delete(q.have, id)
	return id
}

// reap writes down how a container ended, if nobody has, and lets go of its task. The record and
// the root file system stay until Remove.
func (r *Runtime) reap(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(r.context(ctx), undoTimeout)
	defer cancel()
	record, err := r.containers().Get(ctx, id)
	if notThere(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reap container %s: %w", id, classify(err))
	}
	if record.Labels[labelUID] == "" || record.Labels[labelKind] == kindInit {
		return nil
	}
	if record.Labels[labelExit] == "" {
		response, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
		if notThere(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reap container %s: %w", id, classify(err))
		}
		if response.Process.Status != tasktypes.Status_STOPPED {
			return nil
		}
		if _, err := r.appendObserved(ctx, nil, record, response.Process); err != nil {
			return fmt.Errorf("reap container %s: %w", id, err)
		}
	}
	if _, err := logwriter.Read(r.ioDir(), id); err == nil {
		draining, cancel := context.WithTimeout(ctx, drainPatience)
		defer cancel()
		if err := logwriter.Drain(draining, r.cfg.LogSocket, id); err != nil {
			return fmt.Errorf("reap container %s: %w", id, err) // what it wrote is still in the pipe
		}
	}
	if err := r.deleteEnded(ctx, id); err != nil && !notThere(err) {
		return fmt.Errorf("reap container %s: %w", id, classify(err))
	}
	r.releaseFIFOs(id)
	return logwriter.Unregister(r.ioDir(), id)
}

// drainBriefly waits until the container's output is in its log, as whoever sees the end reads it next.
func (r *Runtime) drainBriefly(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	if err := logwriter.Drain(ctx, r.cfg.LogSocket, id); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		r.log.Debug("log of an ended container may lag", "container", id, "err", err)
	}
}

// takeUp looks through what an earlier agent has left: it holds the output of running containers
// and queues the ended ones.
func (r *Runtime) takeUp(ctx context.Context, pending *pending, reaps *reaper) error {
	ctx = r.context(ctx)
	response, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return fmt.Errorf("list tasks: %w", classify(err))
	}
	for _, task := range response.Tasks {
		if task.Status == tasktypes.Status_STOPPED {
			reaps.add(task.ID, time.Now())
			continue
		}
		if reg, err := logwriter.Read(r.ioDir(), task.ID); err == nil {
			r.holdFIFOs(task.ID, logwriter.PathsOf(r.ioDir(), task.ID, reg))
		}
	}
	r.nameAll(pending)
	return nil
}

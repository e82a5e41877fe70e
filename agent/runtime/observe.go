package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// maxTermination is how much of a termination message counts.
const maxTermination = 4096

// The kubelet's words for a container whose end nobody saw.
const (
	unknownReason  = "ContainerStatusUnknown"
	unknownCode    = 137
	unknownMessage = "The container could not be located when the pod was looked at; it ended with the machine or its shim"
)

// ObserveAll reads everything that the node holds, keyed by pod uid: two calls to containerd
// whatever the number of containers. Volumes and Cgroup are left to others.
func (r *Runtime) ObserveAll(ctx context.Context) (map[types.UID]pod.Observed, error) {
	ctx = r.context(ctx)
	records, err := r.containers().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", classify(err))
	}
	response, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", classify(err))
	}
	byID := make(map[string]*tasktypes.Process, len(response.Tasks))
	for _, t := range response.Tasks {
		byID[t.ID] = t
	}
	out := map[types.UID]pod.Observed{}
	entries, err := os.ReadDir(filepath.Join(r.cfg.RunDir, "pods"))
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	for _, e := range entries {
		r.observeSandbox(out, types.UID(e.Name()))
	}
	for _, record := range records {
		uid := types.UID(record.Labels[labelUID])
		if uid == "" {
			continue // somebody else's
		}
		o, ok := out[uid]
		if !ok {
			o = pod.Observed{UID: uid, Namespace: record.Labels[labelNamespace], Name: record.Labels[labelPod]}
		}
		if o.Containers, err = r.appendObserved(ctx, o.Containers, record, byID[record.ID]); err != nil {
			return nil, err
		}
		out[uid] = o
	}
	return out, nil
}

// Observe reads what the node holds of one pod; nothing of it is the zero value with the uid.
func (r *Runtime) Observe(ctx context.Context, uid types.UID) (pod.Observed, error) {
	ctx = r.context(ctx)
	all := map[types.UID]pod.Observed{}
	r.observeSandbox(all, uid)
	o := all[uid]
	o.UID = uid
	records, err := r.containers().List(ctx, fmt.Sprintf("labels.%q==%q", labelUID, string(uid)))
	if err != nil {
		return pod.Observed{}, fmt.Errorf("observe pod %s: %w", uid, classify(err))
	}
	for _, record := range records {
		if o.Name == "" {
			o.Namespace, o.Name = record.Labels[labelNamespace], record.Labels[labelPod]
		}
		var task *tasktypes.Process
		if record.Labels[labelExit] == "" {
			response, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: record.ID})
			if err != nil && !notThere(err) {
				return pod.Observed{}, fmt.Errorf("observe pod %s: %w", uid, classify(err))
			}
			if err == nil {
				task = response.Process
			}
		}
		if o.Containers, err = r.appendObserved(ctx, o.Containers, record, task); err != nil {
			return pod.Observed{}, fmt.Errorf("observe pod %s: %w", uid, err)
		}
	}
	return o, nil
}

func (r *Runtime) observeSandbox(out map[types.UID]pod.Observed, uid types.UID) {
	record, err := r.readSandbox(uid)
	if err != nil {
		return
	}
	out[uid] = pod.Observed{UID: uid, Namespace: record.Namespace, Name: record.Name, Sandbox: r.sandbox(uid, record)}
}

// appendObserved adds one container, writing down how it ended where that is seen for the first time.
func (r *Runtime) appendObserved(ctx context.Context, list []pod.Container, record containers.Container, task *tasktypes.Process) ([]pod.Container, error) {
	if record.Labels[labelKind] == kindInit {
		return list, nil // part of the sandbox
	}
	r.mu.Lock()
	r.owners[record.ID] = types.UID(record.Labels[labelUID])
	r.mu.Unlock()
	c := pod.Container{
		ID: record.ID, Name: record.Labels[labelName], Kind: pod.Kind(record.Labels[labelKind]),
		Fingerprint: record.Labels[labelFingerprint], Image: record.Image, ImageID: record.Labels[labelImageID],
		CreatedAt: record.CreatedAt, EarlierBoot: record.Labels[labelBoot] != r.bootID,
		User: parseUser(record.Labels[labelUser]), Resources: parseResources(record.Labels[labelResources]),
	}
	c.Attempt, _ = strconv.Atoi(record.Labels[labelAttempt])
	if label := record.Labels[labelExit]; label != "" {
		exit, err := parseExit(label)
		if err != nil { // the record is damaged: it ended, more is not known
			exit = exitRecord{Code: unknownCode, Reason: unknownReason, Message: unknownMessage}
		}
		return append(list, exited(c, record, exit)), nil
	}
	mark, marked := r.readMark(record.ID)
	switch {
	case task == nil && !marked && !c.EarlierBoot:
		c.State = pod.Created
	case task == nil:
		exit := exitRecord{Code: unknownCode, Reason: unknownReason, Message: unknownMessage, Started: mark.StartedAt, Finished: time.Now()}
		if exit.Started.IsZero() { // the mark was in /run
			exit.Started = record.CreatedAt
		}
		if err := r.recordExit(ctx, record.ID, exit); err != nil && !errors.Is(err, fault.ErrNotFound) {
			return nil, err
		}
		return append(list, exited(c, record, exit)), nil
	case task.Status == tasktypes.Status_STOPPED:
		r.drainBriefly(ctx, record.ID)
		exit := r.exitOf(record, task, mark)
		if err := r.recordExit(ctx, record.ID, exit); err != nil && !errors.Is(err, fault.ErrNotFound) {
			return nil, err
		}
		return append(list, exited(c, record, exit)), nil
	case task.Status == tasktypes.Status_CREATED:
		c.State, c.PID = pod.Created, int(task.Pid)
	default:
		c.State, c.PID, c.StartedAt = pod.Running, int(task.Pid), mark.StartedAt
		if c.StartedAt.IsZero() {
			c.StartedAt = record.CreatedAt
		}
	}
	return append(list, c), nil
}

func exited(c pod.Container, record containers.Container, exit exitRecord) pod.Container {
	c.State = pod.Exited
	c.ExitCode, c.OOMKilled, c.StartedAt, c.FinishedAt = exit.Code, exit.OOM, exit.Started, exit.Finished
	c.Reason, c.Message = exit.Reason, exit.Message
	if c.Message == "" {
		c.Message = terminationMessage(record.Labels[labelTermination])
	}
	return c
}

func (r *Runtime) exitOf(record containers.Container, task *tasktypes.Process, mark startMark) exitRecord {
	exit := exitRecord{Code: int(task.ExitStatus), Started: mark.StartedAt, Finished: time.Now()}
	if task.ExitedAt != nil && task.ExitedAt.IsValid() {
		exit.Finished = task.ExitedAt.AsTime()
	}
	if exit.Started.IsZero() {
		exit.Started = record.CreatedAt
	}
	exit.OOM = r.oomKilled(record)
	return exit
}

// terminationMessage reads what a container left there; nothing is no message.
func terminationMessage(path string) string {
	if path == "" {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTermination))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(data), "")
}

// LastLog reads the end of a container's log, for a termination message that falls back to it:
// at most lines lines and size bytes, without the CRI prefixes.
func LastLog(path string, lines, size int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read end of log: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read end of log: %w", err)
	}
	from := max(st.Size()-int64(size)*4-int64(lines)*64, 0) // prefixes take their share
	data := make([]byte, st.Size()-from)
	if _, err := f.ReadAt(data, from); err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read end of log: %w", err)
	}
	return lastLines(string(data), lines, size), nil
}

func lastLines(raw string, lines, size int) string {
	entries := strings.Split(strings.TrimSuffix(raw, "\n"), "\n")
	var parts []string
	seen := 0
	for _, entry := range slices.Backward(entries) {
		fields := strings.SplitN(entry, " ", 4)
		if len(fields) < 4 {
			break // the cut-off beginning
		}
		if fields[2] == "F" {
			if seen++; seen > lines {
				break
			}
			parts = append(parts, fields[3]+"\n")
		} else {
			parts = append(parts, fields[3])
		}
	}
	slices.Reverse(parts)
	text := strings.Join(parts, "")
	if len(text) > size {
		text = text[len(text)-size:]
	}
	return strings.ToValidUTF8(text, "")
}

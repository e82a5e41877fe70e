package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	v1 "k8s.io/api/core/v1"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// Update gives a running container the resources of c, and notes them on its record so that they are observed. A memory
// limit below what the container uses is refused: the kernel would kill for it. Repeating it does no harm.
func (r *Runtime) Update(ctx context.Context, id string, c pod.ContainerSpec) error {
	if err := r.update(r.context(ctx), id, c); err != nil {
		return fmt.Errorf("update container %s: %w", c.Name, err)
	}
	return nil
}

func (r *Runtime) update(ctx context.Context, id string, c pod.ContainerSpec) error {
	record, err := r.containers().Get(ctx, id)
	if err != nil {
		return classify(err)
	}
	if limit := c.Resources.Limits[v1.ResourceMemory]; !limit.IsZero() {
		if used := r.memoryUsed(record); used > limit.Value() {
			return fault.As(fault.ErrConflict, fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)", c.Name, limit.Value(), used))
		}
	}
	any, err := typeurl.MarshalAny(resized(c, r.host))
	if err != nil {
		return fmt.Errorf("write resources: %w", err)
	}
	if _, err := r.client.TaskService().Update(ctx, &tasks.UpdateTaskRequest{ContainerID: id, Resources: typeurl.MarshalProto(any)}); err != nil {
		return classify(err)
	}
	label, err := resourcesLabel(c.Resources)
	if err != nil {
		return err
	}
	_, err = r.containers().Update(ctx, containers.Container{ID: id, Labels: map[string]string{labelResources: label}}, "labels."+labelResources)
	if err != nil {
		return fmt.Errorf("note resources: %w", classify(err))
	}
	return nil
}

// resourcesLabel is the CPU and memory that a container was given; empty for one that has neither.
func resourcesLabel(r v1.ResourceRequirements) (string, error) {
	r = pod.Compute(r)
	if len(r.Requests)+len(r.Limits) == 0 {
		return "", nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("write resources: %w", err)
	}
	return string(data), nil
}

// parseResources reads what resourcesLabel wrote; nil where nothing, or nothing legible, was noted.
func parseResources(label string) *v1.ResourceRequirements {
	if label == "" {
		return nil
	}
	r := &v1.ResourceRequirements{}
	if err := json.Unmarshal([]byte(label), r); err != nil {
		return nil
	}
	return r
}

// memoryUsed is what the container's group holds in memory that cannot be given back at once; 0 where that cannot be told.
func (r *Runtime) memoryUsed(record containers.Container) int64 {
	for _, dir := range r.memoryGroups(record) {
		for _, file := range []string{"memory.usage_in_bytes", "memory.current"} {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

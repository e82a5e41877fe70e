package runtime

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

// processNamespace is the path of a running container's process namespace, for a container that is to look at it.
func (r *Runtime) processNamespace(ctx context.Context, uid types.UID, container string) (string, error) {
	o, err := r.Observe(ctx, uid)
	if err != nil {
		return "", err
	}
	for _, c := range o.Containers {
		if c.Name == container && c.State == pod.Running && c.PID > 0 {
			return fmt.Sprintf("/proc/%d/ns/pid", c.PID), nil
		}
	}
	return "", fault.As(fault.ErrUnavailable, fmt.Errorf("unable to find target container %q: it does not run", container))
}

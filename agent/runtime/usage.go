package runtime

import (
	"context"
	"fmt"
)

// RootfsUsage is what a container has written into its root file system: bytes and inodes. The snapshotter
// counts them by walking, so it is asked only when somebody wants to know.
func (r *Runtime) RootfsUsage(ctx context.Context, id string) (bytes, inodes int64, err error) {
	usage, err := r.snapshotter().Usage(r.context(ctx), id)
	if err != nil {
		return 0, 0, fmt.Errorf("usage of the root file system of container %s: %w", id, classify(err))
	}
	return usage.Size, usage.Inodes, nil
}

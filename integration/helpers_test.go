package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

type pod = corev1.Pod

// exitCode is that of a command run by output: 0 for nil, -1 where it did not run.
func exitCode(err error) int {
	var failed *commandError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		return failed.code
	default:
		return -1
	}
}

// started wants each container to have run.
func started(p *pod) error {
	for _, cs := range p.Status.ContainerStatuses {
		if cs.State.Running != nil || cs.State.Terminated != nil || cs.LastTerminationState.Terminated != nil {
			continue
		}
		return fmt.Errorf("container %s of pod %s has not run: %+v", cs.Name, p.Name, cs.State)
	}
	if len(p.Status.ContainerStatuses) == 0 {
		return fmt.Errorf("pod %s has no container statuses", p.Name)
	}
	return nil
}

func writeFile(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

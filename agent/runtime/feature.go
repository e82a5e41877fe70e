package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Features are abilities that not every kernel and OCI runtime has.
type Features struct {
	// RecursiveReadOnly: mounts can be made read-only with all that is mounted below them.
	RecursiveReadOnly bool
	// UserNamespaces: pods can have users of their own.
	UserNamespaces bool
}

// askTimeout bounds a question to the OCI runtime's program, which answers from its own knowledge.
const askTimeout = 10 * time.Second

// Features finds out once what containers can be given here. Where the OCI runtime cannot be
// asked, nothing is claimed and the next call asks again.
func (r *Runtime) Features(ctx context.Context) Features {
	r.mu.Lock()
	known := r.features
	r.mu.Unlock()
	if known != nil {
		return *known
	}
	chosen, err := r.chooseRuntime()
	if err != nil {
		return Features{}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	options, err := exec.CommandContext(ctx, chosen.path, "features").Output()
	var refused *exec.ExitError
	if err != nil && !errors.As(err, &refused) {
		return Features{}
	}
	version := []byte(nil)
	if err != nil { // older than the question
		if version, err = exec.CommandContext(ctx, chosen.path, "--version").Output(); err != nil {
			return Features{}
		}
	}
	found := Features{UserNamespaces: UserNamespaceObstacle() == nil, RecursiveReadOnly: hasMountAttributes() && knowsRecursiveReadOnly(filepath.Base(chosen.path), options, string(version))}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.features = &found
	return found
}

// hasMountAttributes asks for mount_setattr(2), Linux 5.12, in a way that changes nothing.
func hasMountAttributes() bool {
	err := unix.MountSetattr(-1, "", 0, &unix.MountAttr{})
	return !errors.Is(err, unix.ENOSYS)
}

// knowsRecursiveReadOnly reads the answer of "features" (OCI runtime spec, features.md). crun before 1.10 has no
// such answer, and knows the option since 1.4.
func knowsRecursiveReadOnly(program string, features []byte, version string) bool {
	var answer struct {
		MountOptions []string `json:"mountOptions"`
	}
	if json.Unmarshal(features, &answer) == nil && len(answer.MountOptions) > 0 {
		return slices.Contains(answer.MountOptions, "rro")
	}
	if program != "crun" {
		return false
	}
	_, rest, ok := strings.Cut(version, "crun version ")
	if !ok {
		return false
	}
	parts := strings.SplitN(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]), ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 1 || major == 1 && minor >= 4)
}

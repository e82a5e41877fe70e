package runtime

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"

	"coracle/internal/fault"
)

// toNative turns gRPC statuses into containerd's errors; what is one already keeps its identity.
func toNative(err error) error {
	if _, ok := status.FromError(err); ok {
		return errgrpc.ToNative(err)
	}
	return err
}

// classify gives containerd's errors one of the four classes and keeps their words.
func classify(err error) error {
	if err == nil {
		return nil
	}
	native := toNative(err)
	switch {
	case errdefs.IsNotFound(native):
		return fault.As(fault.ErrNotFound, native)
	case errdefs.IsAlreadyExists(native), errdefs.IsFailedPrecondition(native):
		return fault.As(fault.ErrConflict, native)
	case errdefs.IsInvalidArgument(native):
		return fault.As(fault.ErrInvalid, native)
	case errdefs.IsUnavailable(native), errdefs.IsDeadlineExceeded(native), errors.Is(native, context.DeadlineExceeded),
		strings.Contains(native.Error(), "ttrpc: closed"):
		return fault.As(fault.ErrUnavailable, native)
	}
	return native
}

// isNotFound, isConflict and isUnavailable classify and ask.
func isNotFound(err error) bool    { return errors.Is(classify(err), fault.ErrNotFound) }
func isConflict(err error) bool    { return errors.Is(classify(err), fault.ErrConflict) }
func isUnavailable(err error) bool { return errors.Is(classify(err), fault.ErrUnavailable) }

func ignoreNotFound(err error) error {
	if isNotFound(err) {
		return nil
	}
	return classify(err)
}

// StartError is why a container could not be started, in the OCI runtime's own words. It is of
// class Invalid; the container is observed as Exited with the same Reason, Message and ExitCode.
type StartError struct {
	Reason   string // StartError, or ContainerCannotRun
	ExitCode int
	Message  string
}

func (e *StartError) Error() string { return e.Message }

// Is makes the error one of class Invalid: starting the same again cannot help.
func (e *StartError) Is(target error) bool { return target == fault.ErrInvalid }

// startError reads what an OCI runtime said. A command that does not exist or may not be
// executed has the exit code that a shell would give; 128 is Kubernetes' for the rest.
func startError(err error) *StartError {
	text := toNative(err).Error()
	// containerd repeats its own frames around the runtime's sentence.
	text = strings.TrimSuffix(text, ": unknown")
	return &StartError{Reason: "StartError", ExitCode: 128, Message: text}
}

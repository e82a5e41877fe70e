package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/status"

	"coracle/internal/fault"
)

// Reason says in kubectl's words why an image is not there.
type Reason string

// The reasons, as container statuses show them. ImagePullBackOff is podrun's to say.
const (
	ReasonInvalidName         Reason = "InvalidImageName"
	ReasonNeverPull           Reason = "ErrImageNeverPull"
	ReasonPull                Reason = "ErrImagePull"
	ReasonRegistryUnavailable Reason = "RegistryUnavailable"
	ReasonInspect             Reason = "ImageInspectError"
)

// Error is what Ensure returns: the reason for the status, the cause for the message.
type Error struct {
	Ref    string
	Reason Reason
	Err    error
}

// Error is the message for people.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause with its class.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf is the reason of an error of this package; ErrImagePull where it names none.
func ReasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ReasonPull
}

// toNative turns gRPC statuses into containerd's errors; what is one already keeps its identity.
func toNative(err error) error {
	if _, ok := status.FromError(err); ok {
		return errgrpc.ToNative(err)
	}
	return err
}

// classify gives containerd's errors one of the four classes.
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
	case errdefs.IsUnavailable(native), errdefs.IsDeadlineExceeded(native), errors.Is(native, context.DeadlineExceeded):
		return fault.As(fault.ErrUnavailable, native)
	}
	return native
}

// explain turns the error of a pull into a message that has the registry's own words, and a class.
func explain(name string, err error) *Error {
	out := &Error{Ref: name, Reason: ReasonPull}
	text := fmt.Errorf("pull image %s: %w", name, err)
	var answer remoteerrors.ErrUnexpectedStatus
	switch {
	case errors.As(err, &answer):
		text = fmt.Errorf("pull image %s: %w%s", name, err, registryWords(answer.Body))
		if answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests {
			text = fault.As(fault.ErrUnavailable, text)
		}
	case errdefs.IsNotFound(err):
		text = fault.As(fault.ErrNotFound, text)
	case isTransport(err):
		text = fault.As(fault.ErrUnavailable, text)
	}
	out.Err = text
	return out
}

// registryWords is the message in a registry's error document, after a colon.
func registryWords(body []byte) string {
	words := errorDocument(body)
	if words == "" {
		return ""
	}
	return ": " + words
}

// isTransport is true for errors of the way to the registry, which may pass by themselves.
func isTransport(err error) bool {
	var stalled *stallError
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &stalled) || errors.As(err, &op) || errors.As(err, &dns) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) ||
		strings.Contains(err.Error(), "connection reset by peer")
}

// isAuth is true where other credentials may help. Registries answer 404 for what one may not see.
func isAuth(err error) bool {
	var answer remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &answer) {
		return answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden
	}
	text := err.Error()
	return errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) ||
		strings.Contains(text, "401 Unauthorized") || strings.Contains(text, "403 Forbidden") ||
		strings.Contains(text, "insufficient_scope") || strings.Contains(text, "authorization failed")
}

package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestAsKeepsWordsAndCause(t *testing.T) {
	cause := fmt.Errorf("read manifest: %w", io.ErrUnexpectedEOF)
	err := fmt.Errorf("pull x: %w", As(ErrUnavailable, cause))
	if got, want := err.Error(), "pull x: read manifest: unexpected EOF"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("class or cause lost: %v", err)
	}
	if errors.Is(err, ErrNotFound) {
		t.Error("an unavailable error answers to not found")
	}
}

func TestAsOfNilAndOfSameClass(t *testing.T) {
	if As(ErrInvalid, nil) != nil {
		t.Error("nil got a class")
	}
	err := Invalid("no name")
	if again := As(ErrInvalid, err); again != err { //nolint:errorlint // the very same value is meant
		t.Error("wrapped twice")
	}
}

// Package fault holds the four classes of error that decide what a caller does next:
// look elsewhere, read again, give up, or come back later. Each door converts the errors of
// the world behind it to one of them; everything above asks with errors.Is.
//
// The class is added beside the cause, never in place of it: the message stays the cause's own.
package fault

import "errors"

// The classes. Match them with errors.Is; do not return them bare.
var (
	// ErrNotFound: the thing named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict: it exists already, or is in a state that forbids the operation.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the request itself is wrong; trying again cannot help.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: the other side is away, busy or too slow; try again later.
	ErrUnavailable = errors.New("unavailable")
)

type classed struct {
	class error
	cause error
}

func (e *classed) Error() string   { return e.cause.Error() }
func (e *classed) Unwrap() []error { return []error{e.class, e.cause} }

// As gives err the class without changing its words. A nil err stays nil, and an error that
// has the class already is returned as it is.
func As(class, err error) error {
	if err == nil || errors.Is(err, class) {
		return err
	}
	return &classed{class: class, cause: err}
}

// Invalid is a new error of class ErrInvalid.
func Invalid(text string) error { return As(ErrInvalid, errors.New(text)) }

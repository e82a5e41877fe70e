package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// stallError says that a registry stopped talking in the middle of an answer.
type stallError struct {
	host  string
	after time.Duration
}

func (e *stallError) Error() string {
	return fmt.Sprintf("registry %s sent nothing for %s", e.host, e.after)
}

// stallTransport fails a request whose registry keeps silent, and counts the bytes that
// come in. The clock runs only while somebody waits for the registry, not while we are busy.
type stallTransport struct {
	base    http.RoundTripper
	timeout time.Duration
	bytes   *atomic.Int64
}

func (t *stallTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	silent := &stallError{host: req.URL.Host, after: t.timeout}
	timer := time.AfterFunc(t.timeout, func() { cancel(silent) })
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	timer.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), silent) {
			err = silent
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &stallBody{body: resp.Body, t: t, timer: timer, ctx: ctx, cancel: cancel, silent: silent}
	return resp, nil
}

type stallBody struct {
	body   io.ReadCloser
	t      *stallTransport
	timer  *time.Timer
	ctx    context.Context // of this one request; ends with the body
	cancel context.CancelCauseFunc
	silent *stallError
}

func (b *stallBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.t.timeout)
	n, err := b.body.Read(p)
	b.timer.Stop()
	b.t.bytes.Add(int64(n))
	if err != nil && errors.Is(context.Cause(b.ctx), b.silent) {
		err = b.silent
	}
	return n, err
}

func (b *stallBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	b.cancel(nil)
	return err
}

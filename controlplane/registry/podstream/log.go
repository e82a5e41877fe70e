package podstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"

	nodev1 "coracle/proto/node/v1"
)

// logREST is pods/log.
type logREST struct{ c Config }

var (
	_ rest.GetterWithOptions = &logREST{}
	_ rest.StorageMetadata   = &logREST{}
)

// New implements rest.Storage.
func (r *logREST) New() runtime.Object { return &v1.Pod{} }

// Destroy implements rest.Storage.
func (r *logREST) Destroy() {}

// ProducesMIMETypes implements rest.StorageMetadata.
func (r *logREST) ProducesMIMETypes(string) []string { return []string{"text/plain"} }

// ProducesObject implements rest.StorageMetadata.
func (r *logREST) ProducesObject(string) any { return "" }

// NewGetOptions implements rest.GetterWithOptions.
func (r *logREST) NewGetOptions() (runtime.Object, bool, string) {
	return &v1.PodLogOptions{}, false, ""
}

// OverrideMetricsVerb keeps long follows out of the latency of ordinary reads.
func (r *logREST) OverrideMetricsVerb(verb string) string {
	if verb == "GET" {
		return "CONNECT"
	}
	return verb
}

// Get implements rest.GetterWithOptions.
func (r *logREST) Get(ctx context.Context, name string, options runtime.Object) (runtime.Object, error) {
	opts, ok := options.(*v1.PodLogOptions)
	if !ok {
		return nil, apierrors.NewBadRequest("invalid options object")
	}
	if errs := validateLogOptions(opts); len(errs) > 0 {
		return nil, apierrors.NewInvalid(v1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), name, errs)
	}
	pod, err := r.c.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	target, err := container(pod, opts.Container)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		// Not scheduled: there is no log, and that is no error.
		return &logStream{}, nil
	}
	wire := opts.DeepCopy()
	wire.Container = target
	data, err := wire.Marshal()
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("encode log options: %w", err))
	}
	return &logStream{c: r.c, node: pod.Spec.NodeName, follow: opts.Follow, req: about(pod, &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Logs{
		Logs: &nodev1.Logs{PodUid: string(pod.UID), Container: target, Options: data},
	}})}, nil
}

func validateLogOptions(o *v1.PodLogOptions) field.ErrorList {
	var errs field.ErrorList
	if o.TailLines != nil && *o.TailLines < 0 {
		errs = append(errs, field.Invalid(field.NewPath("tailLines"), *o.TailLines, "must be greater than or equal to 0"))
	}
	if o.LimitBytes != nil && *o.LimitBytes < 1 {
		errs = append(errs, field.Invalid(field.NewPath("limitBytes"), *o.LimitBytes, "must be greater than 0"))
	}
	switch {
	case o.SinceSeconds != nil && o.SinceTime != nil:
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	case o.SinceSeconds != nil && *o.SinceSeconds < 1:
		errs = append(errs, field.Invalid(field.NewPath("sinceSeconds"), *o.SinceSeconds, "must be greater than 0"))
	}
	if o.Stream != nil {
		switch *o.Stream {
		case v1.LogStreamAll, v1.LogStreamStdout, v1.LogStreamStderr:
			if *o.Stream != v1.LogStreamAll && o.TailLines != nil {
				errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
			}
		default:
			errs = append(errs, field.NotSupported(field.NewPath("stream"), *o.Stream, []string{v1.LogStreamAll, v1.LogStreamStdout, v1.LogStreamStderr}))
		}
	}
	return errs
}

// logStream is the answer of a log request: opened when the response is written.
type logStream struct {
	c      Config
	node   string
	req    *nodev1.StreamRequest
	follow bool
}

var _ rest.ResourceStreamer = &logStream{}

// GetObjectKind implements runtime.Object.
func (s *logStream) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object; nothing keeps these.
func (s *logStream) DeepCopyObject() runtime.Object { c := *s; return &c }

// InputStream implements rest.ResourceStreamer.
func (s *logStream) InputStream(ctx context.Context, _, _ string) (io.ReadCloser, bool, string, error) {
	if s.node == "" {
		return http.NoBody, false, "text/plain", nil
	}
	stream, err := s.c.Streams.Open(ctx, s.node, s.req)
	if err != nil {
		return nil, false, "", err
	}
	// The node answers at once, with an empty frame where there is no line yet: what is wrong
	// with the request is known before the response begins.
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	first, err := stream.Recv()
	if err == nil {
		err = resultError(first.GetResult())
	} else if ctx.Err() == nil {
		err = apierrors.NewServiceUnavailable(fmt.Sprintf("node %q: %s", s.node, errCut))
	}
	if err != nil {
		stop()
		_ = stream.Close()
		return nil, false, "", err
	}
	return &logReader{stream: stream, stop: stop, rest: first.GetData(), done: first.GetResult() != nil}, s.follow, "text/plain", nil
}

type logReader struct {
	stream Stream
	stop   func() bool
	rest   []byte
	done   bool
}

// Read implements io.Reader.
func (r *logReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.done {
			return 0, io.EOF
		}
		f, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, errCut // an end without a result is a cut, and the log is not whole
		}
		if err != nil {
			return 0, err
		}
		r.rest = f.GetData()
		if result := f.GetResult(); result != nil {
			r.done = true
			if text := result.GetError(); text != "" {
				// The response has begun: its text is all there is to say it with.
				r.rest = append(r.rest, (text + "\n")...)
			}
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *logReader) Close() error {
	r.stop()
	return r.stream.Close()
}

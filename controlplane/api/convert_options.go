package api

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// addOptionConversions reads the options of connecting subresources (log, exec,
// attach, portforward, proxy) from query strings.
func addOptionConversions(s *runtime.Scheme) error {
	readers := []struct {
		out  runtime.Object
		read func(*query, any)
	}{
		{&corev1.PodLogOptions{}, readLogOptions},
		{&corev1.PodExecOptions{}, readExecOptions},
		{&corev1.PodAttachOptions{}, readAttachOptions},
		{&corev1.PodPortForwardOptions{}, func(q *query, out any) { q.int32s("ports", &out.(*corev1.PodPortForwardOptions).Ports) }},
		{&corev1.PodProxyOptions{}, func(q *query, out any) { q.text("path", &out.(*corev1.PodProxyOptions).Path) }},
		{&corev1.NodeProxyOptions{}, func(q *query, out any) { q.text("path", &out.(*corev1.NodeProxyOptions).Path) }},
		{&corev1.ServiceProxyOptions{}, func(q *query, out any) { q.text("path", &out.(*corev1.ServiceProxyOptions).Path) }},
	}
	for _, r := range readers {
		convert := func(in, out any, _ conversion.Scope) error {
			q := &query{values: *in.(*url.Values)}
			r.read(q, out)
			return q.err
		}
		if err := s.AddConversionFunc((*url.Values)(nil), r.out, convert); err != nil {
			return err
		}
	}
	return nil
}

func readLogOptions(q *query, out any) {
	o := out.(*corev1.PodLogOptions)
	q.text("container", &o.Container)
	q.boolean("follow", &o.Follow)
	q.boolean("previous", &o.Previous)
	q.int64Pointer("sinceSeconds", &o.SinceSeconds)
	q.time("sinceTime", &o.SinceTime)
	q.boolean("timestamps", &o.Timestamps)
	q.int64Pointer("tailLines", &o.TailLines)
	q.int64Pointer("limitBytes", &o.LimitBytes)
	q.boolean("insecureSkipTLSVerifyBackend", &o.InsecureSkipTLSVerifyBackend)
	if v, ok := q.first("stream"); ok {
		o.Stream = &v
	}
}

func readExecOptions(q *query, out any) {
	o := out.(*corev1.PodExecOptions)
	q.boolean("stdin", &o.Stdin)
	q.boolean("stdout", &o.Stdout)
	q.boolean("stderr", &o.Stderr)
	q.boolean("tty", &o.TTY)
	q.text("container", &o.Container)
	o.Command = q.values["command"]
}

func readAttachOptions(q *query, out any) {
	o := out.(*corev1.PodAttachOptions)
	q.boolean("stdin", &o.Stdin)
	q.boolean("stdout", &o.Stdout)
	q.boolean("stderr", &o.Stderr)
	q.boolean("tty", &o.TTY)
	q.text("container", &o.Container)
}

// query reads typed values and keeps the first error.
type query struct {
	values url.Values
	err    error
}

// first returns the first value of a key, and whether the key is there at all.
func (q *query) first(key string) (string, bool) {
	v, ok := q.values[key]
	if !ok || len(v) == 0 {
		return "", false
	}
	return v[0], true
}

func (q *query) fail(key, value, want string) {
	if q.err == nil {
		q.err = fmt.Errorf("query parameter %s=%q: want %s", key, value, want)
	}
}

func (q *query) text(key string, out *string) {
	if v, ok := q.first(key); ok {
		*out = v
	}
}

// boolean reads as Kubernetes does: a key without a value is true, and so is
// everything but "0" and "false".
func (q *query) boolean(key string, out *bool) {
	if v, ok := q.first(key); ok {
		*out = v != "0" && !strings.EqualFold(v, "false")
	}
}

func (q *query) int64Pointer(key string, out **int64) {
	v, ok := q.first(key)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		q.fail(key, v, "a whole number")
		return
	}
	*out = &n
}

func (q *query) int32s(key string, out *[]int32) {
	for _, v := range q.values[key] {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			q.fail(key, v, "a whole number")
			return
		}
		*out = append(*out, int32(n))
	}
}

func (q *query) time(key string, out **metav1.Time) {
	v, ok := q.first(key)
	if !ok || v == "" {
		return
	}
	var t metav1.Time
	if err := t.UnmarshalQueryParameter(v); err != nil {
		q.fail(key, v, "an RFC 3339 time")
		return
	}
	*out = &t
}

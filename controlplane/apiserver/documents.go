package apiserver

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apiserver/pkg/server/mux"
)

// maxVariants bounds how many Accept headers documents are kept for. Clients in use send three.
const maxVariants = 8

// documents serves the OpenAPI documents. What they are built from takes a hundred megabytes, and they are asked for by
// explain and client-side apply alone; so they are built at the first request, kept compressed (half a megabyte in all)
// and what they were built from is dropped. Those of custom resources are built again after a change of a definition.
type documents struct {
	// build installs handlers of all the documents and names their paths.
	build func(*mux.PathRecorderMux) (paths []string, err error)

	stale    atomic.Bool // what was rendered is of the past
	mu       sync.Mutex
	variants map[string]map[string]*document // Accept header → path → document; nil where there is none
}

// document is one rendered document.
type document struct {
	compressed []byte
	etag       string // as in the header, with quotes
	mediaType  string
	modified   time.Time
}

// library answers GET and HEAD of documents from the first shelf that has the one asked for.
type library []shelf

// shelf finds documents. It returns nil where no such document exists in a form the client accepts.
type shelf interface {
	find(path, accept string) (*document, error)
}

// ServeHTTP implements http.Handler.
func (l library) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "OpenAPI documents can only be read", http.StatusMethodNotAllowed)
		return
	}
	var doc *document
	var err error
	for _, s := range l {
		if doc, err = s.find(r.URL.Path, r.Header.Get("Accept")); doc != nil || err != nil {
			break
		}
	}
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case doc == nil:
		http.NotFound(w, r)
	default:
		doc.serve(w, r)
	}
}

// outdate has the documents built anew at the next request. It does not wait for one that is being answered.
func (d *documents) outdate() { d.stale.Store(true) }

// find implements shelf.
func (d *documents) find(path, accept string) (*document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stale.Swap(false) {
		d.variants = nil
	}
	if known, ok := d.variants[accept]; ok {
		return known[path], nil
	}
	rendered, err := d.render(accept)
	if err != nil {
		return nil, err
	}
	if d.variants == nil {
		d.variants = map[string]map[string]*document{}
	}
	if len(d.variants) < maxVariants {
		d.variants[accept] = rendered
	}
	return rendered[path], nil
}

func (d *documents) render(accept string) (map[string]*document, error) {
	m := mux.NewPathRecorderMux("openapi")
	paths, err := d.build(m)
	if err != nil {
		return nil, fmt.Errorf("build OpenAPI documents: %w", err)
	}
	out := map[string]*document{}
	for _, path := range paths {
		capture := &capturedResponse{header: http.Header{}}
		m.ServeHTTP(capture, &http.Request{
			Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{"Accept": {accept}}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		})
		if capture.code != http.StatusOK || capture.body.Len() == 0 {
			continue
		}
		doc, err := newDocument(capture.body.Bytes(), capture.header.Get("Etag"), capture.header.Get("Content-Type"))
		if err != nil {
			return nil, fmt.Errorf("keep %s: %w", path, err)
		}
		out[path] = doc
	}
	return out, nil
}

func newDocument(content []byte, etag, mediaType string) (*document, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return &document{compressed: bytes.Clone(out.Bytes()), etag: etag, mediaType: mediaType, modified: time.Now()}, nil
}

// plain is the document as it was.
func (doc *document) plain() (io.Reader, error) {
	return gzip.NewReader(bytes.NewReader(doc.compressed))
}

// serve answers from the compressed bytes. A hash in the query is the client's way of naming a version it may cache for
// ever; a stale one is sent to the present version.
func (doc *document) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", doc.mediaType)
	h.Set("Etag", doc.etag)
	h.Set("Vary", "Accept, Accept-Encoding")
	h.Set("Last-Modified", doc.modified.UTC().Format(http.TimeFormat))
	if hash := r.URL.Query().Get("hash"); hash != "" {
		if present := strings.Trim(doc.etag, `"`); hash != present {
			http.Redirect(w, r, r.URL.Path+"?hash="+url.QueryEscape(present), http.StatusMovedPermanently)
			return
		}
		h.Set("Cache-Control", "public, immutable")
		h.Set("Expires", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	if match := r.Header.Get("If-None-Match"); match != "" && strings.Contains(match, doc.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(doc.compressed)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(doc.compressed) // a client that went away wants no answer
		}
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	plain, err := doc.plain()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.Copy(w, plain) // as above
}

// capturedResponse is a ResponseWriter that keeps what is written.
type capturedResponse struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (c *capturedResponse) Header() http.Header { return c.header }

func (c *capturedResponse) WriteHeader(code int) {
	if c.code == 0 {
		c.code = code
	}
}

func (c *capturedResponse) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return c.body.Write(p)
}

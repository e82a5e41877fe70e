package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/internal/fault"
)

// Request asks for one image.
type Request struct {
	Ref    string        // as in the pod spec
	Policy v1.PullPolicy // empty: as Kubernetes defaults it from the tag
	// Credentials are those of all the pod's secrets; the ones that match Ref are tried in turn.
	Credentials []Credential
	// OnPull is called once before the registry is asked; it may be nil.
	OnPull func()
}

// flight is one pull in progress, shared by all that ask for the same with the same credentials.
type flight struct {
	name    string
	creds   []Credential // all of the asker's, for mirrors
	started time.Time
	bytes   atomic.Int64
	done    chan struct{} // closed when img and err are set
	img     Image
	err     error
}

// Progress is one pull in progress.
type Progress struct {
	Ref     string
	Started time.Time
	Bytes   int64 // received from the registry so far
}

// Pulls lists what is being pulled, oldest first.
func (m *Images) Pulls() []Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Progress
	for _, f := range m.flights {
		out = append(out, Progress{Ref: f.name, Started: f.started, Bytes: f.bytes.Load()})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Started.Before(out[j].Started) })
	return out
}

// Ensure makes the image present and unpacked according to the policy. Errors are *Error;
// their class says whether trying again can help (Invalid: it cannot).
func (m *Images) Ensure(ctx context.Context, req Request) (Image, error) {
	name, err := Normalize(req.Ref)
	if err != nil {
		return Image{}, err
	}
	ctx = m.context(ctx)
	policy := req.Policy
	if policy == "" {
		policy = defaultPolicy(name)
	}
	if policy != v1.PullAlways {
		img, err := m.present(ctx, name)
		if err == nil {
			m.touch(name)
			return img, nil
		}
		if !errors.Is(err, fault.ErrNotFound) {
			return Image{}, &Error{Ref: name, Reason: ReasonInspect, Err: err}
		}
		if policy == v1.PullNever {
			return Image{}, &Error{Ref: name, Reason: ReasonNeverPull, Err: fault.As(fault.ErrNotFound,
				fmt.Errorf("image %s is not present with pull policy of Never", name))}
		}
	}
	if req.OnPull != nil {
		req.OnPull()
	}
	// The pod's own credentials are tried first, as Kubernetes does.
	provided, asked := m.ofNode(ctx, name)
	img, err := m.share(ctx, name, req.Credentials, provided)
	if err != nil {
		return Image{}, withProvider(err, asked)
	}
	m.touch(name)
	return img, nil
}

// ofNode are the node's own credentials for an image: those of its file, then those that providers give. What could be had
// is returned beside the error.
func (m *Images) ofNode(ctx context.Context, name string) ([]Credential, error) {
	filed, err := readLoginFile(m.cfg.LoginFile)
	provided, asked := m.cfg.Providers.credentials(ctx, name)
	return append(matching(filed, name), provided...), errors.Join(err, asked)
}

// withProvider adds to the error of a pull why a credential provider gave nothing: it may be the cause.
func withProvider(err, provider error) error {
	var e *Error
	if provider == nil || !errors.As(err, &e) {
		return err
	}
	return &Error{Ref: e.Ref, Reason: e.Reason, Err: fmt.Errorf("%w; %w", e.Err, provider)}
}

// present is the image whole and unpacked, without asking a registry.
func (m *Images) present(ctx context.Context, name string) (Image, error) {
	if img, ok := m.recent(name); ok {
		return img, nil
	}
	img, err := m.get(ctx, name)
	if err != nil {
		return Image{}, err
	}
	ok, err := m.unpacked(ctx, img)
	if err != nil {
		return Image{}, err
	}
	if !ok {
		if err := m.unpack(ctx, name); err != nil {
			return Image{}, err
		}
	}
	m.saw(name, img)
	return img, nil
}

// share joins a pull that is under way, or makes one. One that ended because its own asker
// gave up is made again for those still waiting.
func (m *Images) share(ctx context.Context, name string, all, provided []Credential) (Image, error) {
	creds := append(matching(all, name), provided...)
	all = append(slices.Clone(all), provided...)
	key := name + " " + credentialsKey(creds)
	for {
		m.mu.Lock()
		f, running := m.flights[key]
		if !running {
			f = &flight{name: name, creds: all, started: time.Now(), done: make(chan struct{})}
			m.flights[key] = f
		}
		m.mu.Unlock()
		if !running {
			f.img, f.err = m.pull(ctx, f, creds)
			m.mu.Lock()
			delete(m.flights, key)
			m.mu.Unlock()
			close(f.done)
			return f.img, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return Image{}, &Error{Ref: name, Reason: ReasonPull, Err: fmt.Errorf("pull image %s: %w", name, ctx.Err())}
		}
		if f.err == nil || !errors.Is(f.err, context.Canceled) {
			return f.img, f.err
		}
	}
}

func credentialsKey(creds []Credential) string {
	h := sha256.New()
	for _, c := range creds {
		fmt.Fprintf(h, "%q %q %q %q\n", c.Username, c.Password, c.Auth, c.IdentityToken)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (m *Images) touch(name string) {
	m.mu.Lock()
	m.used[name] = time.Now()
	m.mu.Unlock()
}

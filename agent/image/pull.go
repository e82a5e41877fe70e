package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	dockerconfig "github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	v1 "k8s.io/api/core/v1"

	"coracle/internal/version"
)

const (
	// resumeFor is how long a cut pull's blobs wait for the next try.
	resumeFor = 24 * time.Hour
	// maxResumes is how often one pull goes on by itself after a cut, as long as each try brings
	// bytes; after that the pod's back-off decides.
	maxResumes = 5
	// leaseTimeout bounds giving back the lease after the pull's own context has ended.
	leaseTimeout = 10 * time.Second
)

func defaultPolicy(name string) v1.PullPolicy {
	if strings.HasSuffix(name, ":latest") && !strings.Contains(name, "@") {
		return v1.PullAlways
	}
	return v1.PullIfNotPresent
}

// pull fetches name with the first of creds that is let in, or anonymously where there are none.
func (m *Images) pull(ctx context.Context, f *flight, creds []Credential) (Image, error) {
	if err := m.slots.Acquire(ctx, 1); err != nil {
		return Image{}, &Error{Ref: f.name, Reason: ReasonPull, Err: fmt.Errorf("pull image %s: %w", f.name, err)}
	}
	defer m.slots.Release(1)
	if len(creds) == 0 {
		creds = []Credential{{}}
	}
	var refused []error
	defer m.lost(f.name) // a tag may lead elsewhere now
	for _, cred := range creds {
		err := m.resume(ctx, f, cred)
		if err == nil {
			img, err := m.get(ctx, f.name)
			if err != nil {
				return Image{}, &Error{Ref: f.name, Reason: ReasonInspect, Err: err}
			}
			return img, nil
		}
		if !isAuth(err) {
			return Image{}, explain(f.name, err)
		}
		refused = append(refused, err)
	}
	return Image{}, explain(f.name, errors.Join(refused...))
}

// resume pulls, and after a cut goes on where it stopped while the registry still delivers.
func (m *Images) resume(ctx context.Context, f *flight, cred Credential) error {
	for try := 0; ; try++ {
		before := f.bytes.Load()
		err := m.fetch(ctx, f, cred)
		if err == nil || ctx.Err() != nil || try >= maxResumes || !isTransport(err) || f.bytes.Load() == before {
			return err
		}
		m.cfg.Log.Info("pull goes on after a cut", "image", f.name, "attempt", try+1, "err", err)
	}
}

func (m *Images) fetch(ctx context.Context, f *flight, cred Credential) error {
	lease := leases.Lease{ID: leaseID(f.name)}
	_, err := m.client.LeasesService().Create(ctx, leases.WithID(lease.ID), leases.WithExpiration(resumeFor))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("lease for the pull: %w", err)
	}
	_, err = m.client.Pull(leases.WithLease(ctx, lease.ID), f.name,
		containerd.WithResolver(m.resolver(ctx, f, cred)),
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(m.cfg.Snapshotter),
		containerd.WithMaxConcurrentDownloads(3),
	)
	if err != nil {
		return err
	}
	// The image's own record protects it from here on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	defer cancel()
	if err := m.client.LeasesService().Delete(ctx, lease); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("give back the lease of the pull: %w", err)
	}
	return nil
}

func leaseID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "coracle-pull-" + hex.EncodeToString(sum[:8])
}

func (m *Images) resolver(ctx context.Context, f *flight, cred Credential) remotes.Resolver {
	registry := registryHost(f.name)
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: dockerconfig.ConfigureHosts(ctx, dockerconfig.HostOptions{
			HostDir: dockerconfig.HostDirFromRoot(m.cfg.HostsDir),
			// Credentials go to the registry they are for; a mirror of it gets those that name the mirror.
			Credentials: func(host string) (string, string, error) {
				if host == registry || registry == "docker.io" && host == "registry-1.docker.io" {
					return cred.login()
				}
				if own := matching(f.creds, host+strings.TrimPrefix(f.name, registry)); len(own) > 0 {
					return own[0].login()
				}
				return "", "", nil
			},
			UpdateClient: func(client *http.Client) error {
				client.Transport = &stallTransport{base: client.Transport, timeout: m.cfg.StallTimeout, bytes: &f.bytes}
				return nil
			},
		}),
		Headers: http.Header{"User-Agent": {"coracle/" + version.Version}},
	})
}

// unpack makes the snapshot of an image that is there as content only.
func (m *Images) unpack(ctx context.Context, name string) error {
	img, err := m.client.GetImage(ctx, name)
	if err != nil {
		return fmt.Errorf("unpack image %s: %w", name, classify(err))
	}
	if err := img.Unpack(ctx, m.cfg.Snapshotter); err != nil {
		return fmt.Errorf("unpack image %s: %w", name, classify(err))
	}
	return nil
}

package device

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// socketName is the registration socket in the plugins' folder; plugins watch for it.
const socketName = "kubelet.sock"

// listenRetry is when a socket that could not be made is tried again: what prevents it, such as a full disk, passes.
const listenRetry = 30 * time.Second

// Run takes registrations and follows plugins until ctx ends. Sockets that are in the folder when it begins are removed,
// as plugins expect: it is how they learn that they must register again.
func (d *Devices) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		listener, err := d.listen(ctx)
		if err == nil {
			return d.serve(ctx, listener, &wg)
		}
		if ctx.Err() != nil {
			return nil
		}
		if d.setGap("device plugins cannot register: " + err.Error()) {
			d.cfg.Log.Warn("device plugins cannot register", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(listenRetry):
		}
	}
}

func (d *Devices) setGap(gap string) (changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed = d.gap != gap
	d.gap = gap
	return changed
}

func (d *Devices) listen(ctx context.Context) (net.Listener, error) {
	if err := os.MkdirAll(d.cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the folder of device plugins: %w", err)
	}
	if err := removeSockets(d.cfg.Dir); err != nil {
		return nil, err
	}
	return (&net.ListenConfig{}).Listen(ctx, "unix", filepath.Join(d.cfg.Dir, socketName))
}

// removeSockets clears the folder of sockets, which are of an earlier run, and leaves everything else.
func removeSockets(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clear the folder of device plugins: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.Type()&fs.ModeSocket == 0 {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("clear the folder of device plugins: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (d *Devices) serve(ctx context.Context, listener net.Listener, wg *sync.WaitGroup) error {
	d.setGap("")
	server := grpc.NewServer()
	api.RegisterRegistrationServer(server, &registration{devices: d, ended: ctx.Done()})
	ended := make(chan error, 1) // one value, so that the server never waits for a reader
	wg.Go(func() { ended <- server.Serve(listener) })
	defer server.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return fmt.Errorf("serve registrations of device plugins: %w", err)
		case p := <-d.arrivals:
			wg.Go(func() { d.follow(ctx, p) })
		}
	}
}

// registration answers plugins that register.
type registration struct {
	api.UnimplementedRegistrationServer
	devices *Devices
	ended   <-chan struct{} // closed when nobody takes arrivals any more
}

// Register takes a plugin on. It answers before the plugin's own socket is tried: some begin to serve only then.
func (s *registration) Register(ctx context.Context, r *api.RegisterRequest) (*api.Empty, error) {
	if err := checkRequest(r); err != nil {
		s.devices.cfg.Log.Warn("device plugin refused", "resource", r.GetResourceName(), "err", err)
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	p := &plugin{resource: r.ResourceName, socket: filepath.Join(s.devices.cfg.Dir, r.Endpoint)}
	select {
	case s.devices.arrivals <- p:
		return &api.Empty{}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-s.ended:
		return nil, status.Error(codes.Unavailable, "the agent is ending; register again when "+socketName+" is made anew")
	}
}

func checkRequest(r *api.RegisterRequest) error {
	if r.Version != api.Version {
		return fmt.Errorf("requested API version %q is not supported by kubelet. Supported version is %q", r.Version, api.Version)
	}
	if !isExtended(r.ResourceName) {
		return fmt.Errorf("the ResourceName %q is invalid", r.ResourceName)
	}
	if !filepath.IsLocal(r.Endpoint) || r.Endpoint == socketName || r.Endpoint == "." {
		return fmt.Errorf("endpoint %q is not the name of a socket in the folder of device plugins", r.Endpoint)
	}
	return nil
}

// isExtended is Kubernetes' rule for names of resources that are not its own.
func isExtended(name string) bool {
	if !strings.Contains(name, "/") || strings.Contains(name, v1.ResourceDefaultNamespacePrefix) || strings.HasPrefix(name, v1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(v1.DefaultResourceRequestsPrefix+name)) == 0
}

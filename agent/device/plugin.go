package device

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	// connectTimeout bounds the first question to a plugin, which may begin to serve only after it has registered.
	connectTimeout = 10 * time.Second
	// preferTimeout bounds a question that can be done without.
	preferTimeout = 10 * time.Second
	// allocateTimeout is long: plugins may prepare or reset a device. It keeps a hung one from holding up all pods for good.
	allocateTimeout = time.Minute
	// preStartTimeout is the time that the API names.
	preStartTimeout = api.KubeletPreStartContainerRPCTimeoutInSecs * time.Second
)

// plugin is one registration. It is not used again once its stream has ended.
type plugin struct {
	resource, socket string

	client  api.DevicePluginClient
	options *api.DevicePluginOptions
	end     context.CancelFunc // when another registers for the same resource
}

// follow keeps up with a plugin until it goes away, another takes its place or ctx ends.
func (d *Devices) follow(ctx context.Context, p *plugin) {
	ctx, p.end = context.WithCancel(ctx)
	defer p.end()
	err := d.talk(ctx, p)
	d.left(p)
	if ctx.Err() == nil {
		d.cfg.Log.Warn("device plugin went away", "resource", p.resource, "err", err)
	}
}

// talk ends with the plugin's stream of lists.
func (d *Devices) talk(ctx context.Context, p *plugin) (err error) {
	conn, err := grpc.NewClient("unix://"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("dial %s: %w", p.socket, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	p.client = api.NewDevicePluginClient(conn)
	first, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if p.options, err = p.client.GetDevicePluginOptions(first, &api.Empty{}, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("ask the plugin at %s for its options: %w", p.socket, err)
	}
	lists, err := p.client.ListAndWatch(ctx, &api.Empty{})
	if err != nil {
		return fmt.Errorf("ask the plugin at %s for its devices: %w", p.socket, err)
	}
	if err := d.arrived(p); err != nil {
		return err
	}
	for {
		list, err := lists.Recv()
		if err != nil {
			return fmt.Errorf("follow the devices of the plugin at %s: %w", p.socket, err)
		}
		d.listed(p, list.Devices)
	}
}

// arrived puts a plugin in the place of an earlier one for the same resource. Devices are known with its first list.
func (d *Devices) arrived(p *plugin) error {
	if err := d.cfg.Facts.PutFact(bucketResources, p.resource, []byte("{}")); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.resources[p.resource]
	if r == nil {
		r = &resource{gone: time.Now()}
		d.resources[p.resource] = r
	}
	if r.plugin != nil {
		r.plugin.end()
	}
	r.plugin, r.preStart, r.forgotten = p, p.options.GetPreStartRequired(), false
	d.cfg.Log.Info("device plugin registered", "resource", p.resource, "socket", p.socket)
	return nil
}

// listed takes a plugin's list in place of all before.
func (d *Devices) listed(p *plugin, list []*api.Device) {
	healthy := map[string]bool{}
	for _, dev := range list {
		healthy[dev.GetID()] = dev.GetHealth() == api.Healthy
	}
	d.change(p, func(r *resource) (changed bool) {
		changed = !r.gone.IsZero() || !maps.Equal(r.healthy, healthy)
		r.healthy, r.gone = healthy, time.Time{}
		return changed
	})
}

func (d *Devices) left(p *plugin) {
	d.change(p, func(r *resource) bool {
		r.plugin, r.gone = nil, time.Now()
		return true
	})
}

// change alters the resource of a plugin whose word still counts, and tells those whom it concerns.
func (d *Devices) change(p *plugin, f func(r *resource) (changed bool)) {
	d.mu.Lock()
	r := d.resources[p.resource]
	if r == nil || r.plugin != p || !f(r) {
		d.mu.Unlock()
		return
	}
	var holders []types.UID
	for uid, rec := range d.pods {
		if rec.has(p.resource) {
			holders = append(holders, uid)
		}
	}
	d.mu.Unlock()
	d.cfg.Changed()
	for _, uid := range holders {
		d.cfg.Wake(uid)
	}
}

// prefer asks which devices the plugin would rather give; nil where it offers no advice.
func (p *plugin) prefer(ctx context.Context, free, must []string, count int) ([]string, error) {
	if !p.options.GetGetPreferredAllocationAvailable() {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, preferTimeout)
	defer cancel()
	answer, err := p.client.GetPreferredAllocation(ctx, &api.PreferredAllocationRequest{ContainerRequests: []*api.ContainerPreferredAllocationRequest{{
		AvailableDeviceIDs: slices.Sorted(slices.Values(slices.Concat(must, free))), MustIncludeDeviceIDs: must, AllocationSize: int32(count),
	}}})
	if err != nil {
		return nil, fmt.Errorf("device plugin GetPreferredAllocation rpc failed with err: %w", err)
	}
	if len(answer.ContainerResponses) == 0 {
		return nil, nil
	}
	return answer.ContainerResponses[0].GetDeviceIDs(), nil
}

// allocate has the plugin prepare devices, and reads what the container needs to use them.
func (p *plugin) allocate(ctx context.Context, devices []string) (grant, error) {
	ctx, cancel := context.WithTimeout(ctx, allocateTimeout)
	defer cancel()
	answer, err := p.client.Allocate(ctx, &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: devices}}})
	if err != nil {
		return grant{}, err
	}
	if len(answer.ContainerResponses) != 1 {
		return grant{}, fmt.Errorf("no containers return in allocation response %v", answer)
	}
	return grantOf(devices, answer.ContainerResponses[0])
}

// grantOf refuses what this node cannot do for a container.
func grantOf(devices []string, answer *api.ContainerAllocateResponse) (grant, error) {
	g := grant{Devices: devices, Env: answer.GetEnvs(), Annotations: answer.GetAnnotations()}
	if list := answer.GetCdiDevices(); len(list) > 0 {
		return g, fmt.Errorf("the device plugin answers with the CDI device %q, and this node does not read CDI specifications: have the plugin name device nodes and mounts instead", list[0].GetName())
	}
	for _, m := range answer.GetMounts() {
		g.Mounts = append(g.Mounts, mount{Host: m.GetHostPath(), Container: m.GetContainerPath(), ReadOnly: m.GetReadOnly()})
	}
	for _, n := range answer.GetDevices() {
		if strings.Trim(n.GetPermissions(), "rwm") != "" {
			return g, fmt.Errorf("the device plugin gives %s with the permissions %q, which are not of r, w and m", n.GetHostPath(), n.GetPermissions())
		}
		g.Nodes = append(g.Nodes, node{Host: n.GetHostPath(), Container: n.GetContainerPath(), Permissions: n.GetPermissions()})
	}
	return g, nil
}

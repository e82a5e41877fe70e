package device

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"coracle/agent/pod"
)

// Prepare adds to a container that is about to be made what its devices need, and tells their plugins where they want to
// know. A resource that was registered only after the pod was admitted is given now.
func (d *Devices) Prepare(ctx context.Context, p *v1.Pod, c *v1.Container, spec *pod.ContainerSpec) error {
	grants, lacking := d.granted(p.UID, c)
	if lacking {
		if rejected := d.Admit(ctx, p); rejected != nil {
			return errors.New(rejected.Message)
		}
		grants, _ = d.granted(p.UID, c)
	}
	for _, name := range slices.Sorted(maps.Keys(grants)) {
		if err := d.preStart(ctx, name, grants[name].Devices); err != nil {
			return err
		}
	}
	lay(spec, grants)
	return nil
}

// granted is what a container has; lacking says that it asks for more that could be given.
func (d *Devices) granted(uid types.UID, c *v1.Container) (grants map[string]grant, lacking bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	grants = d.pods[uid].Containers[c.Name]
	for _, w := range d.wantsOf(c, false) {
		if _, ok := grants[w.resource]; !ok {
			lacking = true
		}
	}
	return grants, lacking
}

// preStart tells the plugin of a container that begins, where the plugin asked for it.
func (d *Devices) preStart(ctx context.Context, name string, devices []string) error {
	d.mu.Lock()
	r := d.resources[name]
	asked := r != nil && r.preStart
	var p *plugin
	if asked {
		p = r.plugin
	}
	d.mu.Unlock()
	switch {
	case !asked:
		return nil
	case p == nil:
		return fmt.Errorf("the plugin of %s wants to know before a container begins, and has gone away; the container begins once the plugin registers again", name)
	}
	ctx, cancel := context.WithTimeout(ctx, preStartTimeout)
	defer cancel()
	if _, err := p.client.PreStartContainer(ctx, &api.PreStartContainerRequest{DevicesIds: devices}); err != nil {
		return fmt.Errorf("device plugin PreStartContainer rpc failed with err: %w", err)
	}
	return nil
}

// lay lays the grants under what the pod itself says of the container: its own variables and mounts win. PURE.
func lay(spec *pod.ContainerSpec, grants map[string]grant) {
	var env []pod.EnvVar
	var mounts []pod.Mount
	for _, name := range slices.Sorted(maps.Keys(grants)) {
		g := grants[name]
		for _, k := range slices.Sorted(maps.Keys(g.Env)) {
			env = append(env, pod.EnvVar{Name: k, Value: g.Env[k]})
		}
		for _, m := range g.Mounts {
			mounts = append(mounts, pod.Mount{HostPath: m.Host, ContainerPath: m.Container, ReadOnly: m.ReadOnly, OfMachine: true})
		}
		for _, n := range g.Nodes {
			given := pod.Device{HostPath: n.Host, ContainerPath: n.Container, Permissions: n.Permissions}
			same := func(other pod.Device) bool { return other.ContainerPath == given.ContainerPath }
			if !slices.ContainsFunc(spec.Devices, same) {
				spec.Devices = append(spec.Devices, given)
			}
		}
		if len(g.Annotations) > 0 && spec.Annotations == nil {
			spec.Annotations = map[string]string{}
		}
		maps.Copy(spec.Annotations, g.Annotations)
	}
	if len(env) > 0 {
		spec.Env = append(env, spec.Env...)
	}
	if len(mounts) > 0 {
		spec.Mounts = append(mounts, spec.Mounts...)
	}
}

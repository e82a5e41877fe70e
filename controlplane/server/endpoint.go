package server

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"coracle/internal/liveness"
)

// endpointInterval is how often the service and the addresses of the API are looked at when nobody touches them; they are
// written only when they changed.
const endpointInterval = 20 * time.Second

// addressAnnotation, on a gateway's Lease, is where its control plane is reached (host:port of the gateway).
const addressAnnotation = "coracle.dev/gateway-address"

// keepPublished keeps the Service kubernetes and its endpoints, the addresses of all control planes that are alive: both
// are looked at when somebody else touches them, and now and then.
func (p *plane) keepPublished(ctx context.Context) error {
	if p.onLoopback() {
		p.log.Info("the API is advertised on loopback: pods will not find it by the service kubernetes", "address", p.cfg.AdvertiseAddress)
	}
	// One slot: more would say the same.
	touched := make(chan struct{}, 1)
	forget, err := p.watchPublished(touched)
	if err != nil {
		return err
	}
	defer forget()
	timer := time.NewTimer(0)
	defer timer.Stop()
	reported := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-touched:
		case <-timer.C:
		}
		next := endpointInterval
		switch err := p.ensurePublished(ctx); {
		case err == nil:
			reported = ""
		case ctx.Err() == nil:
			next = bootstrapRetry
			if err.Error() != reported {
				reported = err.Error()
				p.log.Warn("service or endpoints of the API not written, trying again", "err", err)
			}
		}
		timer.Reset(next)
	}
}

// watchPublished says on touched that the Service or its endpoints were changed, until forget is called.
func (p *plane) watchPublished(touched chan<- struct{}) (forget func(), err error) {
	wake := func(any) {
		select {
		case touched <- struct{}{}:
		default:
		}
	}
	handler := cache.FilteringResourceEventHandler{
		FilterFunc: func(obj any) bool {
			name, err := cache.DeletionHandlingObjectToName(obj)
			return err == nil && name == cache.ObjectName{Namespace: metav1.NamespaceDefault, Name: apiName}
		},
		Handler: cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, obj any) { wake(obj) }, DeleteFunc: wake},
	}
	core := p.informers.Core().V1()
	watched := []cache.SharedIndexInformer{core.Services().Informer()}
	if !p.onLoopback() {
		watched = append(watched, core.Endpoints().Informer(), p.informers.Discovery().V1().EndpointSlices().Informer())
	}
	var removes []func()
	forget = func() {
		for _, remove := range removes {
			remove()
		}
	}
	for _, informer := range watched {
		handle, err := informer.AddEventHandler(handler)
		if err != nil {
			forget()
			return nil, fmt.Errorf("watch the service of the API: %w", err)
		}
		removes = append(removes, func() { _ = informer.RemoveEventHandler(handle) }) // it fails for a handler that is gone
	}
	return forget, nil
}

func (p *plane) onLoopback() bool {
	ip := net.ParseIP(p.cfg.AdvertiseAddress)
	return ip == nil || ip.IsLoopback()
}

// ensurePublished makes the Service, which a user may have deleted, and, where pods can reach them, the endpoints.
func (p *plane) ensurePublished(ctx context.Context) error {
	if err := p.ensureAPIService(ctx); err != nil || p.onLoopback() {
		return err
	}
	return p.ensureEndpoints(ctx)
}

func (p *plane) ensureEndpoints(ctx context.Context) error {
	var leases []coordinationv1.Lease
	if !p.etcd.Embedded() {
		list, err := p.client.CoordinationV1().Leases(liveness.GatewayLeaseNamespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list control planes: %w", err)
		}
		leases = list.Items
	}
	addresses := apiAddresses(p.cfg.AdvertiseAddress, leases, time.Now())
	if err := p.ensureEndpointsObject(ctx, addresses); err != nil {
		return err
	}
	return p.ensureSlice(ctx, addresses)
}

// apiAddresses is this control plane's address and those whose gateways renewed their Lease lately, sorted.
func apiAddresses(own string, leases []coordinationv1.Lease, now time.Time) []string {
	alive := map[string]bool{own: true}
	for i := range leases {
		l := &leases[i]
		if _, ok := liveness.GatewayName(l.Name); !ok || l.Spec.RenewTime == nil {
			continue
		}
		if now.Sub(l.Spec.RenewTime.Time) > liveness.GatewayLeaseDuration {
			continue
		}
		if host, _, err := net.SplitHostPort(l.Annotations[addressAnnotation]); err == nil && net.ParseIP(host) != nil {
			alive[host] = true
		}
	}
	return slices.Sorted(maps.Keys(alive))
}

func (p *plane) ensureEndpointsObject(ctx context.Context, addresses []string) error {
	api := p.client.CoreV1().Endpoints(metav1.NamespaceDefault)
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{
		Name: "https", Port: int32(p.cfg.SecurePort), Protocol: corev1.ProtocolTCP, //nolint:gosec // validated as a port
	}}}
	for _, a := range addresses {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: a})
	}
	want := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: apiName,
			// The slice below is written here too; nobody is to derive another from this object.
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
		},
		Subsets: []corev1.EndpointSubset{subset},
	}
	have, err := api.Get(ctx, apiName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, want, metav1.CreateOptions{})
	case err == nil && !apiequality.Semantic.DeepEqual(have.Subsets, want.Subsets):
		have.Subsets = want.Subsets
		_, err = api.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write endpoints %s: %w", apiName, err)
	}
	return nil
}

func (p *plane) ensureSlice(ctx context.Context, addresses []string) error {
	api := p.client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	want := p.apiSlice(addresses)
	have, err := api.Get(ctx, apiName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = api.Create(ctx, want, metav1.CreateOptions{})
	case err == nil && have.AddressType != want.AddressType:
		if err = api.Delete(ctx, apiName, metav1.DeleteOptions{}); err == nil {
			_, err = api.Create(ctx, want, metav1.CreateOptions{})
		}
	case err == nil && (!apiequality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) || !apiequality.Semantic.DeepEqual(have.Ports, want.Ports)):
		have.Endpoints, have.Ports = want.Endpoints, want.Ports
		_, err = api.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("write endpointslice %s: %w", apiName, err)
	}
	return nil
}

func (p *plane) apiSlice(addresses []string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: apiName,
			Labels: map[string]string{discoveryv1.LabelServiceName: apiName},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{
			Name: ptr.To("https"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(p.cfg.SecurePort)), //nolint:gosec // validated as a port
		}},
	}
	if ip := net.ParseIP(p.cfg.AdvertiseAddress); ip != nil && ip.To4() == nil {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		})
	}
	return s
}

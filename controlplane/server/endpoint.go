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
	"k8s.io/utils/ptr"

	"coracle/internal/liveness"
)

// endpointInterval is how often the addresses of the API are looked at; they are written only when they changed.
const endpointInterval = 20 * time.Second

// addressAnnotation, on a gateway's Lease, is where its control plane is reached (host:port of the gateway).
const addressAnnotation = "coracle.dev/gateway-address"

// keepEndpoints keeps the endpoints of the Service kubernetes: the addresses of all control planes that are alive.
func (p *plane) keepEndpoints(ctx context.Context) error {
	if ip := net.ParseIP(p.cfg.AdvertiseAddress); ip == nil || ip.IsLoopback() {
		p.log.Info("the API is advertised on loopback: pods will not find it by the service kubernetes", "address", p.cfg.AdvertiseAddress)
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(endpointInterval)
	defer ticker.Stop()
	reported := ""
	for {
		err := p.ensureEndpoints(ctx)
		switch {
		case err == nil:
			reported = ""
		case ctx.Err() == nil && err.Error() != reported:
			reported = err.Error()
			p.log.Warn("endpoints of the API not written", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
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

package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

func newService(name string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"a": "b"}},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func ofType(kind corev1.ServiceType) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Type = kind }
}

func TestServiceAddresses(t *testing.T) {
	c, ns := use(t)
	services := c.client.CoreV1().Services(ns)
	ctx := t.Context()
	a, err := services.Create(ctx, newService("a"), metav1.CreateOptions{})
	if err != nil || a.Spec.ClusterIP == "" || len(a.Spec.ClusterIPs) != 1 || a.Spec.ClusterIPs[0] != a.Spec.ClusterIP {
		t.Fatalf("create: %v %v", a, err)
	}
	ip, err := c.client.NetworkingV1().IPAddresses().Get(ctx, a.Spec.ClusterIP, metav1.GetOptions{})
	if err != nil || ip.Spec.ParentRef.Name != "a" || ip.Spec.ParentRef.Namespace != ns {
		t.Fatalf("claim: %v %v", ip, err)
	}
	withIP := func(ip string) func(*corev1.Service) { return func(s *corev1.Service) { s.Spec.ClusterIP = ip } }
	_, err = services.Create(ctx, newService("taken", withIP(a.Spec.ClusterIP)), metav1.CreateOptions{})
	wantStatus(t, err, 422, "already allocated")
	_, err = services.Create(ctx, newService("outside", withIP("192.0.2.1")), metav1.CreateOptions{})
	wantStatus(t, err, 422, "not in the valid range")
	_, err = services.Create(ctx, newService("rubbish", withIP("x")), metav1.CreateOptions{})
	wantStatus(t, err, 422, "spec.clusterIPs")
	chosen, err := services.Create(ctx, newService("chosen", withIP("10.96.7.7")), metav1.CreateOptions{})
	if err != nil || chosen.Spec.ClusterIP != "10.96.7.7" {
		t.Fatalf("chosen: %v %v", chosen, err)
	}
	none, err := services.Create(ctx, newService("headless", withIP("None")), metav1.CreateOptions{})
	if err != nil || none.Spec.ClusterIP != "None" {
		t.Fatalf("headless: %v %v", none, err)
	}

	// A client that replaces the object from its own manifest keeps the address.
	again := newService("a")
	again.Labels = map[string]string{"x": "y"}
	replaced, err := services.Update(ctx, again, metav1.UpdateOptions{})
	if err != nil || replaced.Spec.ClusterIP != a.Spec.ClusterIP {
		t.Fatalf("replace: %v %v", replaced, err)
	}
	replaced.Spec.ClusterIP, replaced.Spec.ClusterIPs = "10.96.7.8", []string{"10.96.7.8"}
	_, err = services.Update(ctx, replaced, metav1.UpdateOptions{})
	wantStatus(t, err, 422, "may not change once set")

	// Refused and dry-run services claim nothing.
	bad := newService("bad", withIP("10.96.7.9"))
	bad.Spec.Ports[0].Port = 0
	_, err = services.Create(ctx, bad, metav1.CreateOptions{})
	wantStatus(t, err, 422, "spec.ports[0].port")
	if _, err := services.Create(ctx, newService("dry", withIP("10.96.7.9")), metav1.CreateOptions{DryRun: []string{"All"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.NetworkingV1().IPAddresses().Get(ctx, "10.96.7.9", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("a refused or dry-run service claimed its address: %v", err)
	}

	// ExternalName needs none; going back gets one again.
	ext := replaced.DeepCopy()
	ext.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}
	ext, err = services.Update(ctx, ext, metav1.UpdateOptions{})
	if err != nil || ext.Spec.ClusterIP != "" || len(ext.Spec.ClusterIPs) != 0 {
		t.Fatalf("external name: %v %v", ext, err)
	}
	if _, err := c.client.NetworkingV1().IPAddresses().Get(ctx, a.Spec.ClusterIP, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("the address was not released: %v", err)
	}
	ext.Spec = newService("a").Spec
	if ext, err = services.Update(ctx, ext, metav1.UpdateOptions{}); err != nil || ext.Spec.ClusterIP == "" {
		t.Fatalf("back to cluster IP: %v %v", ext, err)
	}
	if err := services.Delete(ctx, "chosen", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := services.Create(ctx, newService("reuse", withIP("10.96.7.7")), metav1.CreateOptions{}); err != nil {
		t.Fatalf("a deleted service's address is free: %v", err)
	}
}

func TestNodePorts(t *testing.T) {
	c, ns := use(t)
	services := c.client.CoreV1().Services(ns)
	ctx := t.Context()
	a, err := services.Create(ctx, newService("a", ofType(corev1.ServiceTypeNodePort)), metav1.CreateOptions{})
	if err != nil || a.Spec.Ports[0].NodePort < 30086 || a.Spec.Ports[0].NodePort > 32767 {
		t.Fatalf("node port: %v %v", a, err)
	}
	withPort := func(n int32) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort; s.Spec.Ports[0].NodePort = n }
	}
	_, err = services.Create(ctx, newService("b", withPort(a.Spec.Ports[0].NodePort)), metav1.CreateOptions{})
	wantStatus(t, err, 422, "provided port is already allocated")
	_, err = services.Create(ctx, newService("b", withPort(80)), metav1.CreateOptions{})
	wantStatus(t, err, 422, "The range of valid ports is 30000-32767")
	if _, err := services.Create(ctx, newService("b", withPort(30001)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	both := newService("both", ofType(corev1.ServiceTypeNodePort))
	both.Spec.Ports = []corev1.ServicePort{{Name: "t", Port: 53, Protocol: "TCP"}, {Name: "u", Port: 53, Protocol: "UDP"}}
	both, err = services.Create(ctx, both, metav1.CreateOptions{})
	if err != nil || both.Spec.Ports[0].NodePort != both.Spec.Ports[1].NodePort {
		t.Fatalf("one number for two protocols: %v %v", both, err)
	}
	lb := newService("lb", ofType(corev1.ServiceTypeLoadBalancer))
	lb.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	lb, err = services.Create(ctx, lb, metav1.CreateOptions{})
	if err != nil || lb.Spec.HealthCheckNodePort == 0 || lb.Spec.HealthCheckNodePort == lb.Spec.Ports[0].NodePort {
		t.Fatalf("health port: %v %v", lb, err)
	}
	// Going to ClusterIP frees the port for others.
	plain := newService("a")
	plain.Spec.Type = corev1.ServiceTypeClusterIP
	plain, err = services.Update(ctx, plain, metav1.UpdateOptions{})
	if err != nil || plain.Spec.Ports[0].NodePort != 0 {
		t.Fatalf("to cluster IP: %v %v", plain, err)
	}
	if _, err := services.Create(ctx, newService("c", withPort(a.Spec.Ports[0].NodePort)), metav1.CreateOptions{}); err != nil {
		t.Fatalf("a port given up is free: %v", err)
	}
	if err := services.Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := services.Create(ctx, newService("d", withPort(30001)), metav1.CreateOptions{}); err != nil {
		t.Fatalf("a deleted service's port is free: %v", err)
	}
}

// TestServiceRangeExhaustion uses a cluster of its own with 14 addresses, one of them the API's.
func TestServiceRangeExhaustion(t *testing.T) {
	cfg, err := testConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServiceCIDR, cfg.ClusterDNS = "10.96.0.0/28", ""
	if err := cfg.Complete(); err != nil {
		t.Fatal(err)
	}
	c, err := boot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	}()
	services := c.client.CoreV1().Services("default")
	seen := map[string]bool{"10.96.0.1": true}
	for i := range 13 {
		s, err := services.Create(t.Context(), newService(fmt.Sprintf("s%d", i)), metav1.CreateOptions{})
		if err != nil || seen[s.Spec.ClusterIP] {
			t.Fatalf("service %d: %v %v", i, s, err)
		}
		seen[s.Spec.ClusterIP] = true
	}
	_, err = services.Create(t.Context(), newService("more"), metav1.CreateOptions{})
	wantStatus(t, err, 500, "range is full")
	if err := services.Delete(t.Context(), "s3", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := services.Create(t.Context(), newService("more"), metav1.CreateOptions{}); err != nil {
		t.Fatalf("after a deletion: %v", err)
	}
}

func TestServiceOfTheAPIComesBack(t *testing.T) {
	cfg, err := testConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg.AdvertiseAddress = "192.0.2.1" // with an address on loopback there are no endpoints
	c, err := boot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	services := c.client.CoreV1().Services(metav1.NamespaceDefault)
	endpoints := c.client.CoreV1().Endpoints(metav1.NamespaceDefault)
	slices := c.client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault)
	whole := func() (types.UID, error) {
		service, err := services.Get(ctx, apiName, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		e, err := endpoints.Get(ctx, apiName, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		s, err := slices.Get(ctx, apiName, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if want := cfg.ServiceIP().String(); service.Spec.ClusterIP != want {
			return "", fmt.Errorf("the service has %s, want %s", service.Spec.ClusterIP, want)
		}
		if len(e.Subsets) != 1 || len(s.Endpoints) != 1 || s.Endpoints[0].Addresses[0] != cfg.AdvertiseAddress {
			return "", fmt.Errorf("endpoints %v, slice %v, want %s", e.Subsets, s.Endpoints, cfg.AdvertiseAddress)
		}
		return service.UID, nil
	}
	var before types.UID
	eventually(t, "service and endpoints are made", func() (err error) {
		before, err = whole()
		return err
	})
	started := time.Now()
	for _, remove := range []func(context.Context, string, metav1.DeleteOptions) error{services.Delete, endpoints.Delete, slices.Delete} {
		// The endpoints may be gone already: they go with the service.
		if err := remove(ctx, apiName, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
	eventually(t, "service and endpoints come back", func() error {
		after, err := whole()
		if err == nil && after == before {
			return errors.New("the service was not deleted")
		}
		return err
	})
	if took := time.Since(started); took > endpointInterval {
		t.Errorf("they came back after %s, which is as late as without watching", took)
	}
}

package podstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	utilproxy "k8s.io/apimachinery/pkg/util/proxy"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

var proxyMethods = []string{
	http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions,
}

// directTimeout bounds connecting to an endpoint that is no pod.
const directTimeout = 30 * time.Second

// reverse proxies HTTP to what dial reaches. name is SCHEME:NAME:PORT for messages and the Host header.
func reverse(scheme, host, path string, dial func(ctx context.Context) (net.Conn, error), responder rest.Responder) http.Handler {
	if scheme == "" {
		scheme = "http"
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		// As with Kubernetes: a pod has no certificate that this side could check.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true, // a kept connection would be a stream to the node for nobody
	}
	// Without a path and its slash the handler sends the client to the one with it, or relative links would lead elsewhere.
	if path != "" {
		path = utilnet.JoinPreservingTrailingSlash("/", path)
	}
	location := &url.URL{Scheme: scheme, Host: host, Path: path}
	handler := utilproxy.NewUpgradeAwareHandler(location, transport, true, false, utilproxy.NewErrorResponder(responder))
	handler.UseLocationHost = false
	return handler
}

// podProxyREST is pods/proxy.
type podProxyREST struct{ c Config }

var _ rest.Connecter = &podProxyREST{}

// New implements rest.Storage.
func (r *podProxyREST) New() runtime.Object { return &v1.PodProxyOptions{} }

// Destroy implements rest.Storage.
func (r *podProxyREST) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (r *podProxyREST) ConnectMethods() []string { return proxyMethods }

// NewConnectOptions implements rest.Connecter.
func (r *podProxyREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &v1.PodProxyOptions{}, true, "path"
}

// Connect implements rest.Connecter.
func (r *podProxyREST) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	opts, ok := options.(*v1.PodProxyOptions)
	if !ok {
		return nil, apierrors.NewBadRequest("invalid options object")
	}
	scheme, name, portText, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid pod request %q", id))
	}
	pod, err := r.c.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	port, err := podPort(pod, portText)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" || pod.Status.PodIP == "" {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("pod %s has no address allocated", name))
	}
	return reverse(scheme, hostPort(pod.Status.PodIP, port), opts.Path, func(ctx context.Context) (net.Conn, error) {
		return r.c.dial(ctx, pod.Spec.NodeName, pod, port, false)
	}, responder), nil
}

// podPort is the port named, or the first that the pod declares.
func podPort(pod *v1.Pod, text string) (int32, error) {
	if text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err == nil && n > 0 {
			return int32(n), nil
		}
		for i := range pod.Spec.Containers {
			for _, p := range pod.Spec.Containers[i].Ports {
				if p.Name == text {
					return p.ContainerPort, nil
				}
			}
		}
		return 0, apierrors.NewBadRequest(fmt.Sprintf("pod %s has no port %q", pod.Name, text))
	}
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			return ports[0].ContainerPort, nil
		}
	}
	return 80, nil
}

func hostPort(ip string, port int32) string { return net.JoinHostPort(ip, strconv.Itoa(int(port))) }

// serviceProxyREST is services/proxy.
type serviceProxyREST struct{ c Config }

var _ rest.Connecter = &serviceProxyREST{}

// New implements rest.Storage.
func (r *serviceProxyREST) New() runtime.Object { return &v1.ServiceProxyOptions{} }

// Destroy implements rest.Storage.
func (r *serviceProxyREST) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (r *serviceProxyREST) ConnectMethods() []string { return proxyMethods }

// NewConnectOptions implements rest.Connecter.
func (r *serviceProxyREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &v1.ServiceProxyOptions{}, true, "path"
}

// Connect implements rest.Connecter.
func (r *serviceProxyREST) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	opts, ok := options.(*v1.ServiceProxyOptions)
	if !ok {
		return nil, apierrors.NewBadRequest("invalid options object")
	}
	scheme, name, portText, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid service request %q", id))
	}
	obj, err := r.c.Services.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	service, ok := obj.(*v1.Service)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("service %s is stored as %T", name, obj))
	}
	portName, err := servicePort(service, portText)
	if err != nil {
		return nil, err
	}
	namespace := genericapirequest.NamespaceValue(ctx)
	slices, err := r.c.EndpointSlices(namespace, name)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	targets := endpoints(slices, portName)
	if len(targets) == 0 {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", id))
	}
	t := targets[rand.IntN(len(targets))]
	return reverse(scheme, hostPort(t.address, t.port), opts.Path, func(ctx context.Context) (net.Conn, error) {
		// The context is that of the proxied request, which knows of no namespace.
		return r.c.dialEndpoint(genericapirequest.WithNamespace(ctx, namespace), t)
	}, responder), nil
}

// servicePort finds the name of a port given by name or number; an only port need not be given.
func servicePort(s *v1.Service, text string) (string, error) {
	if text == "" {
		if len(s.Spec.Ports) == 1 {
			return s.Spec.Ports[0].Name, nil
		}
		text = "80"
	}
	for _, p := range s.Spec.Ports {
		if p.Name == text || strconv.Itoa(int(p.Port)) == text {
			return p.Name, nil
		}
	}
	return "", apierrors.NewServiceUnavailable(fmt.Sprintf("no service port %q found for service %q", text, s.Name))
}

// endpoint is one address behind a service.
type endpoint struct {
	address string
	port    int32
	pod     string // empty: not a pod
}

func endpoints(slices []*discoveryv1.EndpointSlice, portName string) []endpoint {
	var out []endpoint
	for _, s := range slices {
		for _, p := range s.Ports {
			if p.Port == nil || (p.Name != nil && *p.Name != portName) || (p.Name == nil && portName != "") {
				continue
			}
			for _, e := range s.Endpoints {
				if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
					continue
				}
				t := endpoint{address: e.Addresses[0], port: *p.Port}
				if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
					t.pod = e.TargetRef.Name
				}
				out = append(out, t)
			}
		}
	}
	return out
}

func (c Config) dialEndpoint(ctx context.Context, t endpoint) (net.Conn, error) {
	if t.pod == "" {
		ip := net.ParseIP(t.address)
		if ip == nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified() {
			return nil, fmt.Errorf("address %q is not allowed", t.address) // it would mean this machine
		}
		return (&net.Dialer{Timeout: directTimeout}).DialContext(ctx, "tcp", hostPort(t.address, t.port))
	}
	pod, err := c.pod(ctx, t.pod)
	if err != nil {
		return nil, err
	}
	if pod.Spec.NodeName == "" {
		return nil, fmt.Errorf("pod %s is on no node", t.pod)
	}
	return c.dial(ctx, pod.Spec.NodeName, pod, t.port, false)
}

// nodeProxyREST is nodes/proxy.
type nodeProxyREST struct{ c Config }

var _ rest.Connecter = &nodeProxyREST{}

// New implements rest.Storage.
func (r *nodeProxyREST) New() runtime.Object { return &v1.NodeProxyOptions{} }

// Destroy implements rest.Storage.
func (r *nodeProxyREST) Destroy() {}

// ConnectMethods implements rest.Connecter.
func (r *nodeProxyREST) ConnectMethods() []string { return proxyMethods }

// NewConnectOptions implements rest.Connecter.
func (r *nodeProxyREST) NewConnectOptions() (runtime.Object, bool, string) {
	return &v1.NodeProxyOptions{}, true, "path"
}

// kubeletPort is what clients ask for that know nodes by their kubelet.
const kubeletPort = 10250

// Connect implements rest.Connecter. Without a port, or with the kubelet's, the agent
// itself answers, as it listens on none.
func (r *nodeProxyREST) Connect(ctx context.Context, id string, options runtime.Object, responder rest.Responder) (http.Handler, error) {
	opts, ok := options.(*v1.NodeProxyOptions)
	if !ok {
		return nil, apierrors.NewBadRequest("invalid options object")
	}
	scheme, name, portText, valid := utilnet.SplitSchemeNamePort(id)
	if !valid {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q", id))
	}
	if _, err := r.c.Nodes.Get(ctx, name, &metav1.GetOptions{}); err != nil {
		return nil, err
	}
	port := int32(0)
	if portText != "" {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || n == 0 {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid node request %q: port %q", id, portText))
		}
		if port = int32(n); port == kubeletPort {
			port, scheme = 0, "http"
		}
	} else {
		scheme = "http"
	}
	return reverse(scheme, hostPort(name, max(port, 1)), opts.Path, func(ctx context.Context) (net.Conn, error) {
		return r.c.dial(ctx, name, nil, port, false)
	}, responder), nil
}

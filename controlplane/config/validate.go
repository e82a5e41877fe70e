package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	apinet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation"
)

// smallestServiceRange leaves room for the API, DNS and a few services.
const smallestServiceRange = 4 // bits

func (c *Config) validate() []error {
	var errs []error
	wrong := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{field}, args...)...))
	}
	if c.DataDir == "" {
		wrong("dataDir", "must be set")
	}
	if p := validation.IsDNS1123Subdomain(c.Name); len(p) > 0 {
		wrong("name", "%q: %s", c.Name, strings.Join(p, ", "))
	}
	c.validateAddresses(wrong)
	c.validateEtcd(wrong)
	c.validateRanges(wrong)
	if p := validation.IsDNS1123Subdomain(c.ClusterDomain); len(p) > 0 {
		wrong("clusterDomain", "%q: %s", c.ClusterDomain, strings.Join(p, ", "))
	}
	if u, err := url.Parse(c.ServiceAccountIssuer); err != nil || c.ServiceAccountIssuer == "" {
		wrong("serviceAccountIssuer", "%q is not a URL or name", c.ServiceAccountIssuer)
	} else if strings.Contains(c.ServiceAccountIssuer, ":") && (u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "") {
		wrong("serviceAccountIssuer", "%q must be https://HOST[/PATH], as OpenID Connect demands", c.ServiceAccountIssuer)
	}
	if c.MemoryLimit != "" {
		if q, err := resource.ParseQuantity(c.MemoryLimit); err != nil || q.Sign() <= 0 {
			wrong("memoryLimit", "%q is not a size such as 80Mi", c.MemoryLimit)
		}
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		wrong("logLevel", "%q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		wrong("logFormat", "%q is neither text nor json", c.LogFormat)
	}
	return errs
}

type complain func(field, format string, args ...any)

func (c *Config) validateAddresses(wrong complain) {
	if net.ParseIP(c.BindAddress) == nil {
		wrong("bindAddress", "%q is not an IP address (0.0.0.0 or :: listens everywhere)", c.BindAddress)
	}
	if ip := net.ParseIP(c.AdvertiseAddress); ip == nil || ip.IsUnspecified() {
		wrong("advertiseAddress", "%q is not an address that others could dial", c.AdvertiseAddress)
	}
	for field, port := range map[string]int{"securePort": c.SecurePort, "gatewayPort": c.GatewayPort} {
		if port < 1 || port > 65535 {
			wrong(field, "%d is not between 1 and 65535", port)
		}
	}
	if c.SecurePort == c.GatewayPort {
		wrong("gatewayPort", "%d is the securePort already", c.GatewayPort)
	}
	for _, name := range c.ServerNames {
		if net.ParseIP(name) == nil && len(validation.IsDNS1123Subdomain(name)) > 0 && len(validation.IsWildcardDNS1123Subdomain(name)) > 0 {
			wrong("serverNames", "%q is neither an IP address nor a DNS name", name)
		}
	}
}

func (c *Config) validateEtcd(wrong complain) {
	for _, endpoint := range c.Etcd.Endpoints {
		u, err := url.Parse(endpoint)
		switch {
		case err != nil, u.Scheme == "", u.Host == "" && u.Path == "":
			wrong("etcd.endpoints", "%q is not a URL such as https://10.0.0.1:2379", endpoint)
		case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "unix" && u.Scheme != "unixs":
			wrong("etcd.endpoints", "%q: the scheme must be http, https, unix or unixs", endpoint)
		}
	}
	if (c.Etcd.CertFile == "") != (c.Etcd.KeyFile == "") {
		wrong("etcd", "certFile and keyFile come together")
	}
	if len(c.Etcd.Endpoints) == 0 && c.Etcd.CAFile+c.Etcd.CertFile+c.Etcd.KeyFile != "" {
		wrong("etcd", "certificates are given but no endpoints")
	}
}

func (c *Config) validateRanges(wrong complain) {
	service, err := netip.ParsePrefix(c.ServiceCIDR)
	switch {
	case err != nil:
		wrong("serviceCIDR", "%q is not a range such as 10.96.0.0/16", c.ServiceCIDR)
	case service != service.Masked():
		wrong("serviceCIDR", "%q has bits set after the prefix, did you mean %s?", c.ServiceCIDR, service.Masked())
	case service.Addr().BitLen()-service.Bits() < smallestServiceRange:
		wrong("serviceCIDR", "%q is too small, give it %d bits at least", c.ServiceCIDR, smallestServiceRange)
	case service.Addr().BitLen()-service.Bits() > 20:
		wrong("serviceCIDR", "%q is too large, a prefix of %d bits is the largest", c.ServiceCIDR, service.Addr().BitLen()-20)
	default:
		if ip, err := netip.ParseAddr(c.ClusterDNS); err != nil || !service.Contains(ip) {
			wrong("clusterDNS", "%q is not an address in serviceCIDR %s", c.ClusterDNS, service)
		} else if ip == nth(service, 1) {
			wrong("clusterDNS", "%s is the address of the API's own service", ip)
		}
	}
	pod, perr := netip.ParsePrefix(c.PodCIDR)
	switch {
	case perr != nil:
		wrong("podCIDR", "%q is not a range such as 10.244.0.0/16", c.PodCIDR)
	case pod != pod.Masked():
		wrong("podCIDR", "%q has bits set after the prefix, did you mean %s?", c.PodCIDR, pod.Masked())
	case err == nil && pod.Overlaps(service):
		wrong("podCIDR", "%s overlaps serviceCIDR %s", pod, service)
	case c.NodeMaskSize < pod.Bits() || c.NodeMaskSize > pod.Addr().BitLen()-2:
		wrong("nodeMaskSize", "%d must lie between %d (podCIDR) and %d", c.NodeMaskSize, pod.Bits(), pod.Addr().BitLen()-2)
	case c.NodeMaskSize-pod.Bits() > 16:
		wrong("nodeMaskSize", "%d cuts %s into more than 65536 parts", c.NodeMaskSize, pod)
	}
	if ports, err := apinet.ParsePortRange(c.NodePortRange); err != nil || ports.Size == 0 {
		wrong("nodePortRange", "%q is not a range such as 30000-32767", c.NodePortRange)
	} else if ports.Contains(c.SecurePort) || ports.Contains(c.GatewayPort) {
		wrong("nodePortRange", "%q holds securePort or gatewayPort", c.NodePortRange)
	}
}

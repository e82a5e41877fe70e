package pki

import (
	"net"
	"slices"
	"strings"
)

// serverNames lists the names and addresses under which the control plane is called: on the machine itself, from the
// network, and from pods through the "kubernetes" Service.
func serverNames(o Options) (dns []string, ips []net.IP) {
	addName := func(name string) {
		if ip := net.ParseIP(name); ip != nil {
			if !slices.ContainsFunc(ips, ip.Equal) {
				ips = append(ips, ip)
			}
			return
		}
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if name != "" && !slices.Contains(dns, name) {
			dns = append(dns, name)
		}
	}
	addName("localhost")
	addName("127.0.0.1")
	addName("::1")
	addName(o.Name)
	for _, name := range []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc"} {
		addName(name)
	}
	if o.ClusterDomain != "" {
		addName("kubernetes.default.svc." + o.ClusterDomain)
	}
	for _, ip := range []net.IP{o.AdvertiseAddress, o.ServiceIP} {
		if ip != nil {
			addName(ip.String())
		}
	}
	for _, name := range o.ServerNames {
		addName(name)
	}
	return dns, ips
}

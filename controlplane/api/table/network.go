package table

import (
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/utils/ptr"
)

// How many items a cell shows before it says that there are more.
const (
	mostEndpoints = 3
	mostPorts     = 3
)

func networkPrinters() map[reflect.Type]printer {
	return map[reflect.Type]printer{
		typeOf[corev1.Service](): of(columns(nameColumn, text("Type"), text("Cluster-IP"), text("External-IP"), text("Port(s)"), ageColumn, wide("Selector")),
			serviceCells),
		typeOf[corev1.Endpoints](): of(columns(nameColumn, text("Endpoints"), ageColumn),
			func(o *corev1.Endpoints, now time.Time) []any {
				return []any{o.Name, endpointsText(o), age(o, now)}
			}),
		typeOf[discoveryv1.EndpointSlice](): of(columns(nameColumn, text("AddressType"), text("Ports"), text("Endpoints"), ageColumn), sliceCells),
		typeOf[networkingv1.Ingress]():      of(columns(nameColumn, text("Class"), text("Hosts"), text("Address"), text("Ports"), ageColumn), ingressCells),
		typeOf[networkingv1.IngressClass](): of(columns(nameColumn, text("Controller"), text("Parameters"), ageColumn),
			func(o *networkingv1.IngressClass, now time.Time) []any {
				parameters := none
				if p := o.Spec.Parameters; p != nil {
					parameters = p.Kind
					if p.APIGroup != nil {
						parameters += "." + *p.APIGroup
					}
					parameters += "/" + p.Name
				}
				return []any{o.Name, o.Spec.Controller, parameters, age(o, now)}
			}),
		typeOf[networkingv1.NetworkPolicy](): of(columns(nameColumn, text("Pod-Selector"), ageColumn),
			func(o *networkingv1.NetworkPolicy, now time.Time) []any {
				return []any{o.Name, selectorText(&o.Spec.PodSelector), age(o, now)}
			}),
		typeOf[networkingv1.ServiceCIDR](): of(columns(nameColumn, text("CIDRs"), ageColumn),
			func(o *networkingv1.ServiceCIDR, now time.Time) []any {
				return []any{o.Name, strings.Join(o.Spec.CIDRs, ","), age(o, now)}
			}),
		typeOf[networkingv1.IPAddress](): of(columns(nameColumn, text("ParentRef"), ageColumn),
			func(o *networkingv1.IPAddress, now time.Time) []any {
				parent := none
				if ref := o.Spec.ParentRef; ref != nil {
					parent = strings.Trim(ref.Resource+"."+ref.Group, ".") + "/" + strings.Trim(ref.Namespace+"/"+ref.Name, "/")
				}
				return []any{o.Name, parent, age(o, now)}
			}),
	}
}

func serviceCells(s *corev1.Service, now time.Time) []any {
	clusterIP := none
	if len(s.Spec.ClusterIPs) > 0 {
		clusterIP = s.Spec.ClusterIPs[0]
	} else if s.Spec.ClusterIP != "" {
		clusterIP = s.Spec.ClusterIP
	}
	return []any{s.Name, string(s.Spec.Type), clusterIP, externalIP(s), or(portsText(s.Spec.Ports), none), age(s, now), labelText(s.Spec.Selector)}
}

func externalIP(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var list []string
		for _, i := range s.Status.LoadBalancer.Ingress {
			address := i.IP
			if address == "" {
				address = i.Hostname
			}
			if address != "" && !slices.Contains(list, address) {
				list = append(list, address)
			}
		}
		slices.Sort(list)
		list = append(list, s.Spec.ExternalIPs...)
		return or(strings.Join(list, ","), pending)
	}
	return or(strings.Join(s.Spec.ExternalIPs, ","), none)
}

// portsText is "80/TCP" or, with a node port, "80:30080/TCP".
func portsText(ports []corev1.ServicePort) string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			list[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	return strings.Join(list, ",")
}

func endpointsText(e *corev1.Endpoints) string {
	var list []string
	for _, subset := range e.Subsets {
		if len(subset.Ports) == 0 {
			for _, a := range subset.Addresses {
				list = append(list, a.IP)
			}
			continue
		}
		for _, port := range subset.Ports {
			for _, a := range subset.Addresses {
				list = append(list, net.JoinHostPort(a.IP, fmt.Sprint(port.Port)))
			}
		}
	}
	return listWithMore(list, mostEndpoints)
}

func sliceCells(s *discoveryv1.EndpointSlice, now time.Time) []any {
	ports := unset
	if len(s.Ports) > 0 {
		var list []string
		for _, p := range s.Ports {
			number := "*"
			if p.Port != nil {
				number = fmt.Sprint(*p.Port)
			} else if p.Name != nil && *p.Name != "" {
				number = *p.Name
			}
			list = append(list, number)
		}
		ports = listWithMore(list, mostPorts)
	}
	endpoints := unset
	var list []string
	for _, e := range s.Endpoints {
		list = append(list, e.Addresses...)
	}
	if len(list) > 0 {
		endpoints = listWithMore(list, mostEndpoints)
	}
	return []any{s.Name, string(s.AddressType), ports, endpoints, age(s, now)}
}

func ingressCells(o *networkingv1.Ingress, now time.Time) []any {
	var hosts, addresses []string
	for _, rule := range o.Spec.Rules {
		if rule.Host != "" {
			hosts = append(hosts, rule.Host)
		}
	}
	host := "*"
	if len(hosts) > 0 {
		host = listWithMore(hosts, mostEndpoints)
	}
	for _, i := range o.Status.LoadBalancer.Ingress {
		if a := or(i.IP, i.Hostname); a != "" {
			addresses = append(addresses, a)
		}
	}
	ports := "80"
	if len(o.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	return []any{o.Name, ptr.Deref(o.Spec.IngressClassName, none), host, strings.Join(addresses, ","), ports, age(o, now)}
}

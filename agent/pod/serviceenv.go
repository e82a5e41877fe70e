package pod

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// ServiceEnv lists the variables by which a pod finds services: those of its own namespace
// unless enableServiceLinks is false, and always those of default/kubernetes. Services are taken in the order of their names.
func ServiceEnv(pod *v1.Pod, services []*v1.Service) []EnvVar {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	var chosen []*v1.Service
	own := map[string]bool{}
	for _, s := range services {
		if hasClusterIP(s) && links && s.Namespace == pod.Namespace {
			chosen = append(chosen, s)
			own[s.Name] = true
		}
	}
	for _, s := range services {
		if hasClusterIP(s) && s.Namespace == "default" && s.Name == "kubernetes" && !own[s.Name] {
			chosen = append(chosen, s)
		}
	}
	slices.SortFunc(chosen, func(a, b *v1.Service) int { return strings.Compare(a.Name, b.Name) })
	var out []EnvVar
	for _, s := range chosen {
		out = appendServiceEnv(out, s)
	}
	return out
}

func hasClusterIP(s *v1.Service) bool {
	return s.Spec.ClusterIP != "" && s.Spec.ClusterIP != v1.ClusterIPNone && len(s.Spec.Ports) > 0
}

func appendServiceEnv(out []EnvVar, s *v1.Service) []EnvVar {
	name := envName(s.Name)
	ip := s.Spec.ClusterIP
	add := func(k, v string) { out = append(out, EnvVar{Name: k, Value: v}) }
	add(name+"_SERVICE_HOST", ip)
	add(name+"_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port)))
	for _, p := range s.Spec.Ports {
		if p.Name != "" {
			add(name+"_SERVICE_PORT_"+envName(p.Name), strconv.Itoa(int(p.Port)))
		}
	}
	for i, p := range s.Spec.Ports {
		protocol := string(p.Protocol)
		if protocol == "" {
			protocol = string(v1.ProtocolTCP)
		}
		number := strconv.Itoa(int(p.Port))
		url := strings.ToLower(protocol) + "://" + hostPort(ip, number)
		if i == 0 {
			add(name+"_PORT", url)
		}
		prefix := fmt.Sprintf("%s_PORT_%s_%s", name, number, strings.ToUpper(protocol))
		add(prefix, url)
		add(prefix+"_PROTO", strings.ToLower(protocol))
		add(prefix+"_PORT", number)
		add(prefix+"_ADDR", ip)
	}
	return out
}

func envName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

// hostPort joins an address and a port for a URL.
func hostPort(ip, port string) string {
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}
	return ip + ":" + port
}

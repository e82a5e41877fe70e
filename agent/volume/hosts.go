package volume

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// The headers by which people and tests tell whose file it is.
const (
	hostsHeader        = "# Kubernetes-managed hosts file.\n"
	hostsHeaderHostNet = "# Kubernetes-managed hosts file (host network).\n"
	hostAliasesHeader  = "\n# Entries added by HostAliases.\n"
)

// hostsText is /etc/hosts of a pod with a network of its own: its names for every address it has.
func hostsText(ips []string, hostname, domain string, aliases []v1.HostAlias) string {
	var b strings.Builder
	b.WriteString(hostsHeader)
	b.WriteString("127.0.0.1\tlocalhost\n")
	b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\n")
	b.WriteString("fe00::0\tip6-localnet\n")
	b.WriteString("fe00::0\tip6-mcastprefix\n")
	b.WriteString("fe00::1\tip6-allnodes\n")
	b.WriteString("fe00::2\tip6-allrouters\n")
	for _, ip := range ips {
		switch {
		case domain == "":
			fmt.Fprintf(&b, "%s\t%s\n", ip, hostname)
		case strings.HasSuffix(hostname, "."+domain):
			// setHostnameAsFQDN: the short name still belongs to the pod.
			fmt.Fprintf(&b, "%s\t%s\t%s\n", ip, hostname, strings.TrimSuffix(hostname, "."+domain))
		default:
			fmt.Fprintf(&b, "%s\t%s.%s\t%s\n", ip, hostname, domain, hostname)
		}
	}
	b.WriteString(aliasesText(aliases))
	return b.String()
}

// hostNetworkHostsText is the machine's own file with the pod's aliases after it.
func hostNetworkHostsText(machine string, aliases []v1.HostAlias) string {
	return hostsHeaderHostNet + machine + aliasesText(aliases)
}

func aliasesText(aliases []v1.HostAlias) string {
	if len(aliases) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(hostAliasesHeader)
	for _, a := range aliases {
		fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	return b.String()
}

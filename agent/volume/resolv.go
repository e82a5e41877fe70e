package volume

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Warning is an event to be shown at the pod, in the words that users of Kubernetes know.
type Warning struct{ Reason, Message string }

// Reasons of warnings.
const (
	reasonDNSForming = "DNSConfigForming"
	reasonNoDNS      = "MissingClusterDNS"
)

// DNS is the content of a resolv.conf.
type DNS struct {
	Servers  []string
	Searches []string
	Options  []string
}

// What resolvers of common C libraries read; more is cut off with a warning.
const (
	maxServers     = 3
	maxSearches    = 32
	maxSearchChars = 2048
	maxSearch      = 253 // of one domain: some resolvers abort on a longer one
)

// parseResolv reads a resolv.conf as resolv.conf(5) describes it. Lines that it does not know are
// skipped; of several search lines the last one counts, options add up.
func parseResolv(text string) DNS {
	var d DNS
	for line := range strings.Lines(text) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			if len(fields) == 1 && fields[0] == "search" {
				d.Searches = nil
			}
			continue
		}
		switch fields[0] {
		case "nameserver":
			// A zone names a link of the machine, which the pod does not have.
			d.Servers = append(d.Servers, fields[1])
		case "search":
			d.Searches = nil
			for _, s := range fields[1:] {
				if s != "." {
					s = strings.TrimSuffix(s, ".")
				}
				d.Searches = append(d.Searches, s)
			}
		case "options":
			d.Options = mergeOptions(d.Options, fields[1:])
		}
	}
	return d
}

// onlyLoopback says whether every server is one that a pod with its own network cannot reach.
func (d DNS) onlyLoopback() bool {
	for _, s := range d.Servers {
		a, err := netip.ParseAddr(s)
		if err != nil || !a.IsLoopback() {
			return false
		}
	}
	return len(d.Servers) > 0
}

// podDNS decides a pod's resolv.conf from its policy, the machine's own, and the cluster's.
// Warnings are for the pod's events.
func podDNS(pod *v1.Pod, machine DNS, clusterDNS []string, clusterDomain string) (DNS, []Warning) {
	var warnings []Warning
	var d DNS
	switch policy := effectivePolicy(pod); {
	case policy == v1.DNSNone:
	case policy == v1.DNSClusterFirst && len(clusterDNS) == 0:
		warnings = append(warnings, Warning{reasonNoDNS, fmt.Sprintf(
			"pod: %q. The node does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.",
			fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID), v1.DNSClusterFirst, v1.DNSDefault)})
		d = machine
	case policy == v1.DNSClusterFirst:
		d = DNS{Servers: clusterDNS, Options: []string{"ndots:5"}}
		if clusterDomain != "" {
			d.Searches = []string{pod.Namespace + ".svc." + clusterDomain, "svc." + clusterDomain, clusterDomain}
		}
		d.Searches = append(d.Searches, machine.Searches...)
	default:
		d = machine
	}
	if c := pod.Spec.DNSConfig; c != nil {
		d.Servers = append(slices.Clone(d.Servers), c.Nameservers...)
		d.Searches = append(slices.Clone(d.Searches), c.Searches...)
		d.Options = mergeOptions(d.Options, optionTexts(c.Options))
	}
	d.Servers, d.Searches = unique(d.Servers), unique(d.Searches)
	d, cut := d.limited()
	return d, append(warnings, cut...)
}

// effectivePolicy is what the policy comes to: a pod on the host's network uses the cluster's
// DNS only when it says so twice.
func effectivePolicy(pod *v1.Pod) v1.DNSPolicy {
	switch pod.Spec.DNSPolicy {
	case v1.DNSNone, v1.DNSDefault:
		return pod.Spec.DNSPolicy
	case v1.DNSClusterFirstWithHostNet:
		return v1.DNSClusterFirst
	default:
		if pod.Spec.HostNetwork {
			return v1.DNSDefault
		}
		return v1.DNSClusterFirst
	}
}

func (d DNS) limited() (DNS, []Warning) {
	var warnings []Warning
	if len(d.Servers) > maxServers {
		d.Servers = d.Servers[:maxServers]
		warnings = append(warnings, Warning{reasonDNSForming,
			"Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " + strings.Join(d.Servers, " ")})
	}
	all := len(d.Searches)
	d.Searches = slices.DeleteFunc(slices.Clone(d.Searches), func(s string) bool { return len(s) > maxSearch })
	cut := len(d.Searches) < all
	if len(d.Searches) > maxSearches {
		d.Searches, cut = d.Searches[:maxSearches], true
	}
	for len(strings.Join(d.Searches, " ")) > maxSearchChars {
		d.Searches, cut = d.Searches[:len(d.Searches)-1], true
	}
	if cut {
		warnings = append(warnings, Warning{reasonDNSForming,
			"Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join(d.Searches, " ")})
	}
	return d, warnings
}

// text is the file: one search line, then the servers, then one options line.
func (d DNS) text() string {
	var b strings.Builder
	if len(d.Searches) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Searches, " "))
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return b.String()
}

func optionTexts(options []v1.PodDNSConfigOption) []string {
	out := make([]string, 0, len(options))
	for _, o := range options {
		if o.Value != nil {
			out = append(out, o.Name+":"+*o.Value)
		} else {
			out = append(out, o.Name)
		}
	}
	return out
}

// mergeOptions lets a later option of the same name replace an earlier one in its place.
func mergeOptions(base, over []string) []string {
	out := slices.Clone(base)
	for _, o := range over {
		name, _, _ := strings.Cut(o, ":")
		at := slices.IndexFunc(out, func(s string) bool { n, _, _ := strings.Cut(s, ":"); return n == name })
		if at >= 0 {
			out[at] = o
		} else {
			out = append(out, o)
		}
	}
	return out
}

func unique(all []string) []string {
	var out []string
	for _, s := range all {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

package admission

import (
	"slices"
	"strings"
)

// forbiddenLabels lists, sorted, the labels that a node changed and may not.
func forbiddenLabels(before, after map[string]string) []string {
	var list []string
	for key, value := range after {
		if old, ok := before[key]; (!ok || old != value) && !nodeMaySet(key) {
			list = append(list, key)
		}
	}
	for key := range before {
		if _, ok := after[key]; !ok && !nodeMaySet(key) {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list
}

// nodeMaySet: labels outside the Kubernetes domains are free; inside, those that describe the machine and those under the
// kubelet's and node's own prefixes.
func nodeMaySet(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	within := func(suffix string) bool { return domain == suffix || strings.HasSuffix(domain, "."+suffix) }
	if within(restrictedLabels) {
		return false
	}
	if !within("kubernetes.io") && !within("k8s.io") {
		return true
	}
	return nodeLabels[key] || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

package pod

import (
	"math"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// fieldValue is what a fieldRef of an environment variable gives.
func fieldValue(pod *v1.Pod, path string, src Sources) (string, error) {
	if key, ok := subscript(path, "metadata.labels"); ok {
		return pod.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return pod.Annotations[key], nil
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(src.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(src.HostIPs, ","), nil
	case "status.podIP":
		return first(src.PodIPs), nil
	case "status.podIPs":
		return strings.Join(src.PodIPs, ","), nil
	}
	return "", configErrorf("unsupported fieldPath: %v", path)
}

// subscript reads KEY out of path = prefix + "['KEY']".
func subscript(path, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(path, prefix+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// resourceValue is what a resourceFieldRef gives: the value over its divisor, rounded up. A
// limit that is not set is the node's allocatable.
func resourceValue(pod *v1.Pod, self *v1.Container, ref *v1.ResourceFieldSelector, allocatable v1.ResourceList) (string, error) {
	c := self
	if ref.ContainerName != "" && ref.ContainerName != self.Name {
		found, _, ok := FindContainer(pod, ref.ContainerName)
		if !ok {
			return "", configErrorf("container %s not found", ref.ContainerName)
		}
		c = found
	}
	which, name, ok := strings.Cut(ref.Resource, ".")
	var q resource.Quantity
	switch {
	case ok && which == "requests":
		q = c.Resources.Requests[v1.ResourceName(name)]
	case ok && which == "limits":
		q, ok = c.Resources.Limits[v1.ResourceName(name)]
		if !ok || q.IsZero() {
			q = allocatable[v1.ResourceName(name)]
		}
	default:
		return "", configErrorf("unsupported container resource : %v", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(v1.ResourceCPU) {
		return ceilDiv(q.MilliValue(), divisor.MilliValue()), nil
	}
	return ceilDiv(q.Value(), divisor.Value()), nil
}

func ceilDiv(a, b int64) string {
	if b == 0 {
		return "0"
	}
	return strconv.FormatInt(int64(math.Ceil(float64(a)/float64(b))), 10)
}

package cgroup

import (
	"cmp"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// QOSOf is the pod's quality of service class: the one it was given once for all, else what its spec makes it.
func QOSOf(p *v1.Pod) v1.PodQOSClass {
	return cmp.Or(p.Status.QOSClass, pod.QOSClass(p))
}

// class is the directory of a quality of service class below the root group; guaranteed pods
// have none of their own.
func class(qos v1.PodQOSClass) string {
	switch qos {
	case v1.PodQOSBurstable:
		return "burstable"
	case v1.PodQOSBestEffort:
		return "besteffort"
	}
	return ""
}

// classes are all of them, for looking through.
var classes = []string{"", "burstable", "besteffort"}

const podPrefix = "pod"

// groupName is the directory of a pod's group in its class; uids are used as they are, and must be usable.
func groupName(uid types.UID) (string, error) {
	if uid == "" || strings.ContainsAny(string(uid), "/\x00\n") || strings.HasPrefix(string(uid), ".") {
		return "", fmt.Errorf("pod uid %q cannot name a cgroup", uid)
	}
	return podPrefix + string(uid), nil
}

package pod

import (
	"fmt"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// checkNonRoot refuses a container that must not run as root and would, or might.
func checkNonRoot(pod *v1.Pod, c *v1.Container, s *v1.SecurityContext, imageUser string) error {
	if s.RunAsNonRoot == nil || !*s.RunAsNonRoot {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID), c.Name)
	if s.RunAsUser != nil {
		if *s.RunAsUser == 0 {
			return configErrorf("container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	user, _, _ := strings.Cut(imageUser, ":")
	if user == "" {
		return configErrorf("container has runAsNonRoot and image will run as root %s", where)
	}
	uid, err := strconv.ParseInt(user, 10, 64)
	if err != nil {
		return configErrorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", user, where)
	}
	if uid == 0 {
		return configErrorf("container has runAsNonRoot and image will run as root %s", where)
	}
	return nil
}

// OOM scores by class, as Kubernetes gives them.
const (
	oomGuaranteed = -997
	oomBestEffort = 1000
)

// OOMScoreAdj says how early the kernel picks this container when memory is short. memory is the machine's, in bytes.
func OOMScoreAdj(pod *v1.Pod, c *v1.Container, memory int64) int {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCriticalPriority {
		return oomGuaranteed
	}
	switch QOSClass(pod) {
	case v1.PodQOSGuaranteed:
		return oomGuaranteed
	case v1.PodQOSBestEffort:
		return oomBestEffort
	}
	unspoken := unspokenMemory(pod)
	score := oomScoreOf(c, unspoken, memory)
	if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
		// A sidecar must not go before the containers it serves.
		for i := range pod.Spec.Containers {
			score = min(score, oomScoreOf(&pod.Spec.Containers[i], unspoken, memory))
		}
	}
	return score
}

// unspokenMemory is each container's part of the memory that the pod as a whole asks for and no container does.
func unspokenMemory(pod *v1.Pod) int64 {
	if pod.Spec.Resources == nil {
		return 0
	}
	whole, ok := pod.Spec.Resources.Requests[v1.ResourceMemory]
	if !ok {
		return 0
	}
	alone := *pod
	alone.Spec.Resources, alone.Spec.Overhead = nil, nil
	spoken, _ := Resources(&alone)
	return max(whole.Value()-spoken.Memory().Value(), 0) / int64(len(pod.Spec.Containers)+sidecars(pod))
}

func sidecars(pod *v1.Pod) int {
	n := 0
	for i := range pod.Spec.InitContainers {
		if KindOf(&pod.Spec.InitContainers[i]) == Sidecar {
			n++
		}
	}
	return n
}

// oomScoreOf falls with the share of the machine's memory that the container asked for.
func oomScoreOf(c *v1.Container, unspoken, memory int64) int {
	if memory <= 0 {
		return oomBestEffort - 1
	}
	request := c.Resources.Requests[v1.ResourceMemory]
	score := oomBestEffort - int(1000*(request.Value()+unspoken)/memory)
	return min(max(score, oomBestEffort+oomGuaranteed), oomBestEffort-1)
}

// Package usage is what an agent tells the control plane of CPU and memory in use, for metrics.k8s.io. It travels
// as JSON in the answer to GET Path on the agent's own HTTP handler; unknown fields are skipped by either side.
package usage

import "time"

// Path is where the agent answers.
const Path = "/stats/usage"

// Node is a node and the pods on it.
type Node struct {
	Sample
	Pods []Pod `json:"pods"`
}

// Pod is a pod of which at least one container runs.
type Pod struct {
	Namespace  string      `json:"namespace"`
	Name       string      `json:"name"`
	Containers []Container `json:"containers"`
}

// Container is one running container.
type Container struct {
	Name string `json:"name"`
	Sample
}

// Sample is what was used at one time.
type Sample struct {
	Time time.Time `json:"time"`
	// Window is the time up to Time over which NanoCores is the mean.
	Window time.Duration `json:"windowNanoseconds"`
	// NanoCores is CPU: 1e9 is one core.
	NanoCores uint64 `json:"nanoCores"`
	// WorkingSet is memory in bytes.
	WorkingSet uint64 `json:"workingSetBytes"`
}

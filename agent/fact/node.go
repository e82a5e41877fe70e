package fact

import (
	"maps"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxImages is how many images a Node lists, the largest: the scheduler wants to know where
// big images are, and every entry travels with each status.
const maxImages = 50

// Settings is what the configuration says about the Node.
type Settings struct {
	Name     string
	Labels   map[string]string
	Taints   []v1.Taint
	Reserved v1.ResourceList
	MaxPods  int
	Version  string // of the agent, shown as kubeletVersion
}

// Live is what other parts of the agent know at this moment.
type Live struct {
	Hostname       string
	Addresses      []string // internal IPs, primary first
	RuntimeVersion string   // "containerd://1.6.20"
	Handlers       []v1.NodeRuntimeHandler
	Images         []v1.ContainerImage
	// Problems keep the node from being Ready; each reads as a sentence and names its cause.
	Problems []string
	Pressure []Condition
}

// Node gives the Node to register and report. prev is what was reported last, nil at first: a
// condition that did not change keeps its times, so that a Node about which nothing changed
// is equal to prev and nothing is sent. The result shares nothing with the arguments' maps.
//
// Differs: a kubelet refreshes lastHeartbeatTime every few minutes. Here the session is the
// heartbeat, and the gateway fills in what readers expect.
func Node(now time.Time, f Facts, s Settings, live Live, prev *v1.Node) *v1.Node {
	capacity, yes := Capacity(f, s.MaxPods), true
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:   s.Name,
			Labels: labels(s, f, live.Hostname),
			Annotations: map[string]string{
				"volumes.kubernetes.io/controller-managed-attach-detach": "true",
			},
		},
		Spec: v1.NodeSpec{Taints: slices.Clone(s.Taints)},
		Status: v1.NodeStatus{
			Capacity:    capacity,
			Allocatable: Allocatable(capacity, s.Reserved),
			Addresses:   addresses(live),
			NodeInfo: v1.NodeSystemInfo{
				MachineID: f.MachineID, SystemUUID: f.SystemUUID, BootID: f.BootID,
				KernelVersion: f.Kernel, OSImage: f.OSImage,
				ContainerRuntimeVersion: live.RuntimeVersion, KubeletVersion: s.Version,
				OperatingSystem: "linux", Architecture: f.Arch,
				Swap: swap(f.Memory.SwapTotal),
			},
			Images:          images(live.Images),
			RuntimeHandlers: slices.Clone(live.Handlers),
			Features:        &v1.NodeFeatures{SupplementalGroupsPolicy: &yes},
		},
	}
	conditions := append(slices.Clone(live.Pressure), ready(live.Problems))
	for _, c := range conditions {
		n.Status.Conditions = append(n.Status.Conditions, timed(now, c, prev))
	}
	return n
}

func labels(s Settings, f Facts, hostname string) map[string]string {
	if hostname == "" {
		hostname = s.Name
	}
	l := map[string]string{
		v1.LabelHostname:          hostname,
		v1.LabelOSStable:          "linux",
		v1.LabelArchStable:        f.Arch,
		"beta.kubernetes.io/os":   "linux",
		"beta.kubernetes.io/arch": f.Arch,
	}
	maps.Copy(l, s.Labels)
	return l
}

func addresses(live Live) []v1.NodeAddress {
	var out []v1.NodeAddress
	for _, a := range live.Addresses {
		out = append(out, v1.NodeAddress{Type: v1.NodeInternalIP, Address: a})
	}
	if live.Hostname != "" {
		out = append(out, v1.NodeAddress{Type: v1.NodeHostName, Address: live.Hostname})
	}
	return out
}

func swap(total int64) *v1.NodeSwapStatus {
	if total <= 0 {
		return nil
	}
	return &v1.NodeSwapStatus{Capacity: &total}
}

// images sorts by size and then name, so that the order of containerd's answer does not
// look like a change.
func images(all []v1.ContainerImage) []v1.ContainerImage {
	out := slices.Clone(all)
	for i := range out {
		out[i].Names = slices.Sorted(slices.Values(out[i].Names))
	}
	slices.SortFunc(out, func(a, b v1.ContainerImage) int {
		if a.SizeBytes != b.SizeBytes {
			if a.SizeBytes > b.SizeBytes {
				return -1
			}
			return 1
		}
		return strings.Compare(strings.Join(a.Names, ","), strings.Join(b.Names, ","))
	})
	return out[:min(len(out), maxImages)]
}

func ready(problems []string) Condition {
	if len(problems) == 0 {
		return Condition{v1.NodeReady, v1.ConditionTrue, "KubeletReady", "node is ready for pods"}
	}
	return Condition{v1.NodeReady, v1.ConditionFalse, "KubeletNotReady", strings.Join(problems, "; ")}
}

func timed(now time.Time, c Condition, prev *v1.Node) v1.NodeCondition {
	stamp := metav1.NewTime(now.UTC().Truncate(time.Second))
	out := v1.NodeCondition{
		Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message,
		LastHeartbeatTime: stamp, LastTransitionTime: stamp,
	}
	if prev == nil {
		return out
	}
	for _, old := range prev.Status.Conditions {
		if old.Type != c.Type {
			continue
		}
		if old.Status == c.Status {
			out.LastTransitionTime = old.LastTransitionTime
			if old.Reason == c.Reason && old.Message == c.Message {
				out.LastHeartbeatTime = old.LastHeartbeatTime
			}
		}
	}
	return out
}

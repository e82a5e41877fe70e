package volume

import (
	"encoding/json"

	v1 "k8s.io/api/core/v1"
)

// mounted says which volumes any container mounts. A volume that none does is not made, and
// what it names need not exist.
func mounted(pod *v1.Pod) map[string]bool {
	used := map[string]bool{}
	note := func(mounts []v1.VolumeMount, devices []v1.VolumeDevice) {
		for _, m := range mounts {
			used[m.Name] = true
		}
		for _, d := range devices {
			used[d.Name] = true
		}
	}
	for _, c := range pod.Spec.InitContainers {
		note(c.VolumeMounts, c.VolumeDevices)
	}
	for _, c := range pod.Spec.Containers {
		note(c.VolumeMounts, c.VolumeDevices)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		note(c.VolumeMounts, c.VolumeDevices)
	}
	return used
}

// sourceName is the field that the volume's source is written under.
func sourceName(vol *v1.Volume) string {
	data, err := json.Marshal(vol.VolumeSource)
	if err != nil {
		return "unknown"
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return "unknown"
	}
	for name := range fields {
		return name
	}
	return "no source is given"
}

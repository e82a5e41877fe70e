package device

import (
	"encoding/json"
	"fmt"
	"maps"
)

// recordVersion is written into each record; one of a later version is read as far as it is understood.
const recordVersion = 1

// record is what a pod has been given: container → resource → grant. It is kept in the node's store.
type record struct {
	Version    int                         `json:"v"`
	Containers map[string]map[string]grant `json:"c"`
}

// grant is the devices of one resource that one container has, and what is done in the container for them.
type grant struct {
	Devices     []string          `json:"d"`
	Env         map[string]string `json:"env,omitempty"`
	Mounts      []mount           `json:"mounts,omitempty"`
	Nodes       []node            `json:"nodes,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type mount struct {
	Host      string `json:"h"`
	Container string `json:"c"`
	ReadOnly  bool   `json:"ro,omitempty"`
}

type node struct {
	Host        string `json:"h"`
	Container   string `json:"c"`
	Permissions string `json:"p"`
}

func (r record) encode() ([]byte, error) {
	r.Version = recordVersion
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write record of devices: %w", err)
	}
	return raw, nil
}

func decodeRecord(raw []byte) (record, error) {
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return record{}, fmt.Errorf("read record of devices: %w", err)
	}
	if r.Version < 1 {
		return record{}, fmt.Errorf("read record of devices: version %d is none", r.Version)
	}
	return r, nil
}

func (r record) has(resource string) bool {
	for _, grants := range r.Containers {
		if _, ok := grants[resource]; ok {
			return true
		}
	}
	return false
}

// clone shares nothing that with changes.
func (r record) clone() record {
	out := record{Version: r.Version, Containers: map[string]map[string]grant{}}
	for container, grants := range r.Containers {
		out.Containers[container] = maps.Clone(grants)
	}
	return out
}

func (r record) put(container, resource string, g grant) {
	if r.Containers[container] == nil {
		r.Containers[container] = map[string]grant{}
	}
	r.Containers[container][resource] = g
}

// devices adds all devices of a resource to a set.
func (r record) devices(resource string, into map[string]bool) {
	for _, grants := range r.Containers {
		for _, id := range grants[resource].Devices {
			into[id] = true
		}
	}
}

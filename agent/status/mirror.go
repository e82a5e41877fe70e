package status

import (
	"bytes"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	nodev1 "coracle/proto/node/v1"
)

// mirrorEntry is the set of pods that the node runs from its own files.
type mirrorEntry struct {
	msg   *nodev1.MirrorPods
	acked bool
}

// SetMirrors says which pods the node runs from its own files: all of them, each time.
func (o *Outbox) SetMirrors(pods []*v1.Pod) {
	list := make([][]byte, 0, len(pods))
	for _, p := range pods {
		data, err := p.Marshal()
		if err != nil {
			o.log.Error("pod not encodable", "pod", p.Namespace+"/"+p.Name, "err", err)
			continue
		}
		list = append(list, data)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if m := o.mirrors; m != nil && sameBytes(m.msg.Pods, list) {
		return
	}
	o.mirrors = &mirrorEntry{msg: &nodev1.MirrorPods{Sequence: o.take(), Pods: list}}
	signal(o.changed)
}

func sameBytes(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// SetLocalPod keeps the status of a pod that the API does not know by this uid, for Last. It is never sent.
func (o *Outbox) SetLocalPod(uid types.UID, namespace, name string, status v1.PodStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.pods[uid]
	if e == nil || !e.local {
		e = &podEntry{local: true, acked: true, msg: &nodev1.PodStatus{Uid: string(uid), Namespace: namespace, Name: name}}
		o.pods[uid] = e
	}
	status.DeepCopyInto(&e.status)
}

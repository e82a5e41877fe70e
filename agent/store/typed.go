package store

import (
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	nodeapi "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The kinds this agent acts upon.
const (
	KindPod       = "Pod"
	KindConfigMap = "ConfigMap"
	KindSecret    = "Secret"
	KindService   = "Service"
	KindNode      = "Node"

	KindRuntimeClass = "RuntimeClass"
)

// message is what k8s.io/api's generated types can do.
type message interface{ Unmarshal([]byte) error }

// Decode reads o's data into a value of the k8s.io/api type of its kind.
func (o Object) Decode(into message) error {
	if err := into.Unmarshal(o.Data); err != nil {
		return fmt.Errorf("decode %s: %w", o.Key(), err)
	}
	return nil
}

// Pods returns every pod that the node is to run, its own included. One that cannot be decoded is logged and left out.
func (s *Store) Pods() []*v1.Pod {
	return slices.DeleteFunc(all[v1.Pod](s, KindPod), isMirror)
}

// Mirrors returns the objects by which the API shows the node's own pods. Nothing runs for them.
func (s *Store) Mirrors() []*v1.Pod {
	return slices.DeleteFunc(all[v1.Pod](s, KindPod), func(p *v1.Pod) bool { return !isMirror(p) })
}

func isMirror(p *v1.Pod) bool {
	_, mirror := p.Annotations[v1.MirrorPodAnnotationKey]
	return mirror
}

// Services returns every service.
func (s *Store) Services() []*v1.Service { return all[v1.Service](s, KindService) }

// Pod finds an assigned pod by its uid.
func (s *Store) Pod(uid types.UID) (*v1.Pod, bool) {
	var found *Object
	if o, ok := s.localPod(string(uid)); ok {
		found = &o
	} else {
		s.scanKeys(prefix(KindPod), []byte("\x00"+string(uid)), func(o Object) { found = &o })
	}
	if found == nil {
		return nil, false
	}
	pod := &v1.Pod{}
	if err := found.Decode(pod); err != nil {
		s.log.Error("object unreadable", "err", err)
		return nil, false
	}
	return pod, true
}

// ConfigMap finds a configMap that the node's pods name.
func (s *Store) ConfigMap(namespace, name string) (*v1.ConfigMap, bool) {
	return find[v1.ConfigMap](s, KindConfigMap, namespace, name)
}

// Secret finds a secret that the node's pods name.
func (s *Store) Secret(namespace, name string) (*v1.Secret, bool) {
	return find[v1.Secret](s, KindSecret, namespace, name)
}

// Service finds a service.
func (s *Store) Service(namespace, name string) (*v1.Service, bool) {
	return find[v1.Service](s, KindService, namespace, name)
}

// RuntimeClass finds a class that the node's pods name.
func (s *Store) RuntimeClass(name string) (*nodeapi.RuntimeClass, bool) {
	return find[nodeapi.RuntimeClass](s, KindRuntimeClass, "", name)
}

// Node finds the node's own Node object: labels, annotations, taints and pod CIDRs, without status.
func (s *Store) Node() (*v1.Node, bool) {
	nodes := all[v1.Node](s, KindNode)
	if len(nodes) == 0 {
		return nil, false
	}
	return nodes[0], true
}

func all[T any, P interface {
	*T
	message
}](s *Store, kind string) []P {
	var out []P
	for _, o := range s.Objects(kind) {
		v := P(new(T))
		if err := o.Decode(v); err != nil {
			s.log.Error("object unreadable", "err", err)
			continue
		}
		out = append(out, v)
	}
	return out
}

func find[T any, P interface {
	*T
	message
}](s *Store, kind, namespace, name string) (P, bool) {
	o, err := s.Get(kind, namespace, name)
	if errors.Is(err, ErrNotFound) {
		return nil, false
	}
	v := P(new(T))
	if err := o.Decode(v); err != nil {
		s.log.Error("object unreadable", "err", err)
		return nil, false
	}
	return v, true
}

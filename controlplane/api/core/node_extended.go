package core

import corev1 "k8s.io/api/core/v1"

// SettleExtended makes what may be allocated of extended resources follow their capacity, where whoever wrote the status
// said nothing of it: an administrator counts such a resource in the capacity alone. With Kubernetes a node's kubelet does
// this in the seconds after.
func SettleExtended(s *corev1.NodeStatus) {
	for name, q := range s.Capacity {
		if !isExtended(name) {
			continue
		}
		if a, said := s.Allocatable[name]; said && a.Cmp(q) <= 0 {
			continue
		}
		if s.Allocatable == nil {
			s.Allocatable = corev1.ResourceList{}
		}
		s.Allocatable[name] = q
	}
	for name := range s.Allocatable {
		if _, there := s.Capacity[name]; !there && isExtended(name) {
			delete(s.Allocatable, name)
		}
	}
}

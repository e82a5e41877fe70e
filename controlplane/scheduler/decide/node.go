package decide

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Node is a node and the pods on it, bound or assumed, with their sums kept as pods come and go. A Node
// whose object is not known yet, or no more, has a nil Object and takes no pods.
type Node struct {
	Object      *corev1.Node
	allocatable Resources
	used        Resources
	likely      Resources
	images      map[string]int64 // size in bytes by every name
	pods        map[types.UID]*Pod
	byOwner     map[types.UID]int
	withAnti    map[types.UID]*Pod // pods with required anti-affinity
	withTerms   map[types.UID]*Pod // pods with any affinity term that can move a score
}

// NewNode returns a node without object and pods.
func NewNode() *Node {
	return &Node{
		pods: map[types.UID]*Pod{}, byOwner: map[types.UID]int{},
		withAnti: map[types.UID]*Pod{}, withTerms: map[types.UID]*Pod{},
	}
}

// Set makes object the node's newest state; nil: it was deleted.
func (n *Node) Set(object *corev1.Node) {
	n.Object, n.images, n.allocatable = object, nil, Resources{}
	if object == nil {
		return
	}
	n.allocatable = resourcesOf(object.Status.Allocatable)
	n.images = map[string]int64{}
	for _, image := range object.Status.Images {
		for _, name := range image.Names {
			n.images[name] = image.SizeBytes
		}
	}
}

// Add puts a pod on the node, in place of one with its uid.
func (n *Node) Add(p *Pod) {
	n.Remove(p.UID)
	n.pods[p.UID] = p
	n.used.add(p.Request, 1)
	n.likely.add(p.likely, 1)
	if p.controller != "" {
		n.byOwner[p.controller]++
	}
	if len(p.antiAffinity) > 0 {
		n.withAnti[p.UID] = p
	}
	if len(p.affinity)+len(p.softAffinity)+len(p.softAntiAffinity) > 0 {
		n.withTerms[p.UID] = p
	}
}

// Remove takes a pod away, if it is there.
func (n *Node) Remove(uid types.UID) {
	p := n.pods[uid]
	if p == nil {
		return
	}
	delete(n.pods, uid)
	delete(n.withAnti, uid)
	delete(n.withTerms, uid)
	n.used.add(p.Request, -1)
	n.likely.add(p.likely, -1)
	if p.controller != "" {
		if n.byOwner[p.controller]--; n.byOwner[p.controller] <= 0 {
			delete(n.byOwner, p.controller)
		}
	}
}

// Empty is true for a node without object and pods: nothing would be lost with it.
func (n *Node) Empty() bool { return n.Object == nil && len(n.pods) == 0 }

// Pods is how many pods are on the node.
func (n *Node) Pods() int { return len(n.pods) }

// Free is what is left of each resource; it may be negative where more was promised than there is.
func (n *Node) Free() Resources {
	var r Resources
	r.add(n.allocatable, 1)
	r.add(n.used, -1)
	return r
}

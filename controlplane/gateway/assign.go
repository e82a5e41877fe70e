package gateway

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	nodeapi "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	nodev1 "coracle/proto/node/v1"
)

// The kinds that nodes are sent.
const (
	kindPod       = "Pod"
	kindConfigMap = "ConfigMap"
	kindSecret    = "Secret"
	kindService   = "Service"
	kindNode      = "Node"
	// kindRuntimeClass is what a pod's handler on the node is found through.
	kindRuntimeClass = "RuntimeClass"
)

// key names an object on the wire. Pods are told apart by uid as well, as on the node.
type key struct{ kind, namespace, name, uid string }

func (k key) String() string {
	return strings.Trim(fmt.Sprintf("%s %s/%s %s", k.kind, k.namespace, k.name, k.uid), " ")
}

func keyOf(o *nodev1.Object) key {
	k := key{kind: o.GetKind(), namespace: o.GetNamespace(), name: o.GetName()}
	if k.kind == kindPod {
		k.uid = o.GetUid()
	}
	return k
}

func podKey(pod *v1.Pod) key { return key{kindPod, pod.Namespace, pod.Name, string(pod.UID)} }

// item is one object as a node gets it.
type item struct {
	token string // names what of it concerns the node
	uid   string
	data  []byte
}

type wireObject interface {
	metav1.Object
	Marshal() ([]byte, error)
}

// encode makes what is sent of an object, and its token. The token is computed without what
// changes often and means nothing to a node (status, resourceVersion, managedFields): a
// status that the node itself reported must not come back to it.
func encode(obj any) (item, error) {
	switch o := obj.(type) {
	case *v1.Pod:
		plain := *o
		plain.Status = v1.PodStatus{Conditions: gateConditions(o), ResourceClaimStatuses: o.Status.ResourceClaimStatuses}
		token, err := tokenOf(&plain)
		if err != nil {
			return item{}, err
		}
		// The status goes along as it stands: a node that lost its store continues from it.
		return encodeWith(o, &v1.Pod{ObjectMeta: o.ObjectMeta, Spec: o.Spec, Status: o.Status}, token)
	case *v1.Node:
		return encodePlain(o, &v1.Node{ObjectMeta: o.ObjectMeta, Spec: o.Spec})
	case *v1.ConfigMap:
		c := *o
		return encodePlain(o, &c)
	case *v1.Secret:
		c := *o
		return encodePlain(o, &c)
	case *v1.Service:
		c := *o
		return encodePlain(o, &c)
	case *nodeapi.RuntimeClass:
		c := *o
		return encodePlain(o, &c)
	}
	return item{}, fmt.Errorf("objects of type %T are not sent to nodes", obj)
}

// gateConditions are the conditions that others write and the node's own Ready condition depends on.
func gateConditions(pod *v1.Pod) []v1.PodCondition {
	var out []v1.PodCondition
	for _, c := range pod.Status.Conditions {
		if slices.ContainsFunc(pod.Spec.ReadinessGates, func(g v1.PodReadinessGate) bool { return g.ConditionType == c.Type }) {
			out = append(out, v1.PodCondition{Type: c.Type, Status: c.Status})
		}
	}
	return out
}

func encodePlain(of metav1.Object, c wireObject) (item, error) {
	token, err := tokenOf(c)
	if err != nil {
		return item{}, err
	}
	return encodeWith(of, c, token)
}

func encodeWith(of metav1.Object, c wireObject, token string) (item, error) {
	c.SetManagedFields(nil)
	c.SetResourceVersion(of.GetResourceVersion())
	data, err := c.Marshal()
	if err != nil {
		return item{}, fmt.Errorf("encode %s/%s: %w", of.GetNamespace(), of.GetName(), err)
	}
	return item{token: token, uid: string(of.GetUID()), data: data}, nil
}

// tokenOf changes c, which is the caller's shallow copy.
func tokenOf(c wireObject) (string, error) {
	c.SetManagedFields(nil)
	c.SetResourceVersion("")
	data, err := c.Marshal()
	if err != nil {
		return "", fmt.Errorf("encode %s/%s: %w", c.GetNamespace(), c.GetName(), err)
	}
	h := fnv.New128a()
	h.Write(data)
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// references are the ConfigMaps, the Secrets and the RuntimeClass that a pod names, each once.
func references(pod *v1.Pod) []key {
	seen := map[key]bool{}
	var out []key
	add := func(kind, name string) {
		k := key{kind: kind, namespace: pod.Namespace, name: name}
		if name != "" && !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	if c := pod.Spec.RuntimeClassName; c != nil && *c != "" {
		out = append(out, key{kind: kindRuntimeClass, name: *c})
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add(kindSecret, s.Name)
	}
	for i := range pod.Spec.InitContainers {
		envReferences(pod.Spec.InitContainers[i].Env, pod.Spec.InitContainers[i].EnvFrom, add)
	}
	for i := range pod.Spec.Containers {
		envReferences(pod.Spec.Containers[i].Env, pod.Spec.Containers[i].EnvFrom, add)
	}
	for i := range pod.Spec.EphemeralContainers {
		envReferences(pod.Spec.EphemeralContainers[i].Env, pod.Spec.EphemeralContainers[i].EnvFrom, add)
	}
	for i := range pod.Spec.Volumes {
		volumeReferences(&pod.Spec.Volumes[i].VolumeSource, add)
	}
	return out
}

func envReferences(env []v1.EnvVar, from []v1.EnvFromSource, add func(kind, name string)) {
	for _, e := range env {
		if e.ValueFrom == nil {
			continue
		}
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add(kindConfigMap, r.Name)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add(kindSecret, r.Name)
		}
	}
	for _, f := range from {
		if f.ConfigMapRef != nil {
			add(kindConfigMap, f.ConfigMapRef.Name)
		}
		if f.SecretRef != nil {
			add(kindSecret, f.SecretRef.Name)
		}
	}
}

func volumeReferences(v *v1.VolumeSource, add func(kind, name string)) {
	if v.ConfigMap != nil {
		add(kindConfigMap, v.ConfigMap.Name)
	}
	if v.Secret != nil {
		add(kindSecret, v.Secret.SecretName)
	}
	if v.CSI != nil && v.CSI.NodePublishSecretRef != nil {
		add(kindSecret, v.CSI.NodePublishSecretRef.Name)
	}
	if v.Projected == nil {
		return
	}
	for _, p := range v.Projected.Sources {
		if p.ConfigMap != nil {
			add(kindConfigMap, p.ConfigMap.Name)
		}
		if p.Secret != nil {
			add(kindSecret, p.Secret.Name)
		}
	}
}

// world is where the current state of objects is looked up; found is false for what does not exist.
type world interface {
	// pods are those bound to the node.
	pods(node string) ([]*v1.Pod, error)
	services() ([]*v1.Service, error)
	// object returns a *v1.Pod, *v1.Node, *v1.ConfigMap, *v1.Secret, *v1.Service or *node.RuntimeClass.
	object(k key) (obj any, found bool, err error)
}

// view is what one node is to hold and what of it has been sent. It decides and does not
// send; it is used by one goroutine.
type view struct {
	node string
	// sent has the token of everything sent of pods, what they refer to, and the node itself.
	// Services are left out: every node has all of them, and their changes are compared once for all nodes.
	sent map[key]string
	refs map[key]map[key]bool // by object: the pods that refer to it
	pods map[key][]key        // by pod: what it refers to
}

func newView(node string) *view {
	return &view{node: node, sent: map[key]string{}, refs: map[key]map[key]bool{}, pods: map[key][]key{}}
}

// begin compares what the node holds with what it is to hold, and returns what differs:
// objects first, then removals.
func (v *view) begin(held []*nodev1.Object, w world) ([]*nodev1.GatewayMessage, error) {
	has := map[key]string{}
	for _, o := range held {
		has[keyOf(o)] = o.GetResourceVersion()
	}
	var out []*nodev1.GatewayMessage
	wanted := map[key]bool{}
	offer := func(k key, obj any) error {
		it, err := encode(obj)
		if err != nil {
			return err
		}
		wanted[k] = true
		if k.kind != kindService {
			v.sent[k] = it.token
		}
		if token, ok := has[k]; !ok || token != it.token {
			out = append(out, assign(k, it))
		}
		return nil
	}
	pods, err := w.pods(v.node)
	if err != nil {
		return nil, err
	}
	// What a pod refers to goes before it, so that it can start as soon as it is known.
	for _, pod := range pods {
		for _, k := range v.refer(podKey(pod), references(pod)) {
			if obj, ok, err := w.object(k); err != nil {
				return nil, err
			} else if ok {
				if err := offer(k, obj); err != nil {
					return nil, err
				}
			}
		}
	}
	services, err := w.services()
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		if err := offer(key{kind: kindService, namespace: s.Namespace, name: s.Name}, s); err != nil {
			return nil, err
		}
	}
	own := key{kind: kindNode, name: v.node}
	if obj, ok, err := w.object(own); err != nil {
		return nil, err
	} else if ok {
		if err := offer(own, obj); err != nil {
			return nil, err
		}
	}
	for _, pod := range pods {
		if err := offer(podKey(pod), pod); err != nil {
			return nil, err
		}
	}
	for _, o := range held {
		if k := keyOf(o); !wanted[k] {
			out = append(out, remove(k))
		}
	}
	return out, nil
}

// refer notes what a pod refers to now and returns what nobody on this node referred to before.
func (v *view) refer(pod key, refs []key) (fresh []key) {
	for _, old := range v.pods[pod] {
		delete(v.refs[old], pod)
	}
	for _, k := range refs {
		if v.refs[k] == nil {
			v.refs[k] = map[key]bool{}
			fresh = append(fresh, k)
		}
		v.refs[k][pod] = true
	}
	v.pods[pod] = refs
	if len(refs) == 0 {
		delete(v.pods, pod)
	}
	return fresh
}

// drop returns removals for what no pod refers to any more.
func (v *view) drop(candidates []key) []*nodev1.GatewayMessage {
	var out []*nodev1.GatewayMessage
	for _, k := range candidates {
		if users, ok := v.refs[k]; ok && len(users) == 0 {
			delete(v.refs, k)
			if _, ok := v.sent[k]; ok {
				delete(v.sent, k)
				out = append(out, remove(k))
			}
		}
	}
	return out
}

// change looks at one object again and returns what the node must be told.
func (v *view) change(k key, w world) ([]*nodev1.GatewayMessage, error) {
	switch k.kind {
	case kindPod:
		return v.changePod(k, w)
	case kindConfigMap, kindSecret, kindRuntimeClass:
		if len(v.refs[k]) == 0 {
			return nil, nil
		}
	case kindNode:
		if k.name != v.node {
			return nil, nil
		}
	}
	return v.offer(k, w)
}

// offer sends an object that concerns the node, or its removal.
func (v *view) offer(k key, w world) ([]*nodev1.GatewayMessage, error) {
	obj, ok, err := w.object(k)
	if err != nil {
		return nil, err
	}
	if !ok {
		if _, sent := v.sent[k]; !sent && k.kind != kindService {
			return nil, nil
		}
		delete(v.sent, k)
		return []*nodev1.GatewayMessage{remove(k)}, nil
	}
	it, err := encode(obj)
	if err != nil {
		return nil, err
	}
	if k.kind != kindService {
		if v.sent[k] == it.token {
			return nil, nil
		}
		v.sent[k] = it.token
	}
	return []*nodev1.GatewayMessage{assign(k, it)}, nil
}

func (v *view) changePod(k key, w world) ([]*nodev1.GatewayMessage, error) {
	obj, ok, err := w.object(k)
	if err != nil {
		return nil, err
	}
	pod, _ := obj.(*v1.Pod)
	if !ok || pod == nil || pod.Spec.NodeName != v.node {
		before := v.pods[k]
		v.refer(k, nil)
		var out []*nodev1.GatewayMessage
		if _, sent := v.sent[k]; sent {
			delete(v.sent, k)
			out = append(out, remove(k))
		}
		return append(out, v.drop(before)...), nil
	}
	before := v.pods[k]
	var out []*nodev1.GatewayMessage
	for _, ref := range v.refer(k, references(pod)) {
		msgs, err := v.offer(ref, w)
		if err != nil {
			return nil, err
		}
		out = append(out, msgs...)
	}
	msgs, err := v.offer(k, w)
	if err != nil {
		return nil, err
	}
	return append(append(out, msgs...), v.drop(before)...), nil
}

func assign(k key, it item) *nodev1.GatewayMessage {
	return &nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Assign{Assign: &nodev1.Object{
		Kind: k.kind, Uid: it.uid, ResourceVersion: it.token, Namespace: k.namespace, Name: k.name, Data: it.data,
	}}}
}

func remove(k key) *nodev1.GatewayMessage {
	return &nodev1.GatewayMessage{Message: &nodev1.GatewayMessage_Remove{Remove: &nodev1.Object{
		Kind: k.kind, Uid: k.uid, Namespace: k.namespace, Name: k.name,
	}}}
}

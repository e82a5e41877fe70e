// Package metrics serves metrics.k8s.io/v1beta1, what `kubectl top` and autoscalers read: the CPU and memory that nodes and
// pods use now. Nothing is stored or collected. A request asks the nodes concerned, each once, for the figures of the
// moment, over the sessions that they hold anyway.
//
// It owns which pods and nodes are answered for, and the shape of the answers. How a node is asked is Config.Usage's.
// A node that does not answer, and a pod of which nothing runs, is left out of lists and not found by name, as
// Kubernetes' metrics-server has it: no figure is better than an old one.
package metrics

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"coracle/internal/usage"
)

// Store is what is known of pods or nodes.
type Store interface {
	rest.Getter
	rest.Lister
}

// Config is what Storage needs; all fields are required.
type Config struct {
	Pods, Nodes Store
	// Usage asks a node. It is called for several nodes at once.
	Usage func(ctx context.Context, node string) (*usage.Node, error)
	Table rest.TableConvertor
}

// Storage returns the storages by the path under which they are installed.
func Storage(c Config) map[string]rest.Storage {
	a := &asker{ask: c.Usage, now: time.Now, asked: map[string]*answer{}}
	return map[string]rest.Storage{
		"nodes": &nodeREST{TableConvertor: c.Table, nodes: c.Nodes, asker: a},
		"pods":  &podREST{TableConvertor: c.Table, pods: c.Pods, asker: a},
	}
}

// nodeREST is nodes.metrics.k8s.io.
type nodeREST struct {
	rest.TableConvertor
	nodes Store
	asker *asker
}

var (
	_ rest.Getter               = &nodeREST{}
	_ rest.Lister               = &nodeREST{}
	_ rest.Scoper               = &nodeREST{}
	_ rest.SingularNameProvider = &nodeREST{}
	_ rest.KindProvider         = &nodeREST{}
)

// New implements rest.Storage.
func (r *nodeREST) New() runtime.Object { return &metricsv1beta1.NodeMetrics{} }

// NewList implements rest.Lister.
func (r *nodeREST) NewList() runtime.Object { return &metricsv1beta1.NodeMetricsList{} }

// Destroy implements rest.Storage.
func (r *nodeREST) Destroy() {}

// Kind implements rest.KindProvider.
func (r *nodeREST) Kind() string { return "NodeMetrics" }

// NamespaceScoped implements rest.Scoper.
func (r *nodeREST) NamespaceScoped() bool { return false }

// GetSingularName implements rest.SingularNameProvider. None: "node" is the Node.
func (r *nodeREST) GetSingularName() string { return "" }

// Get implements rest.Getter.
func (r *nodeREST) Get(ctx context.Context, name string, opts *metav1.GetOptions) (runtime.Object, error) {
	obj, err := r.nodes.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) {
			err = notFound("nodes", name)
		}
		return nil, err
	}
	node, ok := obj.(*v1.Node)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("node %s is stored as %T", name, obj))
	}
	got := r.asker.all(ctx, []string{name})
	if got[name] == nil {
		return nil, notFound("nodes", name)
	}
	return nodeMetrics(node, got[name]), nil
}

// List implements rest.Lister.
func (r *nodeREST) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	obj, err := r.nodes.List(ctx, cached(options))
	if err != nil {
		return nil, err
	}
	nodes, ok := obj.(*v1.NodeList)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("nodes are listed as %T", obj))
	}
	names := make([]string, len(nodes.Items))
	for i := range nodes.Items {
		names[i] = nodes.Items[i].Name
	}
	got := r.asker.all(ctx, names)
	out := &metricsv1beta1.NodeMetricsList{Items: []metricsv1beta1.NodeMetrics{}}
	for i := range nodes.Items {
		if n := got[nodes.Items[i].Name]; n != nil {
			out.Items = append(out.Items, *nodeMetrics(&nodes.Items[i], n))
		}
	}
	return out, nil
}

// podREST is pods.metrics.k8s.io.
type podREST struct {
	rest.TableConvertor
	pods  Store
	asker *asker
}

var (
	_ rest.Getter               = &podREST{}
	_ rest.Lister               = &podREST{}
	_ rest.Scoper               = &podREST{}
	_ rest.SingularNameProvider = &podREST{}
	_ rest.KindProvider         = &podREST{}
)

// New implements rest.Storage.
func (r *podREST) New() runtime.Object { return &metricsv1beta1.PodMetrics{} }

// NewList implements rest.Lister.
func (r *podREST) NewList() runtime.Object { return &metricsv1beta1.PodMetricsList{} }

// Destroy implements rest.Storage.
func (r *podREST) Destroy() {}

// Kind implements rest.KindProvider.
func (r *podREST) Kind() string { return "PodMetrics" }

// NamespaceScoped implements rest.Scoper.
func (r *podREST) NamespaceScoped() bool { return true }

// GetSingularName implements rest.SingularNameProvider. None: "pod" is the Pod.
func (r *podREST) GetSingularName() string { return "" }

// Get implements rest.Getter.
func (r *podREST) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	missing := notFound("pods", request.NamespaceValue(ctx)+"/"+name)
	obj, err := r.pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		if apierrors.IsNotFound(err) {
			err = missing
		}
		return nil, err
	}
	pod, ok := obj.(*v1.Pod)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("pod %s is stored as %T", name, obj))
	}
	got := r.asker.pods(ctx, []v1.Pod{*pod})
	if len(got) == 0 {
		return nil, missing
	}
	return &got[0], nil
}

// List implements rest.Lister.
func (r *podREST) List(ctx context.Context, options *internalversion.ListOptions) (runtime.Object, error) {
	obj, err := r.pods.List(ctx, cached(options))
	if err != nil {
		return nil, err
	}
	pods, ok := obj.(*v1.PodList)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("pods are listed as %T", obj))
	}
	return &metricsv1beta1.PodMetricsList{Items: r.asker.pods(ctx, pods.Items)}, nil
}

// cached asks for what the watch cache holds, with the selectors alone: figures have no versions and no pages.
func cached(options *internalversion.ListOptions) *internalversion.ListOptions {
	out := &internalversion.ListOptions{ResourceVersion: "0"}
	if options != nil {
		out.LabelSelector, out.FieldSelector = options.LabelSelector, options.FieldSelector
	}
	return out
}

func notFound(resource, name string) error {
	return apierrors.NewNotFound(metricsv1beta1.Resource(resource), name)
}

func nodeMetrics(node *v1.Node, n *usage.Node) *metricsv1beta1.NodeMetrics {
	return &metricsv1beta1.NodeMetrics{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: node.Labels, CreationTimestamp: metav1.Now()},
		Timestamp:  metav1.NewTime(n.Time), Window: metav1.Duration{Duration: n.Window}, Usage: amounts(&n.Sample),
	}
}

func podMetrics(pod *v1.Pod, p *usage.Pod) metricsv1beta1.PodMetrics {
	out := metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, CreationTimestamp: metav1.Now(),
	}}
	for i := range p.Containers {
		c := &p.Containers[i]
		// One window for all: that of the reading that is furthest back.
		if i == 0 || c.Time.Before(out.Timestamp.Time) {
			out.Timestamp, out.Window = metav1.NewTime(c.Time), metav1.Duration{Duration: c.Window}
		}
		out.Containers = append(out.Containers, metricsv1beta1.ContainerMetrics{Name: c.Name, Usage: amounts(&c.Sample)})
	}
	return out
}

func amounts(s *usage.Sample) v1.ResourceList {
	return v1.ResourceList{
		v1.ResourceCPU:    *resource.NewScaledQuantity(int64(min(s.NanoCores, 1<<62)), resource.Nano),
		v1.ResourceMemory: *resource.NewQuantity(int64(min(s.WorkingSet, 1<<62))>>10<<10, resource.BinarySI),
	}
}

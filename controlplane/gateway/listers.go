package gateway

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	nodeapi "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	nodelisters "k8s.io/client-go/listers/node/v1"
	"k8s.io/client-go/tools/cache"

	"coracle/controlplane/controller/index"
)

// listers is the world as the shared informers know it.
type listers struct {
	podInformer cache.SharedIndexInformer
	pod         corelisters.PodLister
	node        corelisters.NodeLister
	configMap   corelisters.ConfigMapLister
	secret      corelisters.SecretLister
	service     corelisters.ServiceLister
	lease       coordinationlisters.LeaseLister
	class       nodelisters.RuntimeClassLister
	synced      []cache.InformerSynced
}

func newListers(f informers.SharedInformerFactory, g *Gateway) (*listers, error) {
	core := f.Core().V1()
	w := &listers{
		podInformer: core.Pods().Informer(),
		pod:         core.Pods().Lister(), node: core.Nodes().Lister(), configMap: core.ConfigMaps().Lister(),
		secret: core.Secrets().Lister(), service: core.Services().Lister(), lease: f.Coordination().V1().Leases().Lister(),
		class: f.Node().V1().RuntimeClasses().Lister(),
	}
	if err := index.Nodes(w.podInformer); err != nil {
		return nil, err
	}
	leases := f.Coordination().V1().Leases().Informer()
	w.synced = append(w.synced, leases.HasSynced)
	for _, i := range []struct {
		informer cache.SharedIndexInformer
		kind     string
	}{
		{w.podInformer, kindPod}, {core.Nodes().Informer(), kindNode}, {core.ConfigMaps().Informer(), kindConfigMap},
		{core.Secrets().Informer(), kindSecret}, {core.Services().Informer(), kindService},
		{f.Node().V1().RuntimeClasses().Informer(), kindRuntimeClass},
	} {
		handle, err := i.informer.AddEventHandler(g.handler(i.kind))
		if err != nil {
			return nil, fmt.Errorf("watch %s objects: %w", i.kind, err)
		}
		w.synced = append(w.synced, handle.HasSynced)
	}
	return w, nil
}

func (w *listers) pods(node string) ([]*v1.Pod, error) { return index.OnNode(w.podInformer, node) }

func (w *listers) services() ([]*v1.Service, error) { return w.service.List(labels.Everything()) }

func (w *listers) object(k key) (any, bool, error) {
	var obj any
	var err error
	switch k.kind {
	case kindPod:
		var pod *v1.Pod
		pod, err = w.pod.Pods(k.namespace).Get(k.name)
		if err == nil && string(pod.UID) != k.uid {
			return nil, false, nil // an older pod of that name, which is gone
		}
		obj = pod
	case kindNode:
		obj, err = w.node.Get(k.name)
	case kindConfigMap:
		obj, err = w.configMap.ConfigMaps(k.namespace).Get(k.name)
	case kindSecret:
		obj, err = w.secret.Secrets(k.namespace).Get(k.name)
	case kindService:
		obj, err = w.service.Services(k.namespace).Get(k.name)
	case kindRuntimeClass:
		obj, err = w.class.Get(k.name)
	default:
		return nil, false, nil
	}
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	return obj, err == nil, err
}

// handler turns an informer's events into dirty keys of the sessions they concern.
func (g *Gateway) handler(kind string) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { g.changed(kind, nil, obj) },
		UpdateFunc: func(old, obj any) { g.changed(kind, old, obj) },
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			g.changed(kind, obj, nil)
		},
	}
}

// changed is called by the informers with the object before and after; nil where it did not exist.
func (g *Gateway) changed(kind string, before, after any) {
	switch kind {
	case kindPod:
		old, _ := before.(*v1.Pod)
		pod, _ := after.(*v1.Pod)
		g.changedPod(old, pod)
	case kindNode:
		node, _ := after.(*v1.Node)
		if node == nil {
			node, _ = before.(*v1.Node)
		}
		if node == nil {
			return
		}
		if s := g.session(node.Name); s != nil {
			s.mark(key{kind: kindNode, name: node.Name})
			g.nodes.again(node.Name)
		}
	case kindService:
		g.changedService(before, after)
	default:
		g.changedReference(kind, before, after)
	}
}

func (g *Gateway) changedPod(old, pod *v1.Pod) {
	g.written.seen(old, pod)
	g.changedMirror(old, pod)
	for _, p := range []*v1.Pod{old, pod} {
		if p == nil || p.Spec.NodeName == "" {
			continue
		}
		if s := g.session(p.Spec.NodeName); s != nil {
			s.mark(podKey(p))
			// Somebody may have written over what the agent said.
			g.pods.again(podRef{p.Namespace, p.Name, p.UID})
		}
	}
}

// changedService compares once for all sessions.
func (g *Gateway) changedService(before, after any) {
	old, _ := before.(*v1.Service)
	svc, _ := after.(*v1.Service)
	if old != nil && svc != nil {
		if old.ResourceVersion == svc.ResourceVersion {
			return
		}
		a, errA := encode(old)
		b, errB := encode(svc)
		if errA == nil && errB == nil && a.token == b.token {
			return
		}
	}
	if svc == nil {
		svc = old
	}
	if svc == nil {
		return
	}
	k := key{kind: kindService, namespace: svc.Namespace, name: svc.Name}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sessions {
		s.mark(k)
	}
}

func (g *Gateway) changedReference(kind string, before, after any) {
	obj := after
	if obj == nil {
		obj = before
	}
	var k key
	switch o := obj.(type) {
	case *v1.ConfigMap:
		k = key{kind: kind, namespace: o.Namespace, name: o.Name}
	case *v1.Secret:
		k = key{kind: kind, namespace: o.Namespace, name: o.Name}
	case *nodeapi.RuntimeClass:
		k = key{kind: kind, name: o.Name}
	default:
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.watching[k] {
		s.mark(k)
	}
}

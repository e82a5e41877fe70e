// Package podstream is the REST storage that reaches into nodes: exec, attach, log and
// port-forward of pods, and HTTP proxying to pods, services and nodes.
//
// It owns the protocols users' clients speak (SPDY and WebSocket of every version in use,
// plain HTTP) and the errors they see. It does not know how a node is reached: it asks
// Streams for a stream to it, which is the gateway.
//
//	kubectl ═SPDY or WebSocket═▶ Connect ─▶ Streams.Open(node, request) ═frames═▶ agent
package podstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"

	nodev1 "coracle/proto/node/v1"
)

// Stream is an open stream to a node. Send and Recv may be called at the same time.
type Stream = interface {
	Send(*nodev1.Frame) error
	// Recv returns io.EOF when the node has said all.
	Recv() (*nodev1.Frame, error)
	Close() error
}

// Streams opens streams to nodes; the gateway. The error of a node that is not connected is
// a 503 that says which node and since when.
type Streams interface {
	Open(ctx context.Context, node string, req *nodev1.StreamRequest) (Stream, error)
}

// Config is what the storages need; all fields are required.
type Config struct {
	Pods, Nodes, Services rest.Getter
	// EndpointSlices returns the slices of a service.
	EndpointSlices func(namespace, service string) ([]*discoveryv1.EndpointSlice, error)
	Streams        Streams
}

// New returns the storages by the path under which they are installed.
func New(c Config) map[string]rest.Storage {
	return map[string]rest.Storage{
		"pods/exec":        &execREST{c},
		"pods/attach":      &attachREST{c},
		"pods/portforward": &forwardREST{c},
		"pods/log":         &logREST{c},
		"pods/proxy":       &podProxyREST{c},
		"services/proxy":   &serviceProxyREST{c},
		"nodes/proxy":      &nodeProxyREST{c},
	}
}

// upgradeMethods are those with which clients open a stream: POST for SPDY, GET for WebSocket.
var upgradeMethods = []string{http.MethodGet, http.MethodPost}

// pod looks up a pod that is on a node.
func (c Config) pod(ctx context.Context, name string) (*v1.Pod, error) {
	obj, err := c.Pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod, ok := obj.(*v1.Pod)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("pod %s is stored as %T", name, obj))
	}
	return pod, nil
}

// live is pod, where something of it may still run.
func (c Config) live(ctx context.Context, name, verb string) (*v1.Pod, error) {
	pod, err := c.pod(ctx, name)
	if err != nil {
		return nil, err
	}
	if pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("cannot %s a container in a completed pod; current phase is %s", verb, pod.Status.Phase))
	}
	if pod.Spec.NodeName == "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", name))
	}
	return pod, nil
}

// container checks the name of a container, or finds the only one there is.
func container(pod *v1.Pod, name string) (string, error) {
	if name == "" {
		switch len(pod.Spec.Containers) {
		case 1:
			return pod.Spec.Containers[0].Name, nil
		case 0:
			return "", apierrors.NewBadRequest("a container name must be specified for pod " + pod.Name)
		}
		message := fmt.Sprintf("a container name must be specified for pod %s, choose one of: [%s]", pod.Name, strings.Join(names(pod.Spec.Containers), " "))
		if len(pod.Spec.InitContainers) > 0 {
			message += fmt.Sprintf(" or one of the init containers: [%s]", strings.Join(names(pod.Spec.InitContainers), " "))
		}
		return "", apierrors.NewBadRequest(message)
	}
	if _, ok := find(pod, name); !ok {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	}
	return name, nil
}

// about is what a node is asked about a pod. A mirror pod stands for one that the node runs from a file of its own under
// another uid. Users can write that annotation, too; so the node is told what the pod with the uid must be called.
func about(pod *v1.Pod, req *nodev1.StreamRequest) *nodev1.StreamRequest {
	uid := pod.Annotations[v1.MirrorPodAnnotationKey]
	if uid == "" {
		return req
	}
	req.PodNamespace, req.PodName = pod.Namespace, pod.Name
	switch r := req.GetRequest().(type) {
	case *nodev1.StreamRequest_Exec:
		r.Exec.PodUid = uid
	case *nodev1.StreamRequest_Attach:
		r.Attach.PodUid = uid
	case *nodev1.StreamRequest_Logs:
		r.Logs.PodUid = uid
	case *nodev1.StreamRequest_Dial:
		r.Dial.PodUid = uid
	}
	return req
}

func names(list []v1.Container) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].Name
	}
	return out
}

// find returns a container of any kind.
func find(pod *v1.Pod, name string) (v1.Container, bool) {
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return list[i], true
			}
		}
	}
	for _, e := range pod.Spec.EphemeralContainers {
		if e.Name == name {
			return v1.Container(e.EphemeralContainerCommon), true
		}
	}
	return v1.Container{}, false
}

// resultError turns what a node says at the end of a stream into an error for the user; nil for nothing.
func resultError(r *nodev1.Result) error {
	if r.GetError() == "" {
		return nil
	}
	switch r.GetReason() {
	case nodev1.Result_NOT_FOUND:
		return apierrors.NewGenericServerResponse(http.StatusNotFound, "", v1.Resource("pods"), "", r.GetError(), 0, true)
	case nodev1.Result_INVALID:
		return apierrors.NewBadRequest(r.GetError())
	case nodev1.Result_UNAVAILABLE:
		return apierrors.NewServiceUnavailable(r.GetError())
	}
	return apierrors.NewInternalError(errors.New(r.GetError()))
}

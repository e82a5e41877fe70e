package node

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/tools/cache"
)

// Index is the name of the informer index from node name to pods.
const Index = "node-authorizer"

// Indexers goes to the pod informer before it starts.
func Indexers() cache.Indexers {
	return cache.Indexers{Index: func(obj any) ([]string, error) {
		pod, ok := obj.(*corev1.Pod)
		if !ok || pod.Spec.NodeName == "" {
			return nil, nil
		}
		return []string{pod.Spec.NodeName}, nil
	}}
}

// Authorizer applies Decide to requests of nodes and has no opinion on others.
type Authorizer struct {
	Pods cache.Indexer // with Indexers
}

// Authorize implements authorizer.UnconditionalAuthorizer.
func (z *Authorizer) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	name, isNode := NameOf(a.GetUser())
	if !isNode {
		return authorizer.DecisionNoOpinion, "", nil
	}
	if name == "" {
		return authorizer.DecisionNoOpinion, fmt.Sprintf("unknown node for user %q", a.GetUser().GetName()), nil
	}
	var failed error
	decision, reason := Decide(name, a, func() Refs {
		refs, err := z.refs(name)
		failed = err
		return refs
	})
	return decision, reason, failed
}

func (z *Authorizer) refs(name string) (Refs, error) {
	found, err := z.Pods.ByIndex(Index, name)
	if err != nil {
		return Refs{}, fmt.Errorf("find pods of node %s: %w", name, err)
	}
	pods := make([]*corev1.Pod, 0, len(found))
	for _, obj := range found {
		if pod, ok := obj.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return RefsOf(pods), nil
}

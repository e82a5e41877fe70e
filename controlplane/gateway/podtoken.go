package gateway

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	nodev1 "coracle/proto/node/v1"
)

// Token implements nodev1.NodeServer: a token for a service account that a pod on the
// calling node uses, bound to that pod, so that it dies with it.
func (n *nodeService) Token(ctx context.Context, req *nodev1.TokenRequest) (*nodev1.TokenResponse, error) {
	g, who := n.g, callerOf(ctx)
	pod, err := g.world.pod.Pods(req.GetNamespace()).Get(req.GetPodName())
	if err != nil || pod.UID != types.UID(req.GetPodUid()) {
		pod, err = g.c.Client.CoreV1().Pods(req.GetNamespace()).Get(ctx, req.GetPodName(), metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) || err == nil && pod.UID != types.UID(req.GetPodUid()) {
		return nil, status.Errorf(codes.NotFound, "pod %s/%s (%s) does not exist", req.GetNamespace(), req.GetPodName(), req.GetPodUid())
	}
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "look up pod %s/%s: %s", req.GetNamespace(), req.GetPodName(), err)
	}
	if why := foreignToken(pod, who.node, req.GetServiceAccount()); why != "" {
		g.c.Log.Warn("token refused", "node", who.node, "pod", pod.Namespace+"/"+pod.Name, "why", why)
		return nil, status.Error(codes.PermissionDenied, why)
	}
	review := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:      req.GetAudiences(),
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: kindPod, APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	if s := req.GetExpirationSeconds(); s > 0 {
		review.Spec.ExpirationSeconds = &s
	}
	answer, err := g.c.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, req.GetServiceAccount(), review, metav1.CreateOptions{})
	if err != nil {
		code := codes.Unavailable
		switch {
		case apierrors.IsNotFound(err):
			code = codes.NotFound
		case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
			code = codes.InvalidArgument
		}
		return nil, status.Errorf(code, "token for service account %s/%s: %s", pod.Namespace, req.GetServiceAccount(), err)
	}
	return &nodev1.TokenResponse{Token: answer.Status.Token, ExpirationUnix: answer.Status.ExpirationTimestamp.Unix()}, nil
}

// foreignToken says why a node may not have a token for the pod; empty: it may.
func foreignToken(pod *v1.Pod, node, account string) string {
	name := pod.Spec.ServiceAccountName
	if name == "" {
		name = "default"
	}
	switch {
	case pod.Spec.NodeName != node:
		return "pod " + pod.Namespace + "/" + pod.Name + " is not on node " + node
	case account != name:
		return "pod " + pod.Namespace + "/" + pod.Name + " uses service account " + name + ", not " + account
	case finished(pod.Status.Phase):
		return "pod " + pod.Namespace + "/" + pod.Name + " has finished"
	}
	return ""
}

package service

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/registry/kind"
)

// deleted gives back all that a deleted service held, and removes the endpoints of its name: a new service of that name
// must not begin with the old one's.
func (c *claims) deleted(s *corev1.Service, endpoints *kind.REST) {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	err := c.release(ctx, s, heldIPs(s), minus(heldPorts(s), nil))
	ctx = request.WithRequestInfo(request.WithNamespace(ctx, s.Namespace), &request.RequestInfo{
		APIVersion: "v1", Resource: "endpoints", Namespace: s.Namespace, IsResourceRequest: true,
	})
	if _, _, e := endpoints.Delete(ctx, s.Name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{}); e != nil && !apierrors.IsNotFound(e) {
		err = errors.Join(err, e)
	}
	if err != nil {
		c.log.Warn("deleted service leaves something behind until the next repair", "service", s.Namespace+"/"+s.Name, "err", err)
	}
}

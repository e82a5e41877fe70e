package auth

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"coracle/controlplane/auth/rbac"
)

// objects looks up what tokens are bound to: in informers first, and where these do not know the object (they may lag behind a
// token that was just issued), in the API. Secrets are read from the API alone, which spares a copy of all of them in memory.
type objects struct {
	accounts corelisters.ServiceAccountLister
	pods     corelisters.PodLister
	nodes    corelisters.NodeLister
	client   kubernetes.Interface
}

func newObjects(c Config) objects {
	core := c.Informers.Core().V1()
	return objects{
		accounts: core.ServiceAccounts().Lister(), pods: core.Pods().Lister(), nodes: core.Nodes().Lister(), client: c.Client,
	}
}

// ServiceAccount implements serviceaccount.Objects.
func (o objects) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	found, err := o.accounts.ServiceAccounts(namespace).Get(name)
	if !apierrors.IsNotFound(err) {
		return found, err
	}
	return o.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
}

// Pod implements serviceaccount.Objects.
func (o objects) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	found, err := o.pods.Pods(namespace).Get(name)
	if !apierrors.IsNotFound(err) {
		return found, err
	}
	return o.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
}

// Node implements serviceaccount.Objects.
func (o objects) Node(ctx context.Context, name string) (*corev1.Node, error) {
	found, err := o.nodes.Get(name)
	if !apierrors.IsNotFound(err) {
		return found, err
	}
	return o.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
}

// Secret implements serviceaccount.Objects.
func (o objects) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return o.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

// newReader registers the RBAC informers.
func newReader(f informers.SharedInformerFactory) rbac.Reader {
	v1 := f.Rbac().V1()
	return rbac.Listers{
		Roles: v1.Roles().Lister(), Clusters: v1.ClusterRoles().Lister(),
		Bindings: v1.RoleBindings().Lister(), ClusterBounds: v1.ClusterRoleBindings().Lister(),
	}
}

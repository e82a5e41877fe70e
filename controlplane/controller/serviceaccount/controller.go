package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"coracle/controlplane/controller/loop"
)

const workers = 2

// Issuer signs tokens without an end for the older kind of token Secret.
type Issuer interface {
	SignLegacy(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error)
}

// Controller of default accounts and token Secrets. Run may be called again after it returned.
type Controller struct {
	client     kubernetes.Interface
	namespaces cache.SharedIndexInformer
	accounts   cache.SharedIndexInformer
	nsLister   corelisters.NamespaceLister
	lister     corelisters.ServiceAccountLister
	rootCA     []byte
	issuer     Issuer
	env        loop.Env
}

// New makes the controller. issuer may be nil: token Secrets are left alone then.
func New(env loop.Env, rootCA []byte, issuer Issuer) *Controller {
	core := env.Informers.Core().V1()
	return &Controller{
		client:     env.Client,
		namespaces: core.Namespaces().Informer(), nsLister: core.Namespaces().Lister(),
		accounts: core.ServiceAccounts().Informer(), lister: core.ServiceAccounts().Lister(),
		rootCA: rootCA, issuer: issuer, env: env,
	}
}

// Run reconciles default accounts until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	l := loop.New("serviceaccount", c.env.Log, c.reconcile)
	return l.Run(ctx, workers,
		loop.Watch{Informer: c.namespaces, Handler: loop.Any(func(ns *corev1.Namespace) { l.Add(ns.Name) })},
		loop.Watch{Informer: c.accounts, Handler: loop.On(nil, nil, func(sa *corev1.ServiceAccount) {
			if sa.Name == DefaultName {
				l.Add(sa.Namespace)
			}
		})})
}

func (c *Controller) reconcile(ctx context.Context, namespace string) error {
	ns, err := c.nsLister.Get(namespace)
	if err != nil {
		return nil //nolint:nilerr // the namespace is gone
	}
	_, err = c.lister.ServiceAccounts(namespace).Get(DefaultName)
	account := PlanDefault(ns, err == nil)
	if account == nil {
		return nil
	}
	_, err = c.client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return fmt.Errorf("create the default service account of namespace %s: %w", namespace, err)
}

// RunTokens reconciles token Secrets until ctx ends; without an issuer it only waits. It watches
// Secrets of that type alone: the others are nobody's to hold in memory.
func (c *Controller) RunTokens(ctx context.Context) error {
	if c.issuer == nil {
		<-ctx.Done()
		return nil
	}
	factory := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeServiceAccountToken)).String()
	}))
	secrets := factory.Core().V1().Secrets()
	informer, lister := secrets.Informer(), secrets.Lister()
	l := loop.New("serviceaccount-token", c.env.Log, func(ctx context.Context, k types.NamespacedName) error {
		secret, err := lister.Secrets(k.Namespace).Get(k.Name)
		if err != nil {
			return nil //nolint:nilerr // the secret is gone
		}
		return c.reconcileSecret(ctx, secret)
	})
	add := func(s *corev1.Secret) { l.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Name}) }
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	return l.Run(ctx, workers,
		loop.Watch{Informer: informer, Handler: loop.Any(add)},
		loop.Watch{Informer: c.accounts, Handler: loop.Any(func(sa *corev1.ServiceAccount) {
			for _, obj := range informer.GetStore().List() {
				if s, ok := obj.(*corev1.Secret); ok && s.Namespace == sa.Namespace && s.Annotations[corev1.ServiceAccountNameKey] == sa.Name {
					add(s)
				}
			}
		})})
}

func (c *Controller) reconcileSecret(ctx context.Context, secret *corev1.Secret) error {
	name := secret.Annotations[corev1.ServiceAccountNameKey]
	account, err := c.lister.ServiceAccounts(secret.Namespace).Get(name)
	if apierrors.IsNotFound(err) && name != "" {
		// The cache may be behind the secret: what decides about a deletion is looked at itself.
		account, err = c.client.CoreV1().ServiceAccounts(secret.Namespace).Get(ctx, name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		account, err = nil, nil
	}
	if err != nil && name != "" {
		return fmt.Errorf("get service account %s/%s: %w", secret.Namespace, name, err)
	}
	plan := PlanSecret(secret, account, c.rootCA)
	api := c.client.CoreV1().Secrets(secret.Namespace)
	switch {
	case plan.Delete:
		err = api.Delete(ctx, secret.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion}})
	case plan.Update != nil:
		if plan.NeedsToken {
			token, err := c.issuer.SignLegacy(account, secret)
			if err != nil {
				return fmt.Errorf("sign a token for secret %s/%s: %w", secret.Namespace, secret.Name, err)
			}
			plan.Update.Data[corev1.ServiceAccountTokenKey] = []byte(token)
		}
		_, err = api.Update(ctx, plan.Update, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write token secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	return nil
}

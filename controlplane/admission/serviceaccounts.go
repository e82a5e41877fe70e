package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
)

// The account "default" of a new namespace is made by a controller; a pod that comes right after the namespace waits for it.
const (
	accountTries = 10
	accountWait  = 150 * time.Millisecond
)

// serviceAccounts is the step that gives pods their account.
type serviceAccounts struct {
	*admission.Handler
	accounts corelisters.ServiceAccountLister
	client   kubernetes.Interface
}

func newServiceAccounts(c Config) *serviceAccounts {
	return &serviceAccounts{
		Handler:  admission.NewHandler(admission.Create, admission.Update),
		accounts: c.Informers.Core().V1().ServiceAccounts().Lister(), client: c.Client,
	}
}

// Admit implements admission.MutationInterface.
func (s *serviceAccounts) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	pod, ok := a.GetObject().(*corev1.Pod)
	// Mirror pods stay as they are: the node that made one would take a changed one for a foreign pod.
	if !isPod(a) || a.GetOperation() != admission.Create || !ok || isMirror(pod) {
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
	}
	account, err := s.account(ctx, a.GetNamespace(), pod.Spec.ServiceAccountName)
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.GetNamespace(), pod.Spec.ServiceAccountName, err))
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName // the old name of the field; both are always shown
	ApplyServiceAccount(pod, account, names.SimpleNameGenerator.GenerateName)
	return nil
}

// Validate implements admission.ValidationInterface.
func (s *serviceAccounts) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	if a.GetResource().GroupResource() != corev1.Resource("pods") {
		return nil
	}
	pod, ok := a.GetObject().(*corev1.Pod)
	judged := a.GetOperation() == admission.Create && a.GetSubresource() == "" ||
		a.GetOperation() == admission.Update && a.GetSubresource() == "ephemeralcontainers"
	if !judged || !ok {
		return nil
	}
	if isMirror(pod) {
		if problem := mirrorProblem(pod); problem != "" {
			return admission.NewForbidden(a, errors.New(problem))
		}
		return nil
	}
	if pod.Spec.ServiceAccountName == "" {
		return admission.NewForbidden(a, fmt.Errorf("no service account specified for pod %s/%s", a.GetNamespace(), pod.Name))
	}
	account, err := s.account(ctx, a.GetNamespace(), pod.Spec.ServiceAccountName)
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.GetNamespace(), pod.Spec.ServiceAccountName, err))
	}
	if problem := secretProblem(pod, account); problem != "" {
		return admission.NewForbidden(a, errors.New(problem))
	}
	return nil
}

// account looks in the informer, then in the API.
func (s *serviceAccounts) account(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	found, err := s.accounts.ServiceAccounts(namespace).Get(name)
	tries := 1
	if name == defaultAccount {
		tries = accountTries
	}
	for try := 0; apierrors.IsNotFound(err) && try < tries; try++ {
		if try > 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(accountWait):
			}
		}
		found, err = s.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return found, err
}

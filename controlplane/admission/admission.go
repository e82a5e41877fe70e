// Package admission owns what the API does to objects between decoding and storage beyond defaults and validation: service
// accounts and their tokens for pods, default tolerations, priorities, what runtime classes ask for, taints of new nodes, the
// limits of node certificates, and the rule that nothing is created in a namespace that is going away.
//
// Each step is a file: the decision is a function of objects alone, the step around it reads what the decision needs. Steps
// that change objects run in the order of New, then those that only judge run in the same order over the result.
package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
)

// Config is what New needs. All fields are required.
type Config struct {
	// Client calls the REST API with the server's own rights; it is asked where an informer does not know an object yet.
	Client kubernetes.Interface
	// Informers get further informers registered; the caller starts them after New.
	Informers informers.SharedInformerFactory
}

// New returns the chain.
func New(c Config) (admission.Interface, error) {
	namespaces, err := newNamespaceLifecycle(c)
	if err != nil {
		return nil, err
	}
	return admission.NewChainHandler(
		namespaces,
		newServiceAccounts(c),
		newNodeRestriction(c),
		newNodeTaint(),
		newPriority(c),
		newTolerations(),
		newRuntimeClass(c),
	), nil
}

// newNamespaceLifecycle takes the API library's step: nothing is created in a namespace that is missing or terminating, and the
// built-in namespaces stay.
func newNamespaceLifecycle(c Config) (admission.Interface, error) {
	step, err := lifecycle.NewLifecycle(sets.New(metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic))
	if err != nil {
		return nil, fmt.Errorf("namespace admission: %w", err)
	}
	step.SetExternalKubeClientSet(c.Client)
	step.SetExternalKubeInformerFactory(c.Informers)
	if err := step.ValidateInitialization(); err != nil {
		return nil, fmt.Errorf("namespace admission: %w", err)
	}
	return step, nil
}

// isPod says whether a is about pods themselves and not a subresource.
func isPod(a admission.Attributes) bool {
	return a.GetResource().GroupResource() == corev1.Resource("pods") && a.GetSubresource() == ""
}

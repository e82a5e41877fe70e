package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"coracle/controlplane/auth/node"
)

// nodeRestriction keeps whoever holds a node's certificate to that node: its own Node, lease and CSINode, the status of the
// pods bound to it, mirror pods, tokens of its pods. Together with auth/node it makes a stolen certificate worth one node.
type nodeRestriction struct {
	*admission.Handler
	pods   corelisters.PodLister
	client kubernetes.Interface
}

func newNodeRestriction(c Config) *nodeRestriction {
	return &nodeRestriction{
		Handler: admission.NewHandler(admission.Create, admission.Update, admission.Delete),
		pods:    c.Informers.Core().V1().Pods().Lister(), client: c.Client,
	}
}

// Admit implements admission.MutationInterface. It changes nothing, but runs before anything is changed on behalf of a node.
func (r *nodeRestriction) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	name, isNode := node.NameOf(a.GetUserInfo())
	if !isNode {
		return nil
	}
	if name == "" {
		return admission.NewForbidden(a, fmt.Errorf("could not determine node from user %q", a.GetUserInfo().GetName()))
	}
	problem, err := r.judge(ctx, name, a)
	if err != nil {
		return err
	}
	if problem != "" {
		return admission.NewForbidden(a, errors.New(problem))
	}
	return nil
}

func (r *nodeRestriction) judge(ctx context.Context, name string, a admission.Attributes) (problem string, err error) {
	switch a.GetResource().GroupResource() {
	case corev1.Resource("pods"):
		return r.judgePod(ctx, name, a)
	case corev1.Resource("nodes"):
		return judgeNode(name, a), nil
	case corev1.Resource("serviceaccounts"):
		if request, ok := a.GetObject().(*authenticationv1.TokenRequest); ok && a.GetSubresource() == "token" {
			return r.judgeToken(ctx, name, a.GetNamespace(), request)
		}
		return "", nil
	case coordinationv1.Resource("leases"):
		return judgeOwn(name, a, "lease", corev1.NamespaceNodeLease), nil
	case storagev1.Resource("csinodes"):
		return judgeOwn(name, a, "CSINode", ""), nil
	}
	return "", nil
}

func (r *nodeRestriction) judgePod(ctx context.Context, name string, a admission.Attributes) (string, error) {
	switch a.GetSubresource() {
	case "":
		if a.GetOperation() == admission.Create {
			pod, ok := a.GetObject().(*corev1.Pod)
			if !ok {
				return fmt.Sprintf("unexpected type %T", a.GetObject()), nil
			}
			return mirrorOwnerProblem(name, pod), nil
		}
		if a.GetOperation() == admission.Delete {
			return r.mustBeBound(ctx, name, a.GetNamespace(), a.GetName(), "node %q can only delete pods with spec.nodeName set to itself")
		}
		return fmt.Sprintf("unexpected operation %q, node %q can only create and delete mirror pods", a.GetOperation(), name), nil
	case "status":
		pod, ok := a.GetOldObject().(*corev1.Pod)
		changed, ok2 := a.GetObject().(*corev1.Pod)
		if !ok || !ok2 {
			return fmt.Sprintf("unexpected type %T", a.GetOldObject()), nil
		}
		if pod.Spec.NodeName != name {
			return fmt.Sprintf("node %q can only update pod status for pods with spec.nodeName set to itself", name), nil
		}
		if !equality.Semantic.DeepEqual(pod.Labels, changed.Labels) {
			return fmt.Sprintf("node %q cannot update labels through pod status", name), nil
		}
		return "", nil
	case "eviction":
		target := a.GetName()
		if eviction, ok := a.GetObject().(*policyv1.Eviction); ok && target == "" {
			target = eviction.Name
		}
		return r.mustBeBound(ctx, name, a.GetNamespace(), target, "node %s can only evict pods with spec.nodeName set to itself")
	}
	return fmt.Sprintf("unexpected pod subresource %q, only 'status' and 'eviction' are allowed", a.GetSubresource()), nil
}

// mustBeBound says problem (with the node's name filled in) when the pod is bound elsewhere. A pod that is gone is no problem: the
// request itself will say so.
func (r *nodeRestriction) mustBeBound(ctx context.Context, name, namespace, podName, problem string) (string, error) {
	pod, err := r.pods.Pods(namespace).Get(podName)
	if apierrors.IsNotFound(err) {
		pod, err = r.client.CoreV1().Pods(namespace).Get(ctx, podName, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", err
	case pod.Spec.NodeName != name:
		return fmt.Sprintf(problem, name), nil
	}
	return "", nil
}

// mirrorOwnerProblem judges a pod that a node makes: it must mirror a static pod of that node and belong to its Node.
func mirrorOwnerProblem(name string, pod *corev1.Pod) string {
	switch {
	case !isMirror(pod):
		return fmt.Sprintf("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, name)
	case pod.Spec.NodeName != name:
		return fmt.Sprintf("node %q can only create pods with spec.nodeName set to itself", name)
	case len(pod.OwnerReferences) > 1:
		return fmt.Sprintf("node %q can only create pods with a single owner reference set to itself", name)
	}
	for _, owner := range pod.OwnerReferences {
		switch {
		case owner.APIVersion != "v1" || owner.Kind != "Node" || owner.Name != name:
			return fmt.Sprintf("node %q can only create pods with an owner reference set to itself", name)
		case owner.Controller == nil || !*owner.Controller:
			return fmt.Sprintf("node %q can only create pods with a controller owner reference set to itself", name)
		case owner.BlockOwnerDeletion != nil && *owner.BlockOwnerDeletion:
			return fmt.Sprintf("node %q must not set blockOwnerDeletion on an owner reference", name)
		}
	}
	return ""
}

// judgeToken lets a node have tokens for the pods bound to it only.
func (r *nodeRestriction) judgeToken(ctx context.Context, name, namespace string, request *authenticationv1.TokenRequest) (string, error) {
	ref := request.Spec.BoundObjectRef
	switch {
	case ref == nil:
		return "node requested token not bound to a pod", nil
	case ref.APIVersion != "v1" || ref.Kind != "Pod":
		return fmt.Sprintf("node requested token bound to %s, only pods are allowed", ref.Kind), nil
	case ref.UID == "":
		return fmt.Sprintf("pod binding without a uid, node %q must say which pod it means", name), nil
	}
	pod, err := r.client.CoreV1().Pods(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case err != nil:
		return "", err
	case pod.UID != ref.UID:
		return fmt.Sprintf("the UID in the bound object reference (%s) does not match the UID in record (%s)", ref.UID, pod.UID), nil
	case pod.Spec.NodeName != name:
		return "node requested token bound to a pod scheduled on a different node", nil
	}
	return "", nil
}

func judgeOwn(name string, a admission.Attributes, kind, namespace string) string {
	have := a.GetName()
	if object, ok := a.GetObject().(metav1.Object); ok && a.GetOperation() == admission.Create {
		have = object.GetName()
	}
	if have != name {
		return fmt.Sprintf("can only access %s with the same name as the requesting node", kind)
	}
	if a.GetNamespace() != namespace {
		return fmt.Sprintf("can only access %ss in namespace %q", kind, namespace)
	}
	return ""
}

// restrictedLabels may be set by cluster administrators only, so that workloads can be kept to trusted nodes.
const restrictedLabels = "node-restriction.kubernetes.io"

// nodeLabels are those labels of the Kubernetes domains that a node may set on itself.
var nodeLabels = map[string]bool{
	corev1.LabelHostname: true, corev1.LabelTopologyZone: true, corev1.LabelTopologyRegion: true,
	corev1.LabelFailureDomainBetaZone: true, corev1.LabelFailureDomainBetaRegion: true,
	corev1.LabelInstanceType: true, corev1.LabelInstanceTypeStable: true, corev1.LabelOSStable: true, corev1.LabelArchStable: true,
	"beta.kubernetes.io/os": true, "beta.kubernetes.io/arch": true,
}

func judgeNode(name string, a admission.Attributes) string {
	changed, ok := a.GetObject().(*corev1.Node)
	requested := a.GetName()
	if ok && a.GetOperation() == admission.Create {
		requested = changed.Name
	}
	if requested != name {
		return fmt.Sprintf("node %q is not allowed to modify node %q", name, requested)
	}
	if a.GetOperation() == admission.Delete {
		return fmt.Sprintf("node %q is not allowed to delete itself", name)
	}
	if !ok {
		return ""
	}
	before := map[string]string{}
	if old, ok := a.GetOldObject().(*corev1.Node); ok && a.GetOperation() == admission.Update {
		before = old.Labels
		switch {
		case !equality.Semantic.DeepEqual(old.Spec.Taints, changed.Spec.Taints):
			return fmt.Sprintf("node %q is not allowed to modify taints", name)
		case !equality.Semantic.DeepEqual(old.OwnerReferences, changed.OwnerReferences):
			return fmt.Sprintf("node %q is not allowed to modify ownerReferences", name)
		}
	} else if len(changed.OwnerReferences) > 0 {
		return fmt.Sprintf("node %q is not allowed to set ownerReferences", name)
	}
	if labels := forbiddenLabels(before, changed.Labels); len(labels) > 0 {
		return fmt.Sprintf("is not allowed to modify labels: %s", strings.Join(labels, ", "))
	}
	return ""
}

// Package serviceaccounttoken serves serviceaccounts/NAME/token: a TokenRequest is created and answered with a signed token,
// bound to a pod, secret or node where the request names one. Nothing is stored.
package serviceaccounttoken

import (
	"context"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	apiserviceaccount "k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	api "coracle/controlplane/api/authentication"
	"coracle/controlplane/auth/serviceaccount"
)

// Config is what New needs. The getters read from storage, not from a cache: a token must not be signed for an object that was
// deleted and made again.
type Config struct {
	Accounts, Pods, Secrets, Nodes rest.Getter
	Issuer                         *serviceaccount.Issuer
	// Audiences of a token that asks for none: the API's own.
	Audiences authenticator.Audiences
	Now       func() time.Time // default time.Now
}

// New returns the storage of the path "serviceaccounts/token".
func New(c Config) rest.Storage {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &tokenREST{Config: c}
}

type tokenREST struct{ Config }

var (
	_ rest.NamedCreater             = (*tokenREST)(nil)
	_ rest.GroupVersionKindProvider = (*tokenREST)(nil)
)

func (*tokenREST) New() runtime.Object { return &authenticationv1.TokenRequest{} }
func (*tokenREST) Destroy()            {}

// GroupVersionKind says that the subresource of a core kind speaks of another group.
func (*tokenREST) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
}

// Create signs the token.
func (r *tokenREST) Create(ctx context.Context, name string, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	req, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenRequest: %T", obj))
	}
	namespace := request.NamespaceValue(ctx)
	if err := setOrMatch(&req.Namespace, namespace, "namespace"); err != nil {
		return nil, err
	}
	if err := setOrMatch(&req.Name, name, "service account name"); err != nil {
		return nil, err
	}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = r.Audiences
	}
	if errs := api.ValidateTokenRequest(req); len(errs) > 0 {
		return nil, apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), "", errs)
	}
	account, err := r.account(ctx, name)
	if err != nil {
		return nil, err
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	now := r.Now()
	binding := serviceaccount.Binding{
		ServiceAccount: account,
		Audiences:      req.Spec.Audiences,
		Seconds:        *req.Spec.ExpirationSeconds,
		Extend:         len(r.Audiences.Intersect(req.Spec.Audiences)) == len(req.Spec.Audiences),
	}
	if ref := req.Spec.BoundObjectRef; ref != nil {
		if err := r.bind(ctx, &binding, ref); err != nil {
			return nil, err
		}
	}
	issued, err := r.Issuer.Sign(binding, now)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	audit.AddAuditAnnotation(ctx, apiserviceaccount.IssuedCredentialIDAuditAnnotationKey, "JTI="+issued.ID)
	if req.CreationTimestamp.IsZero() {
		req.CreationTimestamp = metav1.NewTime(now)
	}
	req.Status = authenticationv1.TokenRequestStatus{Token: issued.Token, ExpirationTimestamp: metav1.NewTime(issued.Expires)}
	return req, nil
}

func setOrMatch(have *string, want, what string) error {
	if *have == "" {
		*have = want
	}
	if *have != want {
		return apierrors.NewBadRequest(fmt.Sprintf("the %s of the provided object does not match the %s sent on the request", what, what))
	}
	return nil
}

func (r *tokenREST) account(ctx context.Context, name string) (*corev1.ServiceAccount, error) {
	obj, err := r.Accounts.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	account, ok := obj.(*corev1.ServiceAccount)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("serviceaccount storage holds a %T", obj))
	}
	return account, nil
}

// bind fills in what the token's life hangs on.
func (r *tokenREST) bind(ctx context.Context, b *serviceaccount.Binding, ref *authenticationv1.BoundObjectReference) error {
	uid := ref.UID
	switch gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind); gvk {
	case corev1.SchemeGroupVersion.WithKind("Pod"):
		pod, err := get[*corev1.Pod](ctx, r.Pods, "pods", ref.Name)
		if err != nil {
			return err
		}
		if pod.Spec.ServiceAccountName != b.ServiceAccount.Name {
			return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.",
				b.ServiceAccount.Name))
		}
		b.Pod = pod
		if err := sameUID("pods", ref.Name, uid, pod.UID); err != nil {
			return err
		}
		return r.addNode(ctx, b, pod.Spec.NodeName)
	case corev1.SchemeGroupVersion.WithKind("Secret"):
		secret, err := get[*corev1.Secret](ctx, r.Secrets, "secrets", ref.Name)
		if err != nil {
			return err
		}
		b.Secret = secret
		return sameUID("secrets", ref.Name, uid, secret.UID)
	case corev1.SchemeGroupVersion.WithKind("Node"):
		node, err := get[*corev1.Node](request.WithNamespace(ctx, ""), r.Nodes, "nodes", ref.Name)
		if err != nil {
			return err
		}
		b.Node = node
		return sameUID("nodes", ref.Name, uid, node.UID)
	default:
		return apierrors.NewBadRequest(fmt.Sprintf("cannot bind token to object of type %s", gvk.String()))
	}
}

// addNode tells the pod's node in the token, with its UID where the node is known.
func (r *tokenREST) addNode(ctx context.Context, b *serviceaccount.Binding, name string) error {
	if name == "" {
		return nil
	}
	node, err := get[*corev1.Node](request.WithNamespace(ctx, ""), r.Nodes, "nodes", name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	b.Node = node
	return nil
}

// get reads another object than the request is about. Storage words its errors by the request in the context, so that gets one
// of its own.
func get[T runtime.Object](ctx context.Context, from rest.Getter, resource, name string) (T, error) {
	var none T
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{
		IsResourceRequest: true, Verb: "get", APIVersion: "v1", Resource: resource, Namespace: request.NamespaceValue(ctx), Name: name,
	})
	obj, err := from.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return none, err
	}
	typed, ok := obj.(T)
	if !ok {
		return none, apierrors.NewInternalError(fmt.Errorf("storage holds a %T", obj))
	}
	return typed, nil
}

func sameUID(resource, name string, want, have types.UID) error {
	if want == "" || want == have {
		return nil
	}
	return apierrors.NewConflict(schema.GroupResource{Resource: resource}, name,
		fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", want))
}

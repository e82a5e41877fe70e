// Package authentication serves the reviews of authentication.k8s.io/v1: whose is this token, and who am I. Reviews are created
// and answered in one step and never stored.
package authentication

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	api "coracle/controlplane/api/authentication"
)

// Storage is the group's storage by path. audiences is what a token is held against when the review names none.
func Storage(requests authenticator.Request, audiences authenticator.Audiences) map[string]rest.Storage {
	return map[string]rest.Storage{
		"tokenreviews":       &tokenREST{requests: requests, audiences: audiences},
		"selfsubjectreviews": &selfREST{},
	}
}

// tokenREST answers TokenReviews by authenticating a request that carries the token.
type tokenREST struct {
	requests  authenticator.Request
	audiences authenticator.Audiences
}

func (*tokenREST) New() runtime.Object     { return &authenticationv1.TokenReview{} }
func (*tokenREST) Destroy()                {}
func (*tokenREST) NamespaceScoped() bool   { return false }
func (*tokenREST) GetSingularName() string { return "tokenreview" }

func (r *tokenREST) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := obj.(*authenticationv1.TokenReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenReview: %T", obj))
	}
	if namespace := request.NamespaceValue(ctx); namespace != "" {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("namespace is not allowed on this type: %v", namespace))
	}
	if review.Spec.Token == "" {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	if errs := api.ValidateTokenReview(review); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: authenticationv1.GroupName, Kind: "TokenReview"}, "", errs)
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	audiences := authenticator.Audiences(review.Spec.Audiences)
	if len(audiences) == 0 {
		audiences = r.audiences
	}
	probe := (&http.Request{Header: http.Header{"Authorization": {"Bearer " + review.Spec.Token}}}).
		WithContext(authenticator.WithAudiences(ctx, audiences))
	response, ok, err := r.requests.AuthenticateRequest(probe)
	review.Status = authenticationv1.TokenReviewStatus{Authenticated: ok}
	if err != nil {
		review.Status.Error = err.Error()
	}
	if !ok || response == nil || response.User == nil {
		return review, nil
	}
	if len(audiences.Intersect(response.Audiences)) == 0 {
		return nil, apierrors.NewInternalError(errors.New("error validating audiences"))
	}
	review.Status.User = userInfo(response.User)
	review.Status.Audiences = response.Audiences
	return review, nil
}

// selfREST answers SelfSubjectReviews; "kubectl auth whoami" asks it.
type selfREST struct{}

func (*selfREST) New() runtime.Object     { return &authenticationv1.SelfSubjectReview{} }
func (*selfREST) Destroy()                {}
func (*selfREST) NamespaceScoped() bool   { return false }
func (*selfREST) GetSingularName() string { return "selfsubjectreview" }

func (*selfREST) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := obj.(*authenticationv1.SelfSubjectReview)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a SelfSubjectReview: %T", obj))
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	u, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	review.Status = authenticationv1.SelfSubjectReviewStatus{UserInfo: userInfo(u)}
	return review, nil
}

func userInfo(u user.Info) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	if extra := u.GetExtra(); len(extra) > 0 {
		info.Extra = make(map[string]authenticationv1.ExtraValue, len(extra))
		for key, values := range extra {
			info.Extra[key] = values
		}
	}
	return info
}

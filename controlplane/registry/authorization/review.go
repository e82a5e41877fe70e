// Package authorization serves the reviews of authorization.k8s.io/v1: may a user, or the caller, do this; and what may the
// caller do here. Reviews are created and answered in one step and never stored.
package authorization

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	api "coracle/controlplane/api/authorization"
)

// Storage is the group's storage by path.
func Storage(z authorizer.Authorizer, rules authorizer.RuleResolver) map[string]rest.Storage {
	return map[string]rest.Storage{
		"subjectaccessreviews":      &subjectREST{authorizer: z},
		"localsubjectaccessreviews": &localREST{authorizer: z},
		"selfsubjectaccessreviews":  &selfREST{authorizer: z},
		"selfsubjectrulesreviews":   &rulesREST{rules: rules},
	}
}

// judge asks the authorizer and puts its answer as a review states it.
func judge(ctx context.Context, z authorizer.Authorizer, a authorizer.Attributes) authorizationv1.SubjectAccessReviewStatus {
	decision, reason, err := z.Authorize(ctx, a)
	status := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow,
		Denied:  decision == authorizer.DecisionDeny,
		Reason:  reason,
	}
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status
}

func invalid(kind string, errs field.ErrorList) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName, Kind: kind}, "", errs)
}

func wrongType(want string, got runtime.Object) error {
	return apierrors.NewBadRequest(fmt.Sprintf("not a %s: %T", want, got))
}

func callerOf(ctx context.Context) (user.Info, error) {
	u, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	return u, nil
}

// subjectREST answers SubjectAccessReviews: may this user do this.
type subjectREST struct{ authorizer authorizer.Authorizer }

func (*subjectREST) New() runtime.Object     { return &authorizationv1.SubjectAccessReview{} }
func (*subjectREST) Destroy()                {}
func (*subjectREST) NamespaceScoped() bool   { return false }
func (*subjectREST) GetSingularName() string { return "subjectaccessreview" }

func (r *subjectREST) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := obj.(*authorizationv1.SubjectAccessReview)
	if !ok {
		return nil, wrongType("SubjectAccessReview", obj)
	}
	if errs := api.ValidateSubjectAccessReview(review); len(errs) > 0 {
		return nil, invalid("SubjectAccessReview", errs)
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	review.Status = judge(ctx, r.authorizer, attributes(userOf(review.Spec), review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes))
	return review, nil
}

// localREST is the same within one namespace, so that its admins can be allowed to ask.
type localREST struct{ authorizer authorizer.Authorizer }

func (*localREST) New() runtime.Object     { return &authorizationv1.LocalSubjectAccessReview{} }
func (*localREST) Destroy()                {}
func (*localREST) NamespaceScoped() bool   { return true }
func (*localREST) GetSingularName() string { return "localsubjectaccessreview" }

func (r *localREST) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := obj.(*authorizationv1.LocalSubjectAccessReview)
	if !ok {
		return nil, wrongType("LocalSubjectAccessReview", obj)
	}
	if errs := api.ValidateLocalSubjectAccessReview(review); len(errs) > 0 {
		return nil, invalid("LocalSubjectAccessReview", errs)
	}
	if namespace := request.NamespaceValue(ctx); review.Spec.ResourceAttributes != nil && review.Spec.ResourceAttributes.Namespace != namespace {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must match namespace: %v", namespace))
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	review.Status = judge(ctx, r.authorizer, attributes(userOf(review.Spec), review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes))
	return review, nil
}

// selfREST answers for the caller; "kubectl auth can-i" asks it.
type selfREST struct{ authorizer authorizer.Authorizer }

func (*selfREST) New() runtime.Object     { return &authorizationv1.SelfSubjectAccessReview{} }
func (*selfREST) Destroy()                {}
func (*selfREST) NamespaceScoped() bool   { return false }
func (*selfREST) GetSingularName() string { return "selfsubjectaccessreview" }

func (r *selfREST) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	review, ok := obj.(*authorizationv1.SelfSubjectAccessReview)
	if !ok {
		return nil, wrongType("SelfSubjectAccessReview", obj)
	}
	if errs := api.ValidateSelfSubjectAccessReview(review); len(errs) > 0 {
		return nil, invalid("SelfSubjectAccessReview", errs)
	}
	u, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	review.Status = judge(ctx, r.authorizer, attributes(u, review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes))
	return review, nil
}

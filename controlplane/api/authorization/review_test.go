package authorization

import (
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/controlplane/api/expect"
)

func TestReviews(t *testing.T) {
	pods := &authorizationv1.ResourceAttributes{Namespace: "ns", Verb: "get", Resource: "pods"}
	url := &authorizationv1.NonResourceAttributes{Path: "/x", Verb: "get"}
	for _, tc := range []struct {
		name string
		spec authorizationv1.SubjectAccessReviewSpec
		want []string
	}{
		{"sound", authorizationv1.SubjectAccessReviewSpec{User: "u", ResourceAttributes: pods}, nil},
		{"group alone", authorizationv1.SubjectAccessReviewSpec{Groups: []string{"g"}, NonResourceAttributes: url}, nil},
		{"nothing", authorizationv1.SubjectAccessReviewSpec{}, []string{"Invalid spec.resourceAttributes", "Invalid spec.user"}},
		{"both", authorizationv1.SubjectAccessReviewSpec{User: "u", ResourceAttributes: pods, NonResourceAttributes: url}, []string{"Invalid spec.nonResourceAttributes"}},
		{"selectors", authorizationv1.SubjectAccessReviewSpec{User: "u", ResourceAttributes: &authorizationv1.ResourceAttributes{
			FieldSelector: &authorizationv1.FieldSelectorAttributes{},
			LabelSelector: &authorizationv1.LabelSelectorAttributes{RawSelector: "a=b", Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "In"}}},
		}}, []string{"Required spec.resourceAttributes.fieldSelector.requirements", "Invalid spec.resourceAttributes.labelSelector.rawSelector", "Required spec.resourceAttributes.labelSelector.requirements[0].values"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect.Errors(t, ValidateSubjectAccessReview(&authorizationv1.SubjectAccessReview{Spec: tc.spec}), tc.want...)
		})
	}
	named := metav1.ObjectMeta{Name: "x"}
	spec := authorizationv1.SubjectAccessReviewSpec{User: "u", ResourceAttributes: pods}
	expect.Errors(t, ValidateSubjectAccessReview(&authorizationv1.SubjectAccessReview{ObjectMeta: named, Spec: spec}), "Invalid metadata")
	expect.Errors(t, ValidateSubjectAccessReview(&authorizationv1.SubjectAccessReview{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{}}}, Spec: spec}))
	expect.Errors(t, ValidateSelfSubjectAccessReview(&authorizationv1.SelfSubjectAccessReview{ObjectMeta: named}), "Invalid metadata", "Invalid spec.resourceAttributes")
	local := &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Spec: spec}
	expect.Errors(t, ValidateLocalSubjectAccessReview(local))
	local.Namespace = "other"
	expect.Errors(t, ValidateLocalSubjectAccessReview(local), "Invalid spec.resourceAttributes.namespace")
	local.Spec = authorizationv1.SubjectAccessReviewSpec{User: "u", NonResourceAttributes: url}
	expect.Errors(t, ValidateLocalSubjectAccessReview(local), "Invalid spec.nonResourceAttributes")
	expect.Errors(t, ValidateSelfSubjectRulesReview(&authorizationv1.SelfSubjectRulesReview{}), "Required spec.namespace")
}

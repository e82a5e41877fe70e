package authorization

import (
	"context"
	"errors"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// onlyJane lets jane of dev read pods in ns, and refuses mallory for good; it remembers what it was asked.
type onlyJane struct{ asked authorizer.Attributes }

func (z *onlyJane) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	z.asked = a
	switch {
	case a.GetUser().GetName() == "mallory":
		return authorizer.DecisionDeny, "never", nil
	case a.GetUser().GetName() == "jane" && a.GetVerb() == "get" && (a.GetResource() == "pods" && a.GetNamespace() == "ns" || a.GetPath() == "/metrics"):
		return authorizer.DecisionAllow, "she may", nil
	}
	return authorizer.DecisionNoOpinion, "", errors.New("half blind")
}

// reviews is a storage that answers what is created.
type reviews interface {
	Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error)
}

func storage(t *testing.T, path string) (reviews, *onlyJane) {
	t.Helper()
	z := &onlyJane{}
	answer, ok := Storage(authorizer.AuthorizerFunc(z.Authorize), rules{})[path].(reviews)
	if !ok {
		t.Fatalf("%s cannot be created", path)
	}
	return answer, z
}

type rules struct{}

func (rules) RulesFor(_ context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	return []authorizer.ResourceRuleInfo{&authorizer.DefaultResourceRuleInfo{Verbs: []string{"get"}, Resources: []string{u.GetName() + " in " + namespace}}},
		[]authorizer.NonResourceRuleInfo{&authorizer.DefaultNonResourceRuleInfo{Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}}}, true, errors.New("one role is gone")
}

func create(t *testing.T, path string, as user.Info, namespace string, obj runtime.Object) (runtime.Object, *onlyJane, error) {
	t.Helper()
	answer, z := storage(t, path)
	ctx := request.WithNamespace(t.Context(), namespace)
	if as != nil {
		ctx = request.WithUser(ctx, as)
	}
	out, err := answer.Create(ctx, obj, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	return out, z, err
}

var podsOf = func(namespace string) *authorizationv1.ResourceAttributes {
	return &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods", Namespace: namespace}
}

func TestSubjectAccessReview(t *testing.T) {
	for name, c := range map[string]struct {
		spec authorizationv1.SubjectAccessReviewSpec
		want authorizationv1.SubjectAccessReviewStatus
	}{
		"allowed":    {authorizationv1.SubjectAccessReviewSpec{User: "jane", ResourceAttributes: podsOf("ns")}, authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "she may"}},
		"a path":     {authorizationv1.SubjectAccessReviewSpec{User: "jane", NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/metrics"}}, authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "she may"}},
		"denied":     {authorizationv1.SubjectAccessReviewSpec{User: "mallory", ResourceAttributes: podsOf("ns")}, authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "never"}},
		"no opinion": {authorizationv1.SubjectAccessReviewSpec{User: "joe", ResourceAttributes: podsOf("ns")}, authorizationv1.SubjectAccessReviewStatus{EvaluationError: "half blind"}},
	} {
		out, _, err := create(t, "subjectaccessreviews", nil, "", &authorizationv1.SubjectAccessReview{Spec: c.spec})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := out.(*authorizationv1.SubjectAccessReview).Status; got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestWhatTheAuthorizerIsAsked(t *testing.T) {
	_, z, err := create(t, "subjectaccessreviews", nil, "", &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: "jane", Groups: []string{"dev"}, UID: "7", Extra: map[string]authorizationv1.ExtraValue{"k": {"v"}},
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: "list", Group: "apps", Resource: "deployments", Subresource: "scale", Name: "web", Namespace: "ns",
			FieldSelector: &authorizationv1.FieldSelectorAttributes{Requirements: []metav1.FieldSelectorRequirement{
				{Key: "a", Operator: metav1.FieldSelectorOpIn, Values: []string{"1"}}, {Key: "b", Operator: metav1.FieldSelectorOpIn, Values: []string{"1", "2"}}}},
			LabelSelector: &authorizationv1.LabelSelectorAttributes{RawSelector: "app=web"},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := z.asked
	if u := a.GetUser(); u.GetName() != "jane" || u.GetUID() != "7" || u.GetExtra()["k"][0] != "v" || u.GetGroups()[0] != "dev" {
		t.Errorf("user %+v", u)
	}
	if a.GetAPIGroup() != "apps" || a.GetAPIVersion() != "*" || a.GetSubresource() != "scale" || a.GetName() != "web" || !a.IsResourceRequest() {
		t.Errorf("%+v", a)
	}
	if fields, err := a.GetFieldSelector(); len(fields) != 1 || fields[0].Value != "1" || err == nil {
		t.Errorf("fields %v, %v; want the one that is understood, and that the other is not", fields, err)
	}
	if labels, err := a.GetLabelSelector(); len(labels) != 1 || err != nil {
		t.Errorf("labels %v, %v", labels, err)
	}
}

func TestLocalReviewStaysInItsNamespace(t *testing.T) {
	review := func(namespace string) *authorizationv1.LocalSubjectAccessReview {
		return &authorizationv1.LocalSubjectAccessReview{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"},
			Spec: authorizationv1.SubjectAccessReviewSpec{User: "jane", ResourceAttributes: podsOf(namespace)}}
	}
	out, _, err := create(t, "localsubjectaccessreviews", nil, "ns", review("ns"))
	if err != nil || !out.(*authorizationv1.LocalSubjectAccessReview).Status.Allowed {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, _, err := create(t, "localsubjectaccessreviews", nil, "ns", review("other")); err == nil {
		t.Fatal("a review asked about another namespace")
	}
}

func TestSelfReviewIsAboutTheCaller(t *testing.T) {
	review := func() *authorizationv1.SelfSubjectAccessReview {
		return &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: podsOf("ns")}}
	}
	for name, want := range map[string]bool{"jane": true, "joe": false} {
		out, _, err := create(t, "selfsubjectaccessreviews", &user.DefaultInfo{Name: name}, "", review())
		if err != nil || out.(*authorizationv1.SelfSubjectAccessReview).Status.Allowed != want {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	if _, _, err := create(t, "selfsubjectaccessreviews", nil, "", review()); !apierrors.IsBadRequest(err) {
		t.Errorf("nobody asks: %v", err)
	}
}

func TestRulesReview(t *testing.T) {
	jane := &user.DefaultInfo{Name: "jane"}
	out, _, err := create(t, "selfsubjectrulesreviews", jane, "", &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "ns"}})
	if err != nil {
		t.Fatal(err)
	}
	status := out.(*authorizationv1.SelfSubjectRulesReview).Status
	if status.ResourceRules[0].Resources[0] != "jane in ns" || len(status.NonResourceRules) != 1 || !status.Incomplete || status.EvaluationError != "one role is gone" {
		t.Fatalf("%+v", status)
	}
	_, _, err = create(t, "selfsubjectrulesreviews", jane, "", &authorizationv1.SelfSubjectRulesReview{})
	if err == nil || !strings.Contains(err.Error(), "no namespace on request") {
		t.Fatal(err)
	}
}

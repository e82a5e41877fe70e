package authentication

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

// doorkeeper knows the token "good" for the audiences api and vault.
func doorkeeper(r *http.Request) (*authenticator.Response, bool, error) {
	if r.Header.Get("Authorization") != "Bearer good" {
		return nil, false, errors.New("invalid bearer token")
	}
	wanted, _ := authenticator.AudiencesFrom(r.Context())
	both := wanted.Intersect(authenticator.Audiences{"api", "vault"})
	if len(both) == 0 {
		return nil, false, errors.New("other audience")
	}
	return &authenticator.Response{Audiences: both, User: &user.DefaultInfo{Name: "jane", UID: "7", Groups: []string{"dev"}, Extra: map[string][]string{"k": {"v"}}}}, true, nil
}

// reviews is a storage that answers what is created.
type reviews interface {
	Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error)
}

func TestTokenReview(t *testing.T) {
	answer, ok := Storage(authenticator.RequestFunc(doorkeeper), authenticator.Audiences{"api"})["tokenreviews"].(reviews)
	if !ok {
		t.Fatal("tokenreviews cannot be created")
	}
	for name, c := range map[string]struct {
		spec      authenticationv1.TokenReviewSpec
		good      bool
		audiences []string
		err       string
	}{
		"the API's own":  {authenticationv1.TokenReviewSpec{Token: "good"}, true, []string{"api"}, ""},
		"another's":      {authenticationv1.TokenReviewSpec{Token: "good", Audiences: []string{"vault", "x"}}, true, []string{"vault"}, ""},
		"nobody's":       {authenticationv1.TokenReviewSpec{Token: "good", Audiences: []string{"x"}}, false, nil, "other audience"},
		"a wrong token":  {authenticationv1.TokenReviewSpec{Token: "bad"}, false, nil, "invalid bearer token"},
		"a broken token": {authenticationv1.TokenReviewSpec{Token: "good\r\nX: y"}, false, nil, "invalid bearer token"},
	} {
		out, err := answer.Create(t.Context(), &authenticationv1.TokenReview{Spec: c.spec}, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		status := out.(*authenticationv1.TokenReview).Status
		if status.Authenticated != c.good || !slices.Equal(status.Audiences, c.audiences) || status.Error != c.err || (status.User.Username == "jane") != c.good {
			t.Errorf("%s: %+v", name, status)
		}
		if c.good && (status.User.UID != "7" || status.User.Extra["k"][0] != "v") {
			t.Errorf("%s: %+v", name, status.User)
		}
	}
	if _, err := answer.Create(t.Context(), &authenticationv1.TokenReview{}, nil, &metav1.CreateOptions{}); !apierrors.IsBadRequest(err) {
		t.Errorf("no token: %v", err)
	}
}

func TestSelfSubjectReview(t *testing.T) {
	answer, ok := Storage(authenticator.RequestFunc(doorkeeper), nil)["selfsubjectreviews"].(reviews)
	if !ok {
		t.Fatal("selfsubjectreviews cannot be created")
	}
	ctx := request.WithUser(t.Context(), &user.DefaultInfo{Name: "jane", Groups: []string{"dev"}})
	out, err := answer.Create(ctx, &authenticationv1.SelfSubjectReview{}, nil, &metav1.CreateOptions{})
	if err != nil || out.(*authenticationv1.SelfSubjectReview).Status.UserInfo.Username != "jane" {
		t.Fatalf("%+v, %v", out, err)
	}
	if _, err := answer.Create(t.Context(), &authenticationv1.SelfSubjectReview{}, nil, &metav1.CreateOptions{}); !apierrors.IsBadRequest(err) {
		t.Errorf("nobody asks: %v", err)
	}
}

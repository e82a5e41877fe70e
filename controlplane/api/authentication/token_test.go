package authentication

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"coracle/controlplane/api/expect"
)

func TestTokenRequest(t *testing.T) {
	for _, tc := range []struct {
		name    string
		seconds *int64
		want    []string
	}{
		{"an hour", ptr(3600), nil},
		{"ten minutes", ptr(600), nil},
		{"less", ptr(599), []string{"Invalid spec.expirationSeconds"}},
		{"too long", ptr(1<<32 + 1), []string{"Invalid spec.expirationSeconds"}},
		{"none", nil, []string{"Required spec.expirationSeconds"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect.Errors(t, ValidateTokenRequest(&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: tc.seconds}}), tc.want...)
		})
	}
}

func ptr(n int64) *int64 { return &n }

func TestTokenReview(t *testing.T) {
	expect.Errors(t, ValidateTokenReview(&authenticationv1.TokenReview{}), "Required spec.token")
	expect.Errors(t, ValidateTokenReview(&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: "x"}}))
	expect.Errors(t, ValidateSelfSubjectReview(&authenticationv1.SelfSubjectReview{}))
}

// Package authentication holds the defaults and validation of token requests and
// reviews.
package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a token's life in seconds.
const (
	minTokenSeconds = 10 * 60
	maxTokenSeconds = 1 << 32
)

var specPath = field.NewPath("spec")

// ValidateTokenRequest judges a request for a service account's token.
func ValidateTokenRequest(r *authenticationv1.TokenRequest) field.ErrorList {
	at := specPath.Child("expirationSeconds")
	if r.Spec.ExpirationSeconds == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	var errs field.ErrorList
	if s := *r.Spec.ExpirationSeconds; s < minTokenSeconds {
		errs = append(errs, field.Invalid(at, s, "may not specify a duration less than 10 minutes"))
	} else if s > maxTokenSeconds {
		errs = append(errs, field.Invalid(at, s, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}

// ValidateTokenReview judges a question about a token.
func ValidateTokenReview(r *authenticationv1.TokenReview) field.ErrorList {
	if r.Spec.Token == "" {
		return field.ErrorList{field.Required(specPath.Child("token"), "")}
	}
	return nil
}

// ValidateSelfSubjectReview judges a question about the caller, which has no
// content that could be wrong.
func ValidateSelfSubjectReview(*authenticationv1.SelfSubjectReview) field.ErrorList { return nil }

package authentication

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"coracle/controlplane/api/fill"
)

// defaultTokenSeconds is the life of a token whose request names none.
const defaultTokenSeconds = int64(60 * 60)

// AddDefaults registers the defaulting functions of the group.
func AddDefaults(s *runtime.Scheme) error {
	fill.Kind(s, func(tr *authenticationv1.TokenRequest) {
		fill.Pointer(&tr.Spec.ExpirationSeconds, defaultTokenSeconds)
	})
	return nil
}

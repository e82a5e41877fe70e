package image

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// providerAnswer is what a provider said.
type providerAnswer struct {
	credentials []Credential // sorted by registry
	scope       string       // Image, Registry or Global: what the answer holds for
	cache       *time.Duration
}

// What an answer holds for.
const (
	scopeImage    = "Image"
	scopeRegistry = "Registry"
	scopeGlobal   = "Global"
)

// providerRequest is the CredentialProviderRequest of kubelet's API credentialprovider.kubelet.k8s.io.
func providerRequest(version, image string) ([]byte, error) {
	return json.Marshal(map[string]string{"apiVersion": version, "kind": "CredentialProviderRequest", "image": image})
}

// parseAnswer reads a CredentialProviderResponse of the version that was asked in. Errors never hold what it says, which may
// be a password.
func parseAnswer(data []byte, version string) (providerAnswer, error) {
	var doc struct {
		APIVersion    string           `json:"apiVersion"`
		Kind          string           `json:"kind"`
		CacheKeyType  string           `json:"cacheKeyType"`
		CacheDuration *metav1.Duration `json:"cacheDuration"`
		Auth          map[string]struct {
			Username string `json:"username"`
			Password string `json:"password"`
		} `json:"auth"`
	}
	if json.Unmarshal(data, &doc) != nil {
		return providerAnswer{}, fmt.Errorf("its answer (%d bytes) is not the JSON object it should be", len(data))
	}
	if doc.Kind != "CredentialProviderResponse" || doc.APIVersion != version {
		return providerAnswer{}, fmt.Errorf("its answer is not a CredentialProviderResponse of %s", version)
	}
	out := providerAnswer{scope: doc.CacheKeyType}
	if !slices.Contains([]string{scopeImage, scopeRegistry, scopeGlobal}, out.scope) {
		return providerAnswer{}, fmt.Errorf("the cacheKeyType of its answer is none of %s, %s and %s", scopeImage, scopeRegistry, scopeGlobal)
	}
	if doc.CacheDuration != nil {
		if doc.CacheDuration.Duration < 0 {
			return providerAnswer{}, fmt.Errorf("the cacheDuration of its answer, %s, is negative", doc.CacheDuration.Duration)
		}
		out.cache = &doc.CacheDuration.Duration
	}
	for registry, a := range doc.Auth {
		out.credentials = append(out.credentials, Credential{Registry: registry, Username: a.Username, Password: a.Password})
	}
	slices.SortFunc(out.credentials, func(a, b Credential) int { return strings.Compare(a.Registry, b.Registry) })
	return out, nil
}

package serviceaccount

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Paths of OpenID Connect discovery. Who may read them is RBAC's affair (system:service-account-issuer-discovery).
const (
	ConfigurationPath = "/.well-known/openid-configuration"
	JWKSPath          = "/openid/v1/jwks"
)

// discoveryAge is how long others may keep the answers: keys change by restart only.
const discoveryAge = "public, max-age=3600"

type configuration struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
}

// Discovery answers the two discovery paths.
type Discovery struct {
	configuration, jwks []byte
}

// NewDiscovery renders the answers. jwksURI is the address of JWKSPath as seen by those who verify. It returns nil without
// error when issuer is not an https URL: then there is nothing to discover.
func NewDiscovery(issuer, jwksURI string, keys *Keys) (*Discovery, error) {
	if !strings.HasPrefix(issuer, "https://") {
		return nil, nil
	}
	c := configuration{
		Issuer: issuer, JWKSURI: jwksURI,
		ResponseTypes: []string{"id_token"}, SubjectTypes: []string{"public"},
	}
	for _, a := range keys.algorithms() {
		c.Algorithms = append(c.Algorithms, string(a))
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("render OpenID configuration: %w", err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: keys.public})
	if err != nil {
		return nil, fmt.Errorf("render JWKS: %w", err)
	}
	return &Discovery{configuration: config, jwks: set}, nil
}

// Mux is where Install puts the handlers.
type Mux interface {
	Handle(path string, handler http.Handler)
}

// Install adds both paths to mux. It does nothing on nil.
func (d *Discovery) Install(mux Mux) {
	if d == nil {
		return
	}
	mux.Handle(ConfigurationPath, answer("application/json", d.configuration))
	mux.Handle(JWKSPath, answer("application/jwk-set+json", d.jwks))
}

func answer(contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", discoveryAge)
		_, _ = w.Write(body) // the client is gone; nobody is left to tell
	})
}

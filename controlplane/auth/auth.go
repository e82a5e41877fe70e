// Package auth owns who a caller of the REST API is and what they may do. It puts together what its folders decide:
//
//	bootstrap       join tokens
//	serviceaccount  tokens of service accounts
//	rbac            evaluation of Roles and bindings
//	node            what a node certificate may do
//	policy          the default Roles, and how they are kept
//
// Authentication tries, in this order: client certificate by the cluster CA (CN is the user, O the groups), service-account
// token, bootstrap token; who shows nothing is system:anonymous, who shows something bad gets 401.
// Authorisation: system:masters may do everything, then node, then RBAC; whoever none of them allows gets 403.
//
// It does not own storage of any of these objects nor admission.
package auth

import (
	"context"
	"crypto"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"coracle/controlplane/auth/bootstrap"
	"coracle/controlplane/auth/node"
	"coracle/controlplane/auth/rbac"
	"coracle/controlplane/auth/serviceaccount"
)

// Config is what New needs. All fields are required but Now and Log.
type Config struct {
	// ClientCA is the PEM of the authority whose client certificates are believed.
	ClientCA []byte
	// Keys of service accounts: the first signs, all verify.
	Keys []crypto.Signer
	// Issuer is the "iss" of tokens and the audience of the API.
	Issuer string
	// APIServerURL is the address under which others fetch the verification keys, without path.
	APIServerURL string
	// Client calls the REST API with the server's own rights.
	Client kubernetes.Interface
	// Informers get further informers registered; the caller starts them after New.
	Informers informers.SharedInformerFactory
	Now       func() time.Time // default time.Now
	Log       *slog.Logger     // default slog.Default()
}

// Auth answers authentication and authorisation. Safe for concurrent use.
type Auth struct {
	// Issuer signs service-account tokens, Validator judges them, Discovery publishes the keys.
	Issuer    *serviceaccount.Issuer
	Validator *serviceaccount.Validator
	Discovery *serviceaccount.Discovery
	// Tokens judges bootstrap tokens.
	Tokens bootstrap.Store
	// Rules evaluates RBAC; it is an authorizer.RuleResolver too.
	Rules *rbac.Resolver

	config        Config
	clientCA      dynamiccertificates.CAContentProvider
	authenticator authenticator.Request
	authorizer    authorizer.Authorizer
}

// New registers the informers it needs and builds everything; nothing runs until Run.
func New(c Config) (*Auth, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	keys, err := serviceaccount.NewKeys(c.Keys)
	if err != nil {
		return nil, err
	}
	discovery, err := serviceaccount.NewDiscovery(c.Issuer, c.APIServerURL+serviceaccount.JWKSPath, keys)
	if err != nil {
		return nil, err
	}
	ca, err := dynamiccertificates.NewStaticCAContent("client-ca", c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("load client CA: %w", err)
	}
	a := &Auth{
		Issuer:    &serviceaccount.Issuer{Name: c.Issuer, Keys: keys},
		Discovery: discovery,
		Validator: &serviceaccount.Validator{
			Issuer: c.Issuer, Keys: keys, Objects: newObjects(c),
			Audiences: authenticator.Audiences{c.Issuer}, Now: c.Now,
		},
		Tokens:   bootstrap.Store{Client: c.Client},
		Rules:    &rbac.Resolver{Reader: newReader(c.Informers)},
		config:   c,
		clientCA: ca,
	}
	a.authenticator = a.newAuthenticator()
	if a.authorizer, err = a.newAuthorizer(); err != nil {
		return nil, err
	}
	return a, nil
}

// Authenticator says who a request is from.
func (a *Auth) Authenticator() authenticator.Request { return a.authenticator }

// Authorizer says whether the caller may do what they ask.
func (a *Auth) Authorizer() authorizer.Authorizer { return a.authorizer }

// RuleResolver lists what a user may do.
func (a *Auth) RuleResolver() authorizer.RuleResolver { return a.Rules }

// Audiences is what tokens for this API must be for.
func (a *Auth) Audiences() authenticator.Audiences { return a.Validator.Audiences }

// ClientCA is for the TLS listener, which asks clients for certificates of this authority.
func (a *Auth) ClientCA() dynamiccertificates.CAContentProvider { return a.clientCA }

func (a *Auth) newAuthorizer() (authorizer.Authorizer, error) {
	pods := a.config.Informers.Core().V1().Pods().Informer()
	if err := pods.AddIndexers(node.Indexers()); err != nil {
		return nil, fmt.Errorf("index pods by node: %w", err)
	}
	nodes := &node.Authorizer{Pods: pods.GetIndexer()}
	return union.New(
		union.NamedAuthorizer{AuthorizerName: "masters", Authorizer: authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)},
		union.NamedAuthorizer{AuthorizerName: "node", Authorizer: authorizer.AuthorizerFunc(nodes.Authorize)},
		union.NamedAuthorizer{AuthorizerName: "rbac", Authorizer: authorizer.AuthorizerFunc(a.Rules.Authorize)},
	)
}

// Run keeps the rules of aggregated ClusterRoles current until ctx ends.
func (a *Auth) Run(ctx context.Context) error {
	return a.runAggregation(ctx)
}

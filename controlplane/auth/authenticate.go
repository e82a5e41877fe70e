package auth

import (
	"context"
	"errors"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	requestunion "k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/websocket"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/pkg/authentication/user"

	"coracle/controlplane/auth/bootstrap"
)

func (a *Auth) newAuthenticator() authenticator.Request {
	tokens := a.TokenAuthenticator()
	known := requestunion.New(
		authenticator.WrapAudienceAgnosticRequest(a.Audiences(), x509.NewDynamic(a.clientCA.VerifyOptions, x509.CommonNameUserConversion)),
		bearertoken.New(tokens),
		websocket.NewProtocolAuthenticator(tokens),
	)
	return requestunion.NewFailOnError(group.NewAuthenticatedGroupAdder(known), anonymous.NewAuthenticator(nil))
}

// TokenAuthenticator judges bearer tokens; tokenreviews uses it too. Nothing is cached, so that a deleted pod's token ends
// at once; a judgement costs one signature check and look-ups in memory.
func (a *Auth) TokenAuthenticator() authenticator.Token {
	return tokenunion.New(a.Validator,
		authenticator.WrapAudienceAgnosticToken(a.Audiences(), authenticator.TokenFunc(a.authenticateBootstrap)))
}

// authenticateBootstrap knows tokens of the form ID.SECRET.
func (a *Auth) authenticateBootstrap(ctx context.Context, text string) (*authenticator.Response, bool, error) {
	token, ok := bootstrap.Parse(text)
	if !ok {
		return nil, false, nil
	}
	groups, err := a.Tokens.Check(ctx, token, a.config.Now())
	if errors.Is(err, bootstrap.ErrInvalid) {
		a.config.Log.Info("refused bootstrap token", "id", token.ID, "err", err)
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: &user.DefaultInfo{
		Name:   bootstrap.UserPrefix + token.ID,
		Groups: append([]string{bootstrap.DefaultGroup}, groups...),
	}}, true, nil
}

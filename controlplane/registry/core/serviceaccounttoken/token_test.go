package serviceaccounttoken

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/ptr"

	"coracle/controlplane/auth/serviceaccount"
)

// shelf is a rest.Getter over one map; it words NotFound by the request in the context, as storage does.
type shelf map[string]runtime.Object

func (s shelf) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	if o, ok := s[request.NamespaceValue(ctx)+"/"+name]; ok {
		return o, nil
	}
	info, _ := request.RequestInfoFrom(ctx)
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: info.Resource}, name)
}

const issuerName = "https://kubernetes.default.svc.cluster.local"

var day = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestCreate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := serviceaccount.NewKeys([]crypto.Signer{key})
	if err != nil {
		t.Fatal(err)
	}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "uid"}
	}
	world := world{
		accounts: shelf{"ns/robot": &corev1.ServiceAccount{ObjectMeta: meta("robot")}},
		pods: shelf{
			"ns/web":   &corev1.Pod{ObjectMeta: meta("web"), Spec: corev1.PodSpec{ServiceAccountName: "robot", NodeName: "n1"}},
			"ns/other": &corev1.Pod{ObjectMeta: meta("other"), Spec: corev1.PodSpec{ServiceAccountName: "default"}},
		},
		secrets: shelf{"ns/key": &corev1.Secret{ObjectMeta: meta("key")}},
		nodes:   shelf{"/n1": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "uid"}}},
	}
	tokens, ok := New(Config{Accounts: world.accounts, Pods: world.pods, Secrets: world.secrets, Nodes: world.nodes,
		Issuer: &serviceaccount.Issuer{Name: issuerName, Keys: keys}, Audiences: authenticator.Audiences{issuerName}, Now: func() time.Time { return day }}).(rest.NamedCreater)
	if !ok {
		t.Fatal("tokens cannot be created")
	}
	validator := &serviceaccount.Validator{Issuer: issuerName, Keys: keys, Objects: world, Audiences: authenticator.Audiences{issuerName}, Now: func() time.Time { return day }}
	bound := func(kind, name, uid string) func(*authenticationv1.TokenRequest) {
		return func(r *authenticationv1.TokenRequest) {
			r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name}
			r.Spec.BoundObjectRef.UID = "uid"
			if uid != "" {
				r.Spec.BoundObjectRef.UID = "else"
			}
		}
	}
	for name, c := range map[string]struct {
		account string
		change  func(*authenticationv1.TokenRequest)
		bad     string
		extra   string // a key of the user's extra
	}{
		"plain":              {},
		"no such account":    {account: "nobody", bad: `serviceaccounts "nobody" not found`},
		"pod":                {change: bound("Pod", "web", ""), extra: "authentication.kubernetes.io/pod-name"},
		"pod's node":         {change: bound("Pod", "web", ""), extra: "authentication.kubernetes.io/node-uid"},
		"no such pod":        {change: bound("Pod", "x", ""), bad: `pods "x" not found`},
		"pod of another":     {change: bound("Pod", "other", ""), bad: "different serviceaccount name"},
		"pod of another uid": {change: bound("Pod", "web", "else"), bad: "does not match the UID in record"},
		"secret":             {change: bound("Secret", "key", "")},
		"node":               {change: bound("Node", "n1", ""), extra: "authentication.kubernetes.io/node-name"},
		"no such node":       {change: bound("Node", "n2", ""), bad: `nodes "n2" not found`},
		"a kind of no use":   {change: bound("ConfigMap", "x", ""), bad: "cannot bind token to object of type"},
		"another name":       {change: func(r *authenticationv1.TokenRequest) { r.Name = "else" }, bad: "does not match"},
		"another namespace":  {change: func(r *authenticationv1.TokenRequest) { r.Namespace = "else" }, bad: "does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](3600)}}
			if c.change != nil {
				c.change(r)
			}
			account := "robot"
			if c.account != "" {
				account = c.account
			}
			ctx := request.WithRequestInfo(request.WithNamespace(t.Context(), "ns"), &request.RequestInfo{Resource: "serviceaccounts"})
			out, err := tokens.Create(ctx, account, r, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
			if c.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c.bad) {
					t.Fatalf("got %v, want it to say %q", err, c.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			status := out.(*authenticationv1.TokenRequest).Status
			if !status.ExpirationTimestamp.Time.Equal(day.Add(time.Hour)) {
				t.Errorf("expires %s", status.ExpirationTimestamp)
			}
			response, ok, err := validator.AuthenticateToken(t.Context(), status.Token)
			if err != nil || !ok || response.User.GetName() != "system:serviceaccount:ns:robot" {
				t.Fatalf("%+v, %v, %v", response, ok, err)
			}
			if c.extra != "" && len(response.User.GetExtra()[c.extra]) == 0 {
				t.Errorf("extra %v lacks %s", response.User.GetExtra(), c.extra)
			}
		})
	}
}

// world is the shelves as the validator looks at them.
type world struct{ accounts, pods, secrets, nodes shelf }

func read[T runtime.Object](ctx context.Context, s shelf, namespace, name string) (T, error) {
	var none T
	ctx = request.WithRequestInfo(request.WithNamespace(ctx, namespace), &request.RequestInfo{})
	o, err := s.Get(ctx, name, nil)
	if err != nil {
		return none, err
	}
	typed, ok := o.(T)
	if !ok {
		return none, apierrors.NewBadRequest("wrong shelf")
	}
	return typed, nil
}

func (w world) ServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return read[*corev1.ServiceAccount](ctx, w.accounts, namespace, name)
}

func (w world) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return read[*corev1.Pod](ctx, w.pods, namespace, name)
}

func (w world) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return read[*corev1.Secret](ctx, w.secrets, namespace, name)
}

func (w world) Node(ctx context.Context, name string) (*corev1.Node, error) {
	return read[*corev1.Node](ctx, w.nodes, "", name)
}

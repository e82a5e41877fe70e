package bootstrap

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestCheck(t *testing.T) {
	token := Token{ID: "abcdef", Secret: "0123456789abcdef"}
	set := func(key, value string) func(*corev1.Secret) {
		return func(s *corev1.Secret) { s.Data[key] = []byte(value) }
	}
	for name, c := range map[string]struct {
		change func(*corev1.Secret)
		groups []string
		bad    string
	}{
		"good":               {change: func(*corev1.Secret) {}},
		"groups":             {change: set(keyGroups, "system:bootstrappers:b,system:bootstrappers:a"), groups: []string{"system:bootstrappers:a", "system:bootstrappers:b"}},
		"for ever":           {change: func(s *corev1.Secret) { delete(s.Data, keyExpiration) }},
		"expires now":        {change: set(keyExpiration, now.Format(time.RFC3339)), bad: "expired"},
		"expired":            {change: set(keyExpiration, "2020-01-01T00:00:00Z"), bad: "expired"},
		"no time":            {change: set(keyExpiration, "soon"), bad: "not a time"},
		"other secret":       {change: set(keySecret, "ffffffffffffffff"), bad: "secret part"},
		"empty secret":       {change: set(keySecret, ""), bad: "secret part"},
		"other id":           {change: set(keyID, "zzzzzz"), bad: "token-id differs"},
		"not for this":       {change: set(keyAuth, "false"), bad: "not for authentication"},
		"group of the admin": {change: set(keyGroups, "system:masters"), bad: "does not match"},
		"other type":         {change: func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, bad: "type"},
		"being deleted":      {change: func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: now} }, bad: "deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Secret(token, now.Add(time.Hour), "test")
			c.change(s)
			groups, err := Check(s, token, now)
			if c.bad == "" {
				if err != nil || !slices.Equal(groups, c.groups) {
					t.Fatalf("groups %q, %v; want %q", groups, err, c.groups)
				}
				return
			}
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.bad) {
				t.Fatalf("got %v, want ErrInvalid that says %q", err, c.bad)
			}
			if strings.Contains(err.Error(), token.Secret) {
				t.Fatal("the error tells the secret")
			}
		})
	}
}

func TestStore(t *testing.T) {
	ctx := context.Background()
	store := Store{Client: fake.NewClientset(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "other"}, Type: corev1.SecretTypeOpaque,
	})}
	later, err := store.Create(ctx, 2*time.Hour, "later", now)
	if err != nil {
		t.Fatal(err)
	}
	sooner, err := store.Create(ctx, time.Hour, "", now)
	if err != nil {
		t.Fatal(err)
	}
	forever, err := store.Create(ctx, 0, "", now)
	if err != nil {
		t.Fatal(err)
	}
	infos, err := store.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, info := range infos {
		ids = append(ids, info.ID)
	}
	if want := []string{sooner.ID, later.ID, forever.ID}; !slices.Equal(ids, want) {
		t.Fatalf("listed %q, want %q", ids, want)
	}
	if _, err := store.Check(ctx, later, now); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(ctx, later.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Check(ctx, later, now); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a deleted token: %v", err)
	}
	if err := store.Delete(ctx, later.ID); err == nil || !strings.Contains(err.Error(), later.ID) {
		t.Fatalf("deleting it again: %v", err)
	}
}

func TestParseID(t *testing.T) {
	for text, want := range map[string]string{"abcdef": "abcdef", "abcdef.0123456789abcdef": "abcdef", "": "", "ABCDEF": "", "abcdef.": ""} {
		if got, err := ParseID(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("abcdef.0123456789abcdef")
	f.Add("abcdef.0123456789abcde")
	f.Fuzz(func(t *testing.T, text string) {
		if token, ok := Parse(text); ok && (token.Text() != text || len(token.ID) != idLength || len(token.Secret) != secretLength) {
			t.Fatalf("%q became %+v", text, token)
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("2026-11-22T00:00:00Z", "system:bootstrappers:x", "true")
	f.Fuzz(func(t *testing.T, expiration, groups, auth string) {
		token := Token{ID: "abcdef", Secret: "0123456789abcdef"}
		s := Secret(token, time.Time{}, "")
		s.Data[keyExpiration], s.Data[keyGroups], s.Data[keyAuth] = []byte(expiration), []byte(groups), []byte(auth)
		extra, err := Check(s, token, now)
		if err != nil {
			return
		}
		for _, group := range extra {
			if !strings.HasPrefix(group, DefaultGroup+":") {
				t.Fatalf("group %q", group)
			}
		}
		if auth != "true" {
			t.Fatalf("opened with %q", auth)
		}
	})
}

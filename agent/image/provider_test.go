package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"coracle/internal/fault"
)

const oneProvider = `apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: helper
  matchImages: ["*.example.org", "registry.example:5000/team"]
  defaultCacheDuration: 10m
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get]
  env: [{name: WHO, value: me}]
`

// newProviders has one program, a shell script.
func newProviders(t *testing.T, script string) *Providers {
	t.Helper()
	dir := t.TempDir()
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{"config.yaml": {oneProvider, 0o600}, "helper": {"#!/bin/sh\ncd " + dir + "\n" + script, 0o700}} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	p, err := LoadProviders(filepath.Join(dir, "config.yaml"), dir, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// answering is a script that gives itself away in the files runs and request, to be given a scope and a line of JSON.
const answering = `echo run >>runs
cat >request
cat <<END
{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"%s",%s
 "auth":{"*.example.org":{"username":"$WHO","password":"$1"},"other.example":{"username":"x","password":"y"}}}
END
`

func (p *Providers) runs(t *testing.T) int {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(p.list[0].program), "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(data), "run")
}

func TestProviders(t *testing.T) {
	const first, sibling, far = "a.example.org/team/app:1", "a.example.org/team/lib:2", "b.example.org/x:1"
	tests := []struct {
		scope, duration string
		names           []string
		runs            int
	}{
		{"Image", "", []string{first, first, "a.example.org/team/app@sha256:" + strings.Repeat("0", 64)}, 1},
		{"Image", "", []string{first, sibling}, 2},
		{"Registry", "", []string{first, sibling}, 1},
		{"Registry", "", []string{first, far}, 2},
		{"Global", "", []string{first, sibling, far}, 1},
		{"Global", `"cacheDuration":"0s",`, []string{first, first}, 2},
		{"Image", "", []string{"elsewhere.example/x:1"}, 0},
	}
	for _, test := range tests {
		p := newProviders(t, fmt.Sprintf(answering, test.scope, test.duration))
		for _, name := range test.names {
			got, err := p.credentials(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if test.runs > 0 && (len(got) != 1 || got[0] != Credential{Registry: "*.example.org", Username: "me", Password: "get"}) {
				t.Errorf("%s: %+v", name, got)
			}
		}
		if n := p.runs(t); n != test.runs {
			t.Errorf("%s %s %v: run %d times, want %d", test.scope, test.duration, test.names, n, test.runs)
		}
		if test.runs == 0 || test.scope != "Image" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(filepath.Dir(p.list[0].program), "request"))
		want := `{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"` + repositoryOf(test.names[len(test.names)-1]) + `","kind":"CredentialProviderRequest"}`
		if string(data) != want || err != nil {
			t.Errorf("asked %s, %v; want %s", data, err, want)
		}
	}
}

func TestProviderAnswersExpire(t *testing.T) {
	p := newProviders(t, fmt.Sprintf(answering, "Global", `"cacheDuration":"1h",`))
	now := time.Now()
	p.now = func() time.Time { return now }
	for i, step := range []struct {
		after time.Duration
		runs  int
	}{{0, 1}, {59 * time.Minute, 1}, {2 * time.Minute, 2}} {
		now = now.Add(step.after)
		if _, err := p.credentials(t.Context(), "a.example.org/x:1"); err != nil || p.runs(t) != step.runs {
			t.Errorf("step %d: %v, run %d times, want %d", i, err, p.runs(t), step.runs)
		}
	}
	if len(p.cache) != 1 {
		t.Errorf("the cache keeps %d answers", len(p.cache))
	}
}

// Many that ask at once share one run and its cached answer, also where the first of them gives up.
func TestProvidersAreAskedOnceByMany(t *testing.T) {
	p := newProviders(t, fmt.Sprintf(answering, "Image", ""))
	quit, cancel := context.WithCancel(t.Context())
	cancel()
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		ctx := t.Context()
		if i == 0 {
			ctx = quit
		}
		wg.Go(func() { _, errs[i] = p.credentials(ctx, "a.example.org/x:1") })
	}
	wg.Wait()
	if err := errors.Join(errs[1:]...); err != nil {
		t.Error(err)
	}
	if n := p.runs(t); n != 1 {
		t.Errorf("run %d times", n)
	}
}

func TestProvidersThatFail(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"exit":    {"echo no login here >&2; echo hunter2; exit 3", "exit status 3: no login here"},
		"nothing": {"exit 0", "is not the JSON object"},
		"garbage": {"echo hunter2", "is not the JSON object"},
		"version": {`echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1beta1","cacheKeyType":"Image"}'`, "of credentialprovider.kubelet.k8s.io/v1"},
		"scope":   {`echo '{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"hunter2"}'`, "cacheKeyType"},
		"much":    {"head -c 1100000 /dev/zero", "more than 1048576 bytes"},
		"slow":    {"exec tail -f /dev/null", "gave no answer for a.example.org/x within 300ms"},
	} {
		p := newProviders(t, test.script)
		if name == "slow" {
			p.timeout = 300 * time.Millisecond
		}
		creds, err := p.credentials(t.Context(), "a.example.org/x:1")
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") || creds != nil {
			t.Errorf("%s: %v, %v; want an error with %q", name, creds, err, test.want)
		}
	}
}

func TestParseProviders(t *testing.T) {
	list, err := parseProviders([]byte(oneProvider))
	if err != nil || len(list) != 1 || !reflect.DeepEqual(list[0].Args, []string{"get"}) || list[0].defaultCache() != 10*time.Minute {
		t.Fatalf("%+v, %v", list, err)
	}
	for name, test := range map[string]struct{ from, to, want string }{
		"kind":        {"CredentialProviderConfig", "KubeletConfiguration", "want a CredentialProviderConfig"},
		"version":     {"kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v9", "want a CredentialProviderConfig"},
		"name":        {"name: helper", "name: ../helper", "without slash"},
		"no images":   {`["*.example.org", "registry.example:5000/team"]`, "[]", "at least one pattern"},
		"pattern":     {`"*.example.org"`, `"https://x"`, "scheme"},
		"bad pattern": {`"*.example.org"`, `"[.example.org"`, "matchImages"},
		"no duration": {"  defaultCacheDuration: 10m\n", "", "defaultCacheDuration must be given"},
		"negative":    {"10m", "-1s", "not be negative"},
		"api":         {"credentialprovider.kubelet.k8s.io/v1", "v1", "apiVersion must be one of"},
		"token":       {"  args: [get]\n", "  tokenAttributes: {serviceAccountTokenAudience: x}\n", "tokenAttributes are not supported"},
		"unknown":     {"  args: [get]\n", "  arguments: [get]\n", `unknown field "providers[0].arguments"`},
	} {
		text := strings.Replace(oneProvider, test.from, test.to, 1)
		if _, err := parseProviders([]byte(text)); err == nil || !strings.Contains(err.Error(), test.want) && name != "unknown" {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	twice := oneProvider + strings.SplitAfterN(oneProvider, "providers:\n", 2)[1]
	if _, err := parseProviders([]byte(twice)); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("twice: %v", err)
	}
	dir := t.TempDir()
	if _, err := LoadProviders(dir, dir, slog.New(slog.DiscardHandler)); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(oneProvider), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadProviders(dir, dir, slog.New(slog.DiscardHandler)); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), "there is no program") {
		t.Errorf("without the program: %v", err)
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"kind":"CredentialProviderResponse","apiVersion":"v","cacheKeyType":"Image","cacheDuration":"5m","auth":{"a.example":{"username":"u","password":"p"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAnswer(data, "v")
		if err != nil {
			return
		}
		if a.cache != nil && *a.cache < 0 || cacheKeys("p", "r")[a.scope] == "" {
			t.Errorf("accepted %+v", a)
		}
		for _, c := range matching(a.credentials, "a.example/x") {
			if _, _, err := c.login(); err != nil {
				t.Errorf("an accepted entry cannot log in: %v", err)
			}
		}
	})
}

func FuzzParseProviders(f *testing.F) {
	f.Add([]byte(oneProvider))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseProviders(data)
		if err != nil {
			return
		}
		for _, p := range list {
			if strings.Contains(p.Name, "/") || p.defaultCache() < 0 {
				t.Errorf("accepted %+v", p)
			}
			for _, m := range p.MatchImages {
				_ = matches(m, "a.example/x") // must not panic
			}
		}
	})
}

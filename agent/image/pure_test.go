package image

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"coracle/internal/fault"
)

func TestNormalize(t *testing.T) {
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for ref, want := range map[string]string{
		"nginx":                         "docker.io/library/nginx:latest",
		"nginx:1.2":                     "docker.io/library/nginx:1.2",
		"team/app":                      "docker.io/team/app:latest",
		"index.docker.io/library/nginx": "docker.io/library/nginx:latest",
		"localhost:5000/a/b:c":          "localhost:5000/a/b:c",
		"127.0.0.1:5000/a":              "127.0.0.1:5000/a:latest",
		"quay.io/a/b@" + digest:         "quay.io/a/b@" + digest,
		"quay.io/a/b:tag@" + digest:     "quay.io/a/b@" + digest,
		"registry.k8s.io/pause:3.9":     "registry.k8s.io/pause:3.9",
		"[::1]:5000/a":                  "[::1]:5000/a:latest",
	} {
		if got, err := Normalize(ref); got != want || err != nil {
			t.Errorf("Normalize(%q) = %q, %v; want %q", ref, got, err, want)
		}
	}
	for _, ref := range []string{"", "team/UPPER", "a b", "nginx:", "nginx@sha256:12", strings.Repeat("a", 300), "https://x/y"} {
		_, err := Normalize(ref)
		if !errors.Is(err, fault.ErrInvalid) || ReasonOf(err) != ReasonInvalidName {
			t.Errorf("Normalize(%q): %v", ref, err)
		}
	}
}

func TestDefaultPolicy(t *testing.T) {
	for name, want := range map[string]v1.PullPolicy{
		"docker.io/library/a:latest": v1.PullAlways, "docker.io/library/a:1": v1.PullIfNotPresent, "x/a@sha256:1": v1.PullIfNotPresent,
	} {
		if got := defaultPolicy(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestMatching(t *testing.T) {
	tests := []struct {
		registry, name string
		want           bool
	}{
		{"https://index.docker.io/v1/", "docker.io/library/nginx:latest", true},
		{"docker.io", "docker.io/library/nginx:latest", true},
		{"docker.io/team", "docker.io/library/nginx:latest", false},
		{"quay.io", "quay.io/a/b:c", true},
		{"https://quay.io/v2/", "quay.io/a/b:c", true},
		{"*.quay.io", "quay.io/a/b:c", false},
		{"*.example.org", "registry.example.org/a", true},
		{"*.example.org", "a.b.example.org/a", false},
		{"*.*.example.org", "a.b.example.org/a", true},
		{"prefix.*.org", "prefix.any.org/a", true},
		{"*-good.org", "my-good.org/a", true},
		{"example.org", "example.org:5000/a", false},
		{"example.org:5000", "example.org:5000/a", true},
		{"example.org:5000/team", "example.org:5000/team/a", true},
		{"example.org:5000/team", "example.org:5000/other/a", false},
		{"example.org/team*", "example.org/team1/a", false},
		{"", "example.org/a", false},
		{"exa[mple.org", "example.org/a", false},
	}
	for _, test := range tests {
		if got := matches(test.registry, test.name); got != test.want {
			t.Errorf("%q covers %q: %v, want %v", test.registry, test.name, got, test.want)
		}
	}
	got := matching([]Credential{{Registry: "example.org"}, {Registry: "*.org"}, {Registry: "example.org/team"}, {Registry: "quay.io"}}, "example.org/team/a:b")
	var order []string
	for _, c := range got {
		order = append(order, c.Registry)
	}
	if want := []string{"example.org/team", "example.org", "*.org"}; !reflect.DeepEqual(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestParseDockerConfig(t *testing.T) {
	secret := func(kind v1.SecretType, key, text string) *v1.Secret {
		return &v1.Secret{Type: kind, Data: map[string][]byte{key: []byte(text)}}
	}
	got, err := ParseDockerConfig(secret(v1.SecretTypeDockerConfigJson, ".dockerconfigjson",
		`{"auths":{"b.example":{"auth":"dXNlcjpwYTpzcw=="},"a.example":{"username":"u","password":"p"},"c.example":{"identitytoken":"t"}},"credHelpers":{"x":"y"}}`))
	if err != nil || len(got) != 3 || got[0].Registry != "a.example" {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, want := range [][2]string{{"u", "p"}, {"user", "pa:ss"}, {"", "t"}} {
		user, secret, err := got[i].login()
		if user != want[0] || secret != want[1] || err != nil {
			t.Errorf("login of %s = %q %q %v", got[i].Registry, user, secret, err)
		}
	}
	got, err = ParseDockerConfig(secret(v1.SecretTypeDockercfg, ".dockercfg", `{"a.example":{"auth":"dTpw"}}`))
	if err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []*v1.Secret{
		secret(v1.SecretTypeOpaque, "x", "{}"),
		secret(v1.SecretTypeDockerConfigJson, ".dockerconfigjson", "hunter2"),
		secret(v1.SecretTypeDockerConfigJson, ".dockerconfigjson", `{"auths":{"a":{"auth":"hunter2!!"}}}`),
		secret(v1.SecretTypeDockerConfigJson, ".dockerconfigjson", `{"auths":{"a":{"auth":"aHVudGVyMg=="}}}`),
		secret(v1.SecretTypeDockerConfigJson, "other", `{}`),
	} {
		_, err := ParseDockerConfig(bad)
		if !errors.Is(err, fault.ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParseDockerConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"a.example":{"auth":"dTpw"}}}`), "a.example/x:y")
	f.Add([]byte(`{"auths":{"*.example:5000/p":{"username":"u","password":"p"}}}`), "b.example:5000/p/x")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		for _, nested := range []bool{true, false} {
			creds, err := parseDockerConfig(data, nested)
			if err != nil && !errors.Is(err, fault.ErrInvalid) {
				t.Errorf("class of %v", err)
			}
			for _, c := range matching(creds, name) {
				if _, _, err := c.login(); err != nil {
					t.Errorf("an accepted entry cannot log in: %v", err)
				}
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"config":{"Entrypoint":["/a"]},"rootfs":{"diff_ids":["sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if config, err := parseConfig(data); err == nil {
			for _, id := range config.RootFS.DiffIDs {
				if id.Validate() != nil {
					t.Errorf("accepted layer %q", id)
				}
			}
		}
	})
}

func TestErrorDocument(t *testing.T) {
	for body, want := range map[string]string{
		`{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`: "requested access to the resource is denied",
		`{"errors":[{"code":"TOOMANYREQUESTS"}]}`:                                               "toomanyrequests",
		`<html>`: "", ``: "",
	} {
		if got := errorDocument([]byte(body)); got != want {
			t.Errorf("%s: %q", body, got)
		}
	}
}

var dawn = time.Date(2026, 1, 2, 6, 0, 0, 0, time.UTC)

func TestPlanRemoval(t *testing.T) {
	ago := func(h int) time.Time { return dawn.Add(-time.Duration(h) * time.Hour) }
	images := []Candidate{
		{ID: "new", Size: 30, LastUsed: ago(1)}, {ID: "old", Size: 10, LastUsed: ago(9)}, {ID: "oldest", Size: 50, LastUsed: ago(10), InUse: true},
		{ID: "pinned", Size: 50, LastUsed: ago(10), Pinned: true}, {ID: "fresh", Size: 50, LastUsed: dawn.Add(-time.Minute)},
	}
	thresholds := Thresholds{High: 85, Low: 80, MinAge: 2 * time.Minute}
	tests := []struct {
		available int64
		want      string
		short     int64
	}{{50, "", 0}, {16, "", 0}, {15, "old", 0}, {9, "old new", 0}, {0, "old new", 0}, {-30, "old new", 10}}
	for _, test := range tests {
		remove, short := PlanRemoval(images, Disk{Capacity: 100, Available: test.available}, thresholds, dawn)
		var ids []string
		for _, c := range remove {
			ids = append(ids, c.ID)
		}
		if got := strings.Join(ids, " "); got != test.want || short != test.short {
			t.Errorf("%d available: remove %q, short %d; want %q, %d", test.available, got, short, test.want, test.short)
		}
	}
	if remove, _ := PlanRemoval(images, Disk{}, thresholds, dawn); remove != nil {
		t.Error("removed images of a disk without a size")
	}
	thresholds.MaxAge = 5 * time.Hour
	roomy := Disk{Capacity: 100, Available: 90}
	if remove, short := PlanRemoval(images, roomy, thresholds, dawn); len(remove) != 1 || remove[0].ID != "old" || short != 0 {
		t.Errorf("too old: %+v, %d", remove, short)
	}
	thresholds.MaxAge = 9 * time.Hour
	if remove, _ := PlanRemoval(images, roomy, thresholds, dawn); remove != nil {
		t.Errorf("removed what is just old enough to stay: %+v", remove)
	}
}

// What is in use, pinned or young is never removed; no more is removed than needed; order of input is irrelevant.
func TestPlanRemovalProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var images []Candidate
		for i := range rapid.IntRange(0, 12).Draw(t, "images") {
			images = append(images, Candidate{
				ID: fmt.Sprint(i), Size: rapid.Int64Range(0, 50).Draw(t, "size"),
				LastUsed: dawn.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "age")) * time.Minute),
				InUse:    rapid.Bool().Draw(t, "inUse"), Pinned: rapid.Bool().Draw(t, "pinned"),
			})
		}
		disk := Disk{Capacity: 200, Available: rapid.Int64Range(0, 200).Draw(t, "available")}
		thresholds := Thresholds{High: rapid.IntRange(50, 100).Draw(t, "high"), MinAge: 2 * time.Minute}
		thresholds.Low = rapid.IntRange(10, thresholds.High).Draw(t, "low")
		thresholds.MaxAge = time.Duration(rapid.SampledFrom([]int{0, 0, 3, 9}).Draw(t, "maxAge")) * time.Minute
		remove, short := PlanRemoval(images, disk, thresholds, dawn)
		var freed int64
		for i, c := range remove {
			if c.InUse || c.Pinned || dawn.Sub(c.LastUsed) < thresholds.MinAge {
				t.Fatalf("removed %+v", c)
			}
			if thresholds.MaxAge > 0 && dawn.Sub(c.LastUsed) > thresholds.MaxAge {
				continue // goes anyway
			}
			if i < len(remove)-1 {
				freed += c.Size
			}
		}
		for _, c := range images {
			tooOld := thresholds.MaxAge > 0 && dawn.Sub(c.LastUsed) > thresholds.MaxAge
			if tooOld && !c.InUse && !c.Pinned && !slices.ContainsFunc(remove, func(r Candidate) bool { return r.ID == c.ID }) {
				t.Fatalf("kept %+v", c)
			}
		}
		wanted := disk.Capacity - disk.Available - disk.Capacity*int64(thresholds.Low)/100
		if thresholds.MaxAge == 0 && len(remove) > 0 && freed >= wanted {
			t.Fatalf("removed more than needed: %d of %d before the last", freed, wanted)
		}
		again, shortAgain := PlanRemoval(rapid.Permutation(images).Draw(t, "order"), disk, thresholds, dawn)
		if !reflect.DeepEqual(remove, again) || short != shortAgain {
			t.Fatalf("another order gives another plan:\n%v\n%v", remove, again)
		}
	})
}

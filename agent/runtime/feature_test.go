package runtime

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestKnowsRecursiveReadOnly(t *testing.T) {
	for _, tc := range []struct {
		name, program, features, version string
		want                             bool
	}{
		{"runc 1.1", "runc", `{"ociVersionMin":"1.0.0","mountOptions":["ro","rro","rw"]}`, "", true},
		{"a runtime that lacks it", "runc", `{"mountOptions":["ro","rw"]}`, "", false},
		{"runc 1.0, which has no features", "runc", "", "runc version 1.0.3\ncommit: x\n", false},
		{"crun 1.8, which has no features", "crun", "", "crun version 1.8.1\ncommit: x\n", true},
		{"crun 1.3", "crun", "", "crun version 1.3\n", false},
		{"crun 0.17", "crun", "", "crun version 0.17\n", false},
		{"new crun", "crun", `{"mountOptions":["rro"]}`, "", true},
		{"noise", "crun", "unknown command features", "usage", false},
	} {
		if got := knowsRecursiveReadOnly(tc.program, []byte(tc.features), tc.version); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestUserLabel(t *testing.T) {
	for _, u := range []specs.User{{}, {UID: 1, GID: 2, AdditionalGids: []uint32{2, 7}}} {
		got := parseUser(userLabel(u))
		if got == nil || got.UID != int64(u.UID) || got.GID != int64(u.GID) || len(got.SupplementalGroups) != len(u.AdditionalGids) {
			t.Errorf("%+v became %+v", u, got)
		}
	}
	for _, label := range []string{"", "1", "1:2", "a:b:c", "-1:2:"} {
		if got := parseUser(label); got != nil {
			t.Errorf("%q is %+v", label, got)
		}
	}
}

// Labels are read back from containerd, which other versions of the agent wrote.
func FuzzParseUser(f *testing.F) {
	for _, seed := range []string{"", "1:2:", "0:0:0,1,2", "1:2:3:4", "a:b:c", "-1:0:0", "4294967296:0:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, label string) {
		u := parseUser(label)
		if u == nil {
			return
		}
		if u.UID < 0 || u.GID < 0 || len(u.SupplementalGroups) > len(label) {
			t.Errorf("%q is %+v", label, u)
		}
	})
}

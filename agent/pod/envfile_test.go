package pod

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestParseEnvFile(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		want       map[string]string
		err        string
	}{
		{"empty", "", map[string]string{}, ""},
		{"plain", "# settings\n\n  A='1'\nB = 'two words' # why\nC=''\nA='again'", map[string]string{"A": "again", "B": "two words", "C": ""}, ""},
		{"lines", "A='first\n second # no comment\n'\nB='x'\n", map[string]string{"A": "first\n second # no comment\n", "B": "x"}, ""},
		{"literal", `A='\n $(B) "q" $$'`, map[string]string{"A": `\n $(B) "q" $$`}, ""},
		{"carriage returns", "A='1'\r\nB='2'\r\n", map[string]string{"A": "1", "B": "2"}, ""},
		{"no quotes", "A='1'\nB=2\n", nil, "line 2: the value of B is not in single quotes"},
		{"open", "\nA='1\nB='2'\n'x", nil, "line 2: something follows the value of A"},
		{"never closed", "A='1", nil, "line 1: the value of A has no closing quote"},
		{"no assignment", "just words", nil, "line 1 is neither a comment nor NAME='value'"},
		{"export", "export A='1'", nil, "line 1 is neither"},
	} {
		got, err := parseEnvFile(tc.data)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %s", tc.name, err, tc.err)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", tc.name, err, diff)
		}
	}
}

func TestFileKeyRef(t *testing.T) {
	src := testSources()
	src.EnvFile = func(volume, path string) ([]byte, error) {
		switch volume + " " + path {
		case "/vol/data env":
			return []byte("A='one'\n"), nil
		case "/vol/data bad":
			return []byte("A=one"), nil
		case "/vol/data out":
			return nil, errors.New("out leads out of the volume")
		}
		return nil, fs.ErrNotExist
	}
	for _, tc := range []struct {
		ref  v1.FileKeySelector
		want string
		ok   bool
		err  string
	}{
		{v1.FileKeySelector{VolumeName: "data", Path: "env", Key: "A"}, "one", true, ""},
		{v1.FileKeySelector{VolumeName: "data", Path: "env", Key: "B"}, "", false, `couldn't find environment variable key "B" of file "env" in volume "data"`},
		{v1.FileKeySelector{VolumeName: "data", Path: "env", Key: "B", Optional: ptr.To(true)}, "", false, ""},
		{v1.FileKeySelector{VolumeName: "data", Path: "gone", Key: "A"}, "", false, "file does not exist"},
		{v1.FileKeySelector{VolumeName: "data", Path: "gone", Key: "A", Optional: ptr.To(true)}, "", false, ""},
		{v1.FileKeySelector{VolumeName: "data", Path: "bad", Key: "A", Optional: ptr.To(true)}, "", false, "not in single quotes"},
		{v1.FileKeySelector{VolumeName: "data", Path: "out", Key: "A", Optional: ptr.To(true)}, "", false, "leads out of the volume"},
		{v1.FileKeySelector{VolumeName: "lost", Path: "env", Key: "A"}, "", false, "does not mount that volume"},
	} {
		p := newPod(container("web"))
		value, ok, err := valueFrom(p, &p.Spec.Containers[0], &v1.EnvVarSource{FileKeyRef: &tc.ref}, src)
		var config *ConfigError
		switch {
		case value != tc.want, ok != tc.ok, (err == nil) != (tc.err == ""):
			t.Errorf("%+v: %q, %v, %v", tc.ref, value, ok, err)
		case err != nil && (!errors.As(err, &config) || !strings.Contains(err.Error(), tc.err)):
			t.Errorf("%+v: %v, want %s", tc.ref, err, tc.err)
		}
	}
}

func FuzzParseEnvFile(f *testing.F) {
	for _, seed := range []string{"", "A='1'", "#\n = '", "A='\n'\nB=''#", "\r\n\t"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		all, err := parseEnvFile(data)
		for name, value := range all {
			if err != nil || name == "" || strings.ContainsAny(name, "\n=' \t") || strings.Contains(value, "'") || !strings.Contains(data, value) {
				t.Errorf("%q gave %q=%q, %v", data, name, value, err)
			}
		}
	})
}

package device

import (
	"reflect"
	"testing"
)

func FuzzRecord(f *testing.F) {
	seed := record{Containers: map[string]map[string]grant{"main": {"example.com/dev": {
		Devices: []string{"a"}, Env: map[string]string{"K": "v"}, Mounts: []mount{{Host: "/h", Container: "/c", ReadOnly: true}},
		Nodes: []node{{Host: "/dev/null", Container: "/dev/x", Permissions: "rw"}}, Annotations: map[string]string{"k": "v"},
	}}}}
	raw, err := seed.encode()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range [][]byte{raw, []byte(`{"v":1}`), []byte(`{"v":2,"c":{"main":null},"more":1}`), []byte(`null`), nil, raw[:len(raw)/2]} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decodeRecord(raw)
		if err != nil {
			return
		}
		_ = r.has("example.com/dev")
		r.devices("example.com/dev", map[string]bool{})
		r.clone().put("main", "example.com/dev", grant{})
		again, err := r.encode()
		if err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		back, err := decodeRecord(again)
		if err != nil {
			t.Fatalf("a record that was written cannot be read: %v\n%s", err, again)
		}
		third, err := back.encode()
		if err != nil || !reflect.DeepEqual(again, third) {
			t.Fatalf("read and written again it is another: %v\n%s\n%s", err, again, third)
		}
	})
}

func TestDamagedRecord(t *testing.T) {
	for _, raw := range []string{"", "{", "null", `{"v":0}`, `{"v":1,"c":[]}`} {
		if r, err := decodeRecord([]byte(raw)); err == nil {
			t.Errorf("%q is read as %+v", raw, r)
		}
	}
}

package runtime

import (
	"errors"
	"strings"
	"testing"

	"coracle/internal/fault"
)

func TestHandlers(t *testing.T) {
	r := &Runtime{cfg: Config{RunDir: "/run/x", Handlers: map[string]string{
		"sandboxed": "io.containerd.runsc.v1:/etc/runsc.toml", "micro": "io.containerd.kata.v2", "other": "/usr/local/bin/youki",
	}}}
	for name, want := range map[string]handler{
		"":          {shim: shimRuntime},
		"sandboxed": {shim: "io.containerd.runsc.v1", config: "/etc/runsc.toml"},
		"micro":     {shim: "io.containerd.kata.v2"},
		"other":     {shim: shimRuntime, binary: "/usr/local/bin/youki"},
	} {
		if got, err := r.findHandler(name); err != nil || got != want {
			t.Errorf("handler %q is %+v, %v", name, got, err)
		}
	}
	_, err := r.findHandler("unheard-of")
	if !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), `no runtime for "unheard-of" is configured`) || !strings.Contains(err.Error(), "micro") {
		t.Errorf("an unknown handler: %v", err)
	}
	for name, shim := range map[string]string{"sandboxed": "io.containerd.runsc.v1", "other": shimRuntime} {
		info, err := r.runtimeInfo(name)
		if err != nil || info.Name != shim || info.Options == nil {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	if got := strings.Join(r.Handlers(), " "); !strings.Contains(got, "micro") || !strings.Contains(got, "sandboxed") {
		t.Errorf("handlers: %s", got)
	}
}

func FuzzParseHandler(f *testing.F) {
	f.Add("/usr/bin/x")
	f.Add("io.containerd.runsc.v1:/etc/runsc.toml")
	f.Fuzz(func(t *testing.T, value string) {
		if h := parseHandler(value); h.binary != "" && (h.shim != shimRuntime || h.config != "") {
			t.Errorf("%q gives %+v", value, h)
		}
	})
}

// What a container was given is read back from its label; what is not legible counts as not noted.
func TestResourcesLabel(t *testing.T) {
	for _, label := range []string{"", "{", "[]", `{"requests":{"cpu":"x"}}`} {
		if r := parseResources(label); r != nil {
			t.Errorf("%q gives %v", label, r)
		}
	}
	r := parseResources(`{"requests":{"cpu":"100m"},"limits":{"memory":"1Gi"}}`)
	if r == nil || r.Requests.Cpu().MilliValue() != 100 || r.Limits.Memory().Value() != 1<<30 {
		t.Fatalf("read %v", r)
	}
	if label, err := resourcesLabel(*r); err != nil || label != `{"limits":{"memory":"1Gi"},"requests":{"cpu":"100m"}}` {
		t.Errorf("written %s, %v", label, err)
	}
}

func FuzzParseResources(f *testing.F) {
	f.Add(`{"limits":{"memory":"1Gi"},"requests":{"cpu":"100m"}}`)
	f.Fuzz(func(t *testing.T, label string) {
		r := parseResources(label)
		if r == nil {
			return
		}
		if _, err := resourcesLabel(*r); err != nil {
			t.Errorf("%q cannot be written again: %v", label, err)
		}
	})
}

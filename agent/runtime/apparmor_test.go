package runtime

import (
	"errors"
	"log/slog"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"coracle/internal/fault"
)

func TestAppArmorWithoutAppArmor(t *testing.T) {
	r := &Runtime{log: slog.New(slog.DiscardHandler)}
	profile := func(kind v1.AppArmorProfileType) *v1.AppArmorProfile {
		return &v1.AppArmorProfile{Type: kind, LocalhostProfile: ptr.To("x")}
	}
	for _, tc := range []struct {
		name    string
		sc      v1.SecurityContext
		invalid bool
	}{
		{"nothing asked for", v1.SecurityContext{}, false},
		{"unconfined", v1.SecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeUnconfined)}, false},
		{"privileged", v1.SecurityContext{Privileged: ptr.To(true), AppArmorProfile: profile(v1.AppArmorProfileTypeRuntimeDefault)}, false},
		{"default", v1.SecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeRuntimeDefault)}, true},
		{"localhost", v1.SecurityContext{AppArmorProfile: profile(v1.AppArmorProfileTypeLocalhost)}, true},
	} {
		got, err := r.appArmorFor(t.Context(), &tc.sc)
		if got != "" || errors.Is(err, fault.ErrInvalid) != tc.invalid || (err != nil) != tc.invalid {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
}

func TestListsProfile(t *testing.T) {
	list := []byte("/usr/sbin/x (enforce)\ncri-containerd.apparmor.d (enforce)\nwith (brackets) (complain)\n")
	for name, want := range map[string]bool{"cri-containerd.apparmor.d": true, "cri-containerd": false, "": false, "/usr/sbin/x": true, "coracle-default": false} {
		if got := listsProfile(list, name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

package runtime

import (
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	v1 "k8s.io/api/core/v1"
)

func TestPassesOn(t *testing.T) {
	root := func(optional string) *mountinfo.Info { return &mountinfo.Info{Mountpoint: "/", Optional: optional} }
	for _, tc := range []struct {
		name  string
		mode  v1.MountPropagationMode
		infos []*mountinfo.Info
		want  string
	}{
		{"shared root", v1.MountPropagationBidirectional, []*mountinfo.Info{root("shared:1")}, ""},
		{"private root", v1.MountPropagationBidirectional, []*mountinfo.Info{root("")}, `path "/vol/x" is mounted on "/" but it is not a shared mount`},
		{"slave root, both ways", v1.MountPropagationBidirectional, []*mountinfo.Info{root("master:1")}, "not a shared mount"},
		{"slave root, one way", v1.MountPropagationHostToContainer, []*mountinfo.Info{root("master:1")}, ""},
		{"private root, one way", v1.MountPropagationHostToContainer, []*mountinfo.Info{root("unbindable")}, "not a shared or slave mount"},
		{"the nearest counts", v1.MountPropagationHostToContainer, []*mountinfo.Info{root("shared:1"), {Mountpoint: "/vol"}}, `is mounted on "/vol"`},
		{"the last of two counts", v1.MountPropagationHostToContainer, []*mountinfo.Info{root(""), root("shared:1 master:2")}, ""},
		{"none", v1.MountPropagationHostToContainer, nil, `no mount holds "/vol/x"`},
	} {
		err := passesOn(tc.mode, "/vol/x", tc.infos)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

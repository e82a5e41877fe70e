package pod

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestMountStatuses(t *testing.T) {
	mounts := []v1.VolumeMount{
		{Name: "w", MountPath: "/w"},
		{Name: "r", MountPath: "/r", ReadOnly: true},
		{Name: "e", MountPath: "/e", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyEnabled)},
		{Name: "p", MountPath: "/p", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyIfPossible)},
	}
	for possible, ifPossible := range map[bool]v1.RecursiveReadOnlyMode{true: v1.RecursiveReadOnlyEnabled, false: v1.RecursiveReadOnlyDisabled} {
		want := []v1.VolumeMountStatus{
			{Name: "w", MountPath: "/w"},
			{Name: "r", MountPath: "/r", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyDisabled)},
			{Name: "e", MountPath: "/e", ReadOnly: true, RecursiveReadOnly: ptr.To(v1.RecursiveReadOnlyEnabled)},
			{Name: "p", MountPath: "/p", ReadOnly: true, RecursiveReadOnly: &ifPossible},
		}
		if diff := cmp.Diff(want, mountStatuses(mounts, possible)); diff != "" {
			t.Errorf("possible=%v (-want +got):\n%s", possible, diff)
		}
	}
}

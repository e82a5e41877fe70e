package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

func TestOverStorage(t *testing.T) {
	limited := func(name, limit string) v1.Container {
		c := container(name)
		if limit != "" {
			c.Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(limit)}
		}
		return c
	}
	dir := func(name string, limit string, medium v1.StorageMedium) v1.Volume {
		e := &v1.EmptyDirVolumeSource{Medium: medium}
		if limit != "" {
			e.SizeLimit = ptr.To(resource.MustParse(limit))
		}
		return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: e}}
	}
	const mi = 1 << 20
	for name, test := range map[string]struct {
		containers []v1.Container
		volumes    []v1.Volume
		use        StorageUse
		measured   bool
		want       string
	}{
		"nothing limited": {[]v1.Container{limited("a", "")}, []v1.Volume{dir("d", "", "")}, StorageUse{Containers: map[string]int64{"a": 900 * mi}}, false, ""},
		"within": {[]v1.Container{limited("a", "10Mi")}, []v1.Volume{dir("d", "5Mi", "")},
			StorageUse{map[string]int64{"a": 6 * mi}, map[string]int64{"d": 4 * mi}}, true, ""},
		"container": {[]v1.Container{limited("a", "10Mi"), limited("b", "20Mi")}, nil,
			StorageUse{Containers: map[string]int64{"a": 11 * mi, "b": mi}}, true, `Container a exceeded its local ephemeral storage limit "10Mi". `},
		"volume": {[]v1.Container{limited("a", "")}, []v1.Volume{dir("d", "5Mi", "")},
			StorageUse{EmptyDirs: map[string]int64{"d": 6 * mi}}, true, `Usage of EmptyDir volume "d" exceeds the limit "5Mi". `},
		"all together": {[]v1.Container{limited("a", "10Mi"), limited("b", "10Mi")}, []v1.Volume{dir("d", "", "")},
			StorageUse{map[string]int64{"a": 8 * mi, "b": 8 * mi}, map[string]int64{"d": 5 * mi}}, true,
			"Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. "},
		"memory is no disk": {[]v1.Container{limited("a", "")}, []v1.Volume{dir("d", "5Mi", v1.StorageMediumMemory)},
			StorageUse{EmptyDirs: map[string]int64{"d": 6 * mi}}, false, ""},
	} {
		p := newPod(test.containers...)
		p.Spec.Volumes = test.volumes
		if got := LimitsStorage(p); got != test.measured {
			t.Errorf("%s: measured %v", name, got)
		}
		got := OverStorage(p, test.use)
		if (got == nil) != (test.want == "") || got != nil && (got.Message != test.want || got.Reason != "Evicted" || got.Disruption == "") {
			t.Errorf("%s: %+v, want %q", name, got, test.want)
		}
	}
}

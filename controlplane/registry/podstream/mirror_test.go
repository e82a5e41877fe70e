package podstream

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	nodev1 "coracle/proto/node/v1"
)

func TestMirrorPodsAreAskedForByTheirUIDOnTheNode(t *testing.T) {
	own, mirror := testPod("own", "n1", "c"), testPod("mirror", "n1", "c")
	mirror.Annotations = map[string]string{v1.MirrorPodAnnotationKey: "uid-on-node"}
	requests := map[string]func() *nodev1.StreamRequest{
		"exec": func() *nodev1.StreamRequest {
			return &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Exec{Exec: &nodev1.Exec{PodUid: "uid-1"}}}
		},
		"attach": func() *nodev1.StreamRequest {
			return &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Attach{Attach: &nodev1.Attach{PodUid: "uid-1"}}}
		},
		"logs": func() *nodev1.StreamRequest {
			return &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Logs{Logs: &nodev1.Logs{PodUid: "uid-1"}}}
		},
		"dial": func() *nodev1.StreamRequest {
			return &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Dial{Dial: &nodev1.Dial{PodUid: "uid-1"}}}
		},
	}
	uid := func(r *nodev1.StreamRequest) string {
		return r.GetExec().GetPodUid() + r.GetAttach().GetPodUid() + r.GetLogs().GetPodUid() + r.GetDial().GetPodUid()
	}
	for name, request := range requests {
		if got := about(own, request()); uid(got) != "uid-1" || got.GetPodName() != "" {
			t.Errorf("%s of a pod: %v", name, got)
		}
		if got := about(mirror, request()); uid(got) != "uid-on-node" || got.GetPodName() != "mirror" || got.GetPodNamespace() != "default" {
			t.Errorf("%s of a mirror pod: %v", name, got)
		}
	}
}

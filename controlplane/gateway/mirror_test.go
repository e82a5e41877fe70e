package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// filePod is a pod that a node runs from a file.
func filePod(name, hash, node string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: "on-the-node", Annotations: map[string]string{
			hashAnnotation: hash, "kubernetes.io/config.source": "file",
		}},
		Spec: v1.PodSpec{NodeName: node, Containers: []v1.Container{{Name: "c", Image: "i"}}},
	}
}

func TestMirrorPods(t *testing.T) {
	c := newCluster(t)
	n := c.node("edge-1")
	mirrored := func(name, hash string) func() error {
		return func() error {
			p := c.pod(name)
			switch {
			case p == nil && hash == "":
				return nil
			case p == nil:
				return errors.New("there is no mirror pod")
			case p.Annotations[v1.MirrorPodAnnotationKey] != hash:
				return fmt.Errorf("it mirrors %q", p.Annotations[v1.MirrorPodAnnotationKey])
			case p.UID == "on-the-node" || p.Spec.NodeName != "edge-1" || len(p.OwnerReferences) != 1 || p.OwnerReferences[0].Kind != "Node":
				return fmt.Errorf("not as a mirror should be: %+v", p)
			}
			return nil
		}
	}
	n.outbox.SetMirrors([]*v1.Pod{filePod("web-edge-1", "h1", "edge-1"), filePod("db-edge-1", "d1", "edge-1"), filePod("foreign", "f", "edge-2")})
	eventually(t, "mirror pods", mirrored("web-edge-1", "h1"))
	eventually(t, "mirror pods", mirrored("db-edge-1", "d1"))
	if c.pod("foreign") != nil {
		t.Error("a node has made a pod for another node")
	}
	eventually(t, "the acknowledgement", func() error {
		if msgs, _ := n.outbox.Pending(0); len(msgs) > 0 {
			return fmt.Errorf("%d messages pending, first %s", len(msgs), msgs[0])
		}
		return nil
	})

	// The user deletes one: the node runs it still, so it is shown again.
	if err := c.api.CoreV1().Pods("default").Delete(context.Background(), "web-edge-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the mirror pod again", mirrored("web-edge-1", "h1"))

	// A file changes, another goes.
	n.outbox.SetMirrors([]*v1.Pod{filePod("web-edge-1", "h2", "edge-1")})
	eventually(t, "the changed mirror pod", mirrored("web-edge-1", "h2"))
	eventually(t, "the end of the other", mirrored("db-edge-1", ""))

	// While the node was away its file went: the new session says so.
	n.outbox.SetMirrors(nil)
	n.restart()
	n.outbox.SetMirrors(nil)
	eventually(t, "the end of the last", mirrored("web-edge-1", ""))
}

// TestMirrorOf: a node may show what it runs and nothing that would give it more than it has.
func TestMirrorOf(t *testing.T) {
	for name, change := range map[string]func(*v1.Pod){
		"no annotation":   func(p *v1.Pod) { delete(p.Annotations, hashAnnotation) },
		"names the node":  func(p *v1.Pod) { p.Spec.NodeName = "edge-2" },
		"service account": func(p *v1.Pod) { p.Spec.ServiceAccountName = "admin" },
		"secret":          func(p *v1.Pod) { p.Spec.ImagePullSecrets = []v1.LocalObjectReference{{Name: "s"}} },
		"claim": func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
		},
		"projected token": func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{Sources: []v1.VolumeProjection{{ServiceAccountToken: &v1.ServiceAccountTokenProjection{}}}}}}}
		},
		"configMap volume": func(p *v1.Pod) {
			p.Spec.Volumes = []v1.Volume{{VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "m"}}}}}
		},
		"claim of a device": func(p *v1.Pod) { p.Spec.ResourceClaims = []v1.PodResourceClaim{{Name: "gpu"}} },
	} {
		p := filePod("web", "h", "edge-1")
		change(p)
		if m, err := mirrorOf(p, "edge-1"); err == nil {
			t.Errorf("%s: allowed: %+v", name, m)
		}
	}
	m, err := mirrorOf(filePod("web", "h", "edge-1"), "edge-1")
	if err != nil || m.UID != "" || m.Annotations[v1.MirrorPodAnnotationKey] != "h" || !strings.HasPrefix(m.Name, "web") {
		t.Errorf("%+v %v", m, err)
	}
}

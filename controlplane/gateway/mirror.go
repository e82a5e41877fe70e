package gateway

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	nodev1 "coracle/proto/node/v1"
)

// A mirror pod shows in the API a pod that a node runs from a file of its own. The annotations are
// Kubernetes'; hashAnnotation is the pod's uid on its node, and the mirror annotation has the same value.
const hashAnnotation = "kubernetes.io/config.hash"

// mirrorWorkers write the mirror pods of as many nodes at the same time.
const mirrorWorkers = 4

// mirrorReport is all that a node runs from its own files.
type mirrorReport struct {
	from     *session
	sequence uint64
	pods     []*v1.Pod
}

func (g *Gateway) takeMirrors(s *session, m *nodev1.MirrorPods) {
	r := mirrorReport{from: s, sequence: m.GetSequence()}
	for _, data := range m.GetPods() {
		pod := &v1.Pod{}
		if err := pod.Unmarshal(data); err != nil {
			g.c.Log.Warn("pod from a node's file unreadable", "node", s.node, "err", err)
			continue
		}
		mirror, err := mirrorOf(pod, s.node)
		if err != nil {
			g.c.Log.Warn("pod from a node's file is not mirrored", "node", s.node, "pod", pod.Namespace+"/"+pod.Name, "err", err)
			continue
		}
		r.pods = append(r.pods, mirror)
	}
	g.mirrors.put(s.node, r)
}

// mirrorOf is the mirror pod for one that a node says it runs. A node may show what it runs and
// nothing else: no other node's pod, and nothing that would give it what is not its own.
func mirrorOf(pod *v1.Pod, node string) (*v1.Pod, error) {
	hash := pod.Annotations[hashAnnotation]
	switch {
	case hash == "":
		return nil, fmt.Errorf("it has no annotation %s", hashAnnotation)
	case pod.Spec.NodeName != node:
		return nil, fmt.Errorf("it names the node %q", pod.Spec.NodeName)
	case len(references(pod)) > 0, pod.Spec.ServiceAccountName != "", len(pod.Spec.ResourceClaims) > 0:
		return nil, errors.New("it refers to objects of the API, which pods from a node's files may not")
	}
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil || projectsToken(v.Projected) {
			return nil, errors.New("it refers to objects of the API, which pods from a node's files may not")
		}
	}
	mirror := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, Labels: pod.Labels, Annotations: map[string]string{}},
		Spec:       pod.Spec,
	}
	for k, val := range pod.Annotations {
		mirror.Annotations[k] = val
	}
	mirror.Annotations[v1.MirrorPodAnnotationKey] = hash
	return mirror, nil
}

func projectsToken(p *v1.ProjectedVolumeSource) bool {
	if p == nil {
		return false
	}
	for _, s := range p.Sources {
		if s.ServiceAccountToken != nil || s.ClusterTrustBundle != nil || s.PodCertificate != nil {
			return true
		}
	}
	return false
}

// reportMirrors makes a node's mirror pods what the node runs. An error means later again.
func (g *Gateway) reportMirrors(ctx context.Context, node string) error {
	r, ok := g.mirrors.get(node)
	if !ok {
		return nil
	}
	if g.session(node) != r.from {
		g.mirrors.remove(func(k string, v mirrorReport) bool { return k == node && v.from == r.from })
		return nil
	}
	have, err := g.world.pods(node)
	if err != nil {
		return fmt.Errorf("pods of node %s: %w", node, err)
	}
	wanted := map[podRef]string{}
	for _, p := range r.pods {
		wanted[podRef{namespace: p.Namespace, name: p.Name}] = p.Annotations[v1.MirrorPodAnnotationKey]
	}
	present := map[podRef]bool{}
	var errs []error
	for _, p := range have {
		hash, mirror := p.Annotations[v1.MirrorPodAnnotationKey]
		if !mirror {
			continue
		}
		ref := podRef{namespace: p.Namespace, name: p.Name}
		if wanted[ref] == hash && p.DeletionTimestamp == nil {
			present[ref] = true
			continue
		}
		errs = append(errs, g.deleteMirror(ctx, p))
	}
	for _, p := range r.pods {
		if !present[podRef{namespace: p.Namespace, name: p.Name}] {
			errs = append(errs, g.createMirror(ctx, node, p))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.from.ack(nodev1.StatusAck_MIRRORS, "", r.sequence)
	return nil
}

// deleteMirror removes a mirror pod at once: what it shows is not stopped by that.
func (g *Gateway) deleteMirror(ctx context.Context, p *v1.Pod) error {
	err := g.c.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &p.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) && !g.stillThere(ctx, podRef{p.Namespace, p.Name, p.UID}) {
		return nil
	}
	return err
}

func (g *Gateway) createMirror(ctx context.Context, node string, p *v1.Pod) error {
	own, err := g.world.node.Get(node)
	if err != nil {
		return fmt.Errorf("mirror pod %s/%s: %w", p.Namespace, p.Name, err) // the node registers in a moment
	}
	mirror := *p
	mirror.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: kindNode, Name: node, UID: own.UID, Controller: ptr.To(true)}}
	_, err = g.c.Client.CoreV1().Pods(p.Namespace).Create(ctx, &mirror, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		return g.taken(ctx, node, p)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err):
		// The same again would be refused again; a changed file is a new report.
		g.c.Log.Warn("mirror pod refused", "node", node, "pod", p.Namespace+"/"+p.Name, "err", err)
		return nil
	}
	return err
}

// taken tells a mirror that the informer has not seen yet, which is well, from another pod of that name.
func (g *Gateway) taken(ctx context.Context, node string, p *v1.Pod) error {
	there, err := g.c.Client.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	switch {
	case err != nil:
		return err
	case there.Annotations[v1.MirrorPodAnnotationKey] == p.Annotations[v1.MirrorPodAnnotationKey] && there.Spec.NodeName == node && there.DeletionTimestamp == nil:
		return nil
	}
	return fmt.Errorf("mirror pod %s/%s: another pod (%s) has its name", p.Namespace, p.Name, there.UID)
}

// changedMirror has the node's mirror pods looked at again when one of them comes or goes.
func (g *Gateway) changedMirror(old, pod *v1.Pod) {
	for _, p := range []*v1.Pod{old, pod} {
		if p == nil {
			continue
		}
		if _, mirror := p.Annotations[v1.MirrorPodAnnotationKey]; mirror && (old == nil || pod == nil || pod.DeletionTimestamp != nil) {
			g.mirrors.again(p.Spec.NodeName)
		}
	}
}

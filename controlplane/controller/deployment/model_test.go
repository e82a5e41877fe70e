package deployment

import (
	"fmt"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a cluster in memory: the deployment, its sets and, for each set, how many pods exist and how many of
// them are available. Pods and statuses follow only when the world is moved, as in a real cluster.
type world struct {
	d    *appsv1.Deployment
	sets map[string]*appsv1.ReplicaSet
	pods map[string]*podCount
	now  time.Time
	made int
	log  []string
}

type podCount struct{ exist, available, ending int32 }

func newDeployment(n int32, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "d-uid", Generation: 1},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
			},
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{
					MaxSurge: ptr.To(intstr.FromString("25%")), MaxUnavailable: ptr.To(intstr.FromString("25%")),
				},
			},
			RevisionHistoryLimit: ptr.To(int32(10)), ProgressDeadlineSeconds: ptr.To(int32(600)),
		},
	}
}

func newWorld(d *appsv1.Deployment) *world {
	return &world{d: d, sets: map[string]*appsv1.ReplicaSet{}, pods: map[string]*podCount{}, now: start}
}

func (w *world) names() []string { return slices.Sorted(maps.Keys(w.sets)) }

func (w *world) input() Input {
	in := Input{Deployment: w.d, Now: w.now}
	fresh := ""
	for _, n := range w.names() {
		in.Sets = append(in.Sets, w.sets[n])
	}
	if f := findNew(w.d, slices.SortedFunc(slices.Values(in.Sets), byAge)); f != nil {
		fresh = f.Name
	}
	for n, p := range w.pods {
		if n != fresh && p.exist+p.ending > 0 {
			in.OldPods = true
		}
	}
	return in
}

// plan decides and carries out, and returns the plan.
func (w *world) plan() Plan {
	p := MakePlan(w.input())
	for _, s := range p.Steps {
		w.log = append(w.log, s.String())
		switch {
		case s.Create != nil:
			w.made++
			c := s.Create.DeepCopy()
			c.UID = types.UID(fmt.Sprint("set-", w.made))
			c.CreationTimestamp = metav1.NewTime(start.Add(time.Duration(w.made) * time.Second))
			c.Generation = 1
			w.sets[c.Name], w.pods[c.Name] = c, &podCount{}
		case s.Update != nil:
			u := s.Update.DeepCopy()
			u.Generation++
			w.sets[u.Name] = u
		case s.Delete != nil:
			delete(w.sets, s.Delete.Name)
			delete(w.pods, s.Delete.Name)
		}
	}
	w.d = w.d.DeepCopy()
	w.d.Status = p.Status
	if p.Revision != "" {
		if w.d.Annotations == nil {
			w.d.Annotations = map[string]string{}
		}
		w.d.Annotations[RevisionAnnotation] = p.Revision
	}
	return p
}

// fitPods is what the replica set controller does for one set: as many pods as asked for, those that are not
// available going first. Then its status is written.
func (w *world) fitPods(name string) {
	s, p := w.sets[name], w.pods[name]
	n := size(s)
	if p.exist > n {
		p.ending += p.exist - n
	}
	p.exist = n
	p.available = min(p.available, n)
	w.report(name)
}

// report writes a set's status as its pods are.
func (w *world) report(name string) {
	s := w.sets[name].DeepCopy()
	p := w.pods[name]
	s.Status.Replicas, s.Status.ReadyReplicas, s.Status.AvailableReplicas = p.exist, p.available, p.available
	s.Status.ObservedGeneration = s.Generation
	w.sets[name] = s
}

func (w *world) end(name string) { w.pods[name].ending = 0 }

func (w *world) becomeAvailable(name string, n int32) {
	p := w.pods[name]
	p.available = min(p.exist, p.available+n)
	w.report(name)
}

func (w *world) exist() (n int32) {
	for _, p := range w.pods {
		n += p.exist
	}
	return n
}

func (w *world) available() (n int32) {
	for _, p := range w.pods {
		n += p.available
	}
	return n
}

// kept is how many available pods are left once every set has as many pods as it is asked to have.
func (w *world) kept() (n int32) {
	for name, p := range w.pods {
		n += min(p.available, size(w.sets[name]))
	}
	return n
}

func (w *world) fingerprint() string {
	out := fmt.Sprint(len(w.log))
	for _, n := range w.names() {
		out += fmt.Sprint(" ", n, *w.pods[n])
	}
	return out
}

// settle moves the whole world until nothing changes any more; ok is false if that takes for ever.
func (w *world) settle() (ok bool) {
	for range 500 {
		before := w.fingerprint()
		w.plan()
		w.now = w.now.Add(time.Second)
		for _, n := range w.names() {
			w.fitPods(n)
			w.becomeAvailable(n, 1)
			w.end(n)
		}
		if before == w.fingerprint() && len(MakePlan(w.input()).Steps) == 0 {
			w.plan()
			return true
		}
	}
	return false
}

func (w *world) setImage(image string) {
	w.d = w.d.DeepCopy()
	w.d.Generation++
	w.d.Spec.Template.Spec.Containers[0].Image = image
}

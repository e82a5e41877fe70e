// Package deployment rolls Deployments out: it makes a ReplicaSet for each pod template, moves
// replicas from the old ones to the new one within maxSurge and maxUnavailable, keeps the history
// that kubectl rollout reads and tells of progress in conditions.
//
// plan.go decides; status.go computes the status; controller.go holds the ReplicaSets and executes.
// A plan is computed from the specs and the statuses of the ReplicaSets alone and every write
// carries the resourceVersion it was decided on, so that an old cache leads to a conflict and a new
// plan, never to too many or too few pods.
package deployment

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"coracle/controlplane/controller/owner"
)

// Annotations on the ReplicaSets, the first on the Deployment too. kubectl reads the revisions.
const (
	RevisionAnnotation        = "deployment.kubernetes.io/revision"
	RevisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	DesiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas"
	MaxReplicasAnnotation     = "deployment.kubernetes.io/max-replicas"
)

// notCopied are the deployment's annotations that say nothing about its ReplicaSets.
var notCopied = map[string]bool{
	corev1.LastAppliedConfigAnnotation: true,
	RevisionAnnotation:                 true,
	RevisionHistoryAnnotation:          true,
	DesiredReplicasAnnotation:          true,
	MaxReplicasAnnotation:              true,
	appsv1.DeprecatedRollbackTo:        true,
}

// Input is a deployment, the ReplicaSets it controls and their pods, each in any order.
type Input struct {
	Deployment *appsv1.Deployment
	Sets       []*appsv1.ReplicaSet
	// OldPods is true while pods of other ReplicaSets than the new one run or still end; read for
	// the Recreate strategy only.
	OldPods bool
	Now     time.Time
}

// Step is one write. Exactly one of the pointers is set.
type Step struct {
	Create *appsv1.ReplicaSet // not there yet
	Update *appsv1.ReplicaSet // as it shall be, with the resourceVersion it was read with
	Delete *appsv1.ReplicaSet // with that uid and resourceVersion only
	// Event is said after the step succeeded; empty: none.
	Event string
}

// String reads as a sentence.
func (s Step) String() string {
	switch {
	case s.Create != nil:
		return fmt.Sprintf("create %s with %d replicas, revision %s", s.Create.Name, size(s.Create), s.Create.Annotations[RevisionAnnotation])
	case s.Update != nil:
		return fmt.Sprintf("update %s to %d replicas, revision %s", s.Update.Name, size(s.Update), s.Update.Annotations[RevisionAnnotation])
	}
	return "delete " + s.Delete.Name
}

// Plan is what to do now. Whatever the steps change brings the deployment back for the next plan.
type Plan struct {
	Steps []Step
	// Revision belongs in the deployment's own annotation; empty: leave it.
	Revision string
	Status   appsv1.DeploymentStatus
	WakeAt   time.Time // when to look again by time alone; zero: never
}

// planner is one plan in the making. It works on copies, so that later decisions see earlier ones.
type planner struct {
	Input
	sets   []*appsv1.ReplicaSet // copies, oldest first
	before map[string]*appsv1.ReplicaSet
	fresh  *appsv1.ReplicaSet   // of the present template; nil if there is none
	old    []*appsv1.ReplicaSet // the others
	gone   []*appsv1.ReplicaSet
	reason string // of the Progressing condition where this plan starts a new or known set
	// scaling: this plan only fits the sets to a changed spec.replicas.
	scaling bool
}

// MakePlan decides. It does not change its input.
func MakePlan(in Input) Plan {
	p := &planner{Input: in, before: map[string]*appsv1.ReplicaSet{}}
	for _, s := range in.Sets {
		p.before[s.Name] = s
		p.sets = append(p.sets, s.DeepCopy())
	}
	slices.SortFunc(p.sets, byAge)
	p.fresh = findNew(in.Deployment, p.sets)
	for _, s := range p.sets {
		if s != p.fresh {
			p.old = append(p.old, s)
		}
	}
	if in.Deployment.DeletionTimestamp == nil {
		p.decide()
	}
	out := Plan{Steps: p.steps()}
	if p.fresh != nil {
		out.Revision = p.fresh.Annotations[RevisionAnnotation]
	}
	out.Status, out.WakeAt = p.status()
	return out
}

func (p *planner) decide() {
	p.revise()
	if p.Deployment.Spec.Paused {
		p.scale()
		p.clean()
		return
	}
	switch {
	case p.Deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		p.recreate()
	case p.scaled():
		p.scale()
		p.scaling = true
	default:
		p.roll()
	}
	if complete(p.Deployment, p.counts()) {
		p.clean()
	}
}

// all is the old sets and the new one.
func (p *planner) all() []*appsv1.ReplicaSet {
	if p.fresh == nil {
		return p.old
	}
	return append(slices.Clone(p.old), p.fresh)
}

// revision of the new set: one above every other.
func (p *planner) revision() int64 {
	var highest int64
	for _, s := range p.old {
		if n, ok := number(s.Annotations, RevisionAnnotation); ok {
			highest = max(highest, n)
		}
	}
	return highest + 1
}

// revise keeps the new set's annotations: those copied from the deployment and its place in the
// history. A set that comes back by a rollback gets the newest revision and remembers its former ones.
func (p *planner) revise() {
	s := p.fresh
	if s == nil {
		return
	}
	s.Spec.MinReadySeconds = p.Deployment.Spec.MinReadySeconds
	annotate(s, p.Deployment.Annotations)
	current, ok := number(s.Annotations, RevisionAnnotation)
	if next := p.revision(); !ok || current < next {
		if ok {
			history := strings.FieldsFunc(s.Annotations[RevisionHistoryAnnotation], func(r rune) bool { return r == ',' })
			s.Annotations[RevisionHistoryAnnotation] = strings.Join(append(history, strconv.FormatInt(current, 10)), ",")
		}
		s.Annotations[RevisionAnnotation] = strconv.FormatInt(next, 10)
	}
	if condition(p.Deployment.Status.Conditions, appsv1.DeploymentProgressing) == nil {
		p.reason = reasonFound
	}
}

func annotate(s *appsv1.ReplicaSet, from map[string]string) {
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	for k, v := range from {
		if !notCopied[k] {
			s.Annotations[k] = v
		}
	}
}

// create plans the set for the present template with n replicas.
func (p *planner) create(n int32) {
	d := p.Deployment
	template := d.Spec.Template.DeepCopy()
	hash := Hash(template, d.Status.CollisionCount)
	labels := map[string]string{appsv1.DefaultDeploymentUniqueLabelKey: hash}
	maps.Copy(labels, template.Labels)
	labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	template.Labels = labels
	selector := d.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	s := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name:            d.Name + "-" + hash,
			Namespace:       d.Namespace,
			Labels:          maps.Clone(labels),
			OwnerReferences: []metav1.OwnerReference{owner.Reference(d, kind)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To(int32(0)), MinReadySeconds: d.Spec.MinReadySeconds,
			Selector: selector, Template: *template,
		},
	}
	annotate(s, d.Annotations)
	s.Annotations[RevisionAnnotation] = strconv.FormatInt(p.revision(), 10)
	p.fresh = s
	p.resize(s, n)
	p.reason = reasonCreated
}

// resize gives a set n replicas and notes what the deployment asked for at the time.
func (p *planner) resize(s *appsv1.ReplicaSet, n int32) {
	s.Spec.Replicas = ptr.To(n)
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	want := replicas(p.Deployment)
	s.Annotations[DesiredReplicasAnnotation] = strconv.Itoa(int(want))
	s.Annotations[MaxReplicasAnnotation] = strconv.Itoa(int(want + boundsOf(p.Deployment).surge))
}

// steps compares the copies with what was read. They are safe in any order: each set was decided on
// with the others both as they are and as they will be.
func (p *planner) steps() []Step {
	var steps []Step
	if p.fresh != nil && p.before[p.fresh.Name] == nil {
		steps = append(steps, Step{Create: p.fresh, Event: resized(p.fresh, 0)})
	}
	for _, s := range p.sets {
		if was := p.before[s.Name]; differs(was, s) {
			steps = append(steps, Step{Update: s, Event: resized(s, size(was))})
		}
	}
	for _, s := range p.gone {
		steps = append(steps, Step{Delete: s})
	}
	return steps
}

// resized is what the event says of a set that had so many replicas; empty where it still has.
func resized(s *appsv1.ReplicaSet, was int32) string {
	verb := "up"
	switch n := size(s); {
	case n == was:
		return ""
	case n < was:
		verb = "down"
	}
	return fmt.Sprintf("Scaled %s replica set %s from %d to %d", verb, s.Name, was, size(s))
}

func differs(before, after *appsv1.ReplicaSet) bool {
	return size(before) != size(after) || before.Spec.MinReadySeconds != after.Spec.MinReadySeconds ||
		!maps.Equal(before.Annotations, after.Annotations)
}

// clean drops the oldest sets that hold nothing, beyond the history the user wants to keep.
func (p *planner) clean() {
	if p.Deployment.Spec.RevisionHistoryLimit == nil {
		return
	}
	keep := int(*p.Deployment.Spec.RevisionHistoryLimit)
	idle := slices.DeleteFunc(slices.Clone(p.old), func(s *appsv1.ReplicaSet) bool { return s.DeletionTimestamp != nil })
	slices.SortFunc(idle, func(a, b *appsv1.ReplicaSet) int {
		x, _ := number(a.Annotations, RevisionAnnotation)
		y, _ := number(b.Annotations, RevisionAnnotation)
		return cmp.Or(cmp.Compare(x, y), byAge(a, b))
	})
	for _, s := range idle[:max(0, len(idle)-keep)] {
		if s.Status.Replicas == 0 && size(s) == 0 && s.Generation <= s.Status.ObservedGeneration {
			p.gone = append(p.gone, s)
		}
	}
}

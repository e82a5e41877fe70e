package deployment

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
)

// bounds is how far a rollout may stray from the number asked for: extra pods above it, and pods
// below it that need not be available.
type bounds struct{ surge, unavailable int32 }

// boundsOf resolves percentages: surge rounds up and unavailability down, so that both err on the
// side of more pods. Were both zero nothing could move, so one may then be unavailable.
func boundsOf(d *appsv1.Deployment) bounds {
	rolling := d.Spec.Strategy.RollingUpdate
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || rolling == nil {
		if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
			return bounds{}
		}
		rolling = &appsv1.RollingUpdateDeployment{}
	}
	total := int(replicas(d))
	quarter := intstr.FromString("25%")
	surge, err := intstr.GetScaledValueFromIntOrPercent(cmp.Or(rolling.MaxSurge, &quarter), total, true)
	if err != nil {
		surge = 0
	}
	unavailable, err := intstr.GetScaledValueFromIntOrPercent(cmp.Or(rolling.MaxUnavailable, &quarter), total, false)
	if err != nil {
		unavailable = 0
	}
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return bounds{surge: int32(surge), unavailable: min(int32(unavailable), int32(total))}
}

func replicas(d *appsv1.Deployment) int32 { return ptr.Deref(d.Spec.Replicas, 1) }

func size(s *appsv1.ReplicaSet) int32 { return ptr.Deref(s.Spec.Replicas, 1) }

func total(sets []*appsv1.ReplicaSet) (n int32) {
	for _, s := range sets {
		n += size(s)
	}
	return n
}

// available counts at most what a set is asked to have: its status may be older than its spec.
func available(sets []*appsv1.ReplicaSet) (n int32) {
	for _, s := range sets {
		n += min(s.Status.AvailableReplicas, size(s))
	}
	return n
}

func active(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.DeleteFunc(slices.Clone(sets), func(s *appsv1.ReplicaSet) bool { return size(s) == 0 })
}

// byAge sorts oldest first, the name deciding among those of one second.
func byAge(a, b *appsv1.ReplicaSet) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// sameTemplate compares templates but for the label that the controller itself adds.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	delete(x.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	delete(y.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
	return equality.Semantic.DeepEqual(x, y)
}

// findNew is the set of the deployment's present template, the oldest of several; nil if none.
func findNew(d *appsv1.Deployment, sorted []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, s := range sorted {
		if sameTemplate(&s.Spec.Template, &d.Spec.Template) {
			return s
		}
	}
	return nil
}

// Hash names a template: the value of the pod-template-hash label and the end of the set's name.
// It is taken over the JSON form, in which fields that are not set leave no trace, so it stays
// the same when the API types grow. collisions makes another name where a foreign set has this one.
func Hash(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	raw, err := json.Marshal(template)
	if err != nil {
		raw = []byte(template.String()) // API types always encode; any stable text would do
	}
	h.Write(raw)
	if collisions != nil {
		fmt.Fprintf(h, "#%d", *collisions)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// number reads an annotation that holds one; ok is false where there is none.
func number(annotations map[string]string, name string) (n int64, ok bool) {
	n, err := strconv.ParseInt(annotations[name], 10, 64)
	return n, err == nil
}

// share is how many replicas one of several sets gains or loses when the deployment is scaled in
// the middle of a rollout: in proportion to its size, at most what is left to give.
func share(s *appsv1.ReplicaSet, d *appsv1.Deployment, change, given int32) int32 {
	if size(s) == 0 || change == 0 || change == given {
		return 0
	}
	fraction := -size(s)
	if n := replicas(d); n > 0 {
		before, ok := number(s.Annotations, MaxReplicasAnnotation)
		if !ok || before <= 0 {
			before = int64(max(d.Status.Replicas, size(s)))
		}
		after := float64(size(s)) * float64(n+boundsOf(d).surge) / float64(before)
		fraction = int32(math.Round(after)) - size(s)
	}
	if change > 0 {
		return min(fraction, change-given)
	}
	return max(fraction, change-given)
}

package deployment

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
)

// roll moves replicas to the new set: it grows while the sum of all sets stays within the surge, and the
// old sets shrink while enough pods stay available.
func (p *planner) roll() {
	if p.fresh == nil {
		p.create(p.room(0))
	} else if want := p.room(size(p.fresh)); want != size(p.fresh) {
		p.resize(p.fresh, want)
	}
	p.shrinkOld()
}

// room is the size that the new set may have now, given the size it has.
func (p *planner) room(has int32) int32 {
	want := replicas(p.Deployment)
	if has >= want {
		return want
	}
	used := has
	for _, s := range p.old {
		used += max(size(s), s.Status.Replicas) // pods that are still to be deleted take room too
	}
	free := want + boundsOf(p.Deployment).surge - used
	return has + max(0, min(free, want-has))
}

// shrinkOld takes pods from the old sets, first those that are not available: they serve nobody, and
// a rollout that replaces a broken one must not wait for it.
func (p *planner) shrinkOld() {
	if total(p.old) == 0 {
		return
	}
	least := replicas(p.Deployment) - boundsOf(p.Deployment).unavailable
	pending := size(p.fresh) - min(p.fresh.Status.AvailableReplicas, size(p.fresh))
	budget := total(p.all()) - least - pending
	for _, s := range p.old {
		broken := size(s) - min(s.Status.AvailableReplicas, size(s))
		if s.Generation > s.Status.ObservedGeneration {
			broken = 0 // its status speaks of another size
		}
		if take := min(broken, budget); take > 0 {
			p.resize(s, size(s)-take)
			budget -= take
		}
	}
	spare := min(budget, available(p.all())-least)
	for _, s := range p.old {
		if take := min(size(s), spare); take > 0 {
			p.resize(s, size(s)-take)
			spare -= take
		}
	}
}

// recreate empties the old sets, waits until the last of their pods has ended and only then fills the new.
func (p *planner) recreate() {
	waiting := p.OldPods
	for _, s := range p.old {
		if size(s) > 0 {
			p.resize(s, 0)
			waiting = true
		}
	}
	if waiting {
		return
	}
	if p.fresh == nil {
		p.create(replicas(p.Deployment))
	} else if want := replicas(p.Deployment); size(p.fresh) != want {
		p.resize(p.fresh, want)
	}
}

// scaled is true where the user changed spec.replicas since the sets were last sized.
func (p *planner) scaled() bool {
	for _, s := range active(p.all()) {
		if n, ok := number(s.Annotations, DesiredReplicasAnnotation); ok && n != int64(replicas(p.Deployment)) {
			return true
		}
	}
	return false
}

// scale fits the sets to spec.replicas without moving the rollout on.
func (p *planner) scale() {
	want := replicas(p.Deployment)
	if one := p.only(); one != nil {
		if size(one) != want {
			p.resize(one, want)
		} else if n, ok := number(one.Annotations, DesiredReplicasAnnotation); ok && n != int64(want) {
			p.resize(one, want)
		}
		return
	}
	if p.saturated() {
		for _, s := range active(p.old) {
			p.resize(s, 0)
		}
		return
	}
	if p.Deployment.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		p.spread()
	}
}

// only is the one set that has replicas, or the latest where none has any; nil where several have.
func (p *planner) only() *appsv1.ReplicaSet {
	switch busy := active(p.all()); len(busy) {
	case 0:
		if p.fresh != nil {
			return p.fresh
		}
		if len(p.old) > 0 {
			return p.old[len(p.old)-1]
		}
		return nil
	case 1:
		return busy[0]
	}
	return nil
}

// saturated is true where the new set has all that is asked for, available.
func (p *planner) saturated() bool {
	if p.fresh == nil {
		return false
	}
	n, ok := number(p.fresh.Annotations, DesiredReplicasAnnotation)
	want := replicas(p.Deployment)
	return ok && n == int64(want) && size(p.fresh) == want && p.fresh.Status.AvailableReplicas == want
}

// spread gives each set its share of the change, the largest first; the rounding's rest goes to the first.
func (p *planner) spread() {
	sets := active(p.all())
	if len(sets) == 0 {
		return
	}
	allowed := int32(0)
	if want := replicas(p.Deployment); want > 0 {
		allowed = want + boundsOf(p.Deployment).surge
	}
	change := allowed - total(sets)
	slices.SortFunc(sets, func(a, b *appsv1.ReplicaSet) int {
		if change > 0 {
			return cmp.Or(cmp.Compare(size(b), size(a)), byAge(b, a)) // grow the newer of equals
		}
		return cmp.Or(cmp.Compare(size(b), size(a)), byAge(a, b)) // shrink the older of equals
	})
	var given int32
	sizes := make([]int32, len(sets))
	for i, s := range sets {
		part := share(s, p.Deployment, change, given)
		sizes[i] = size(s) + part
		given += part
	}
	sizes[0] = max(0, sizes[0]+change-given)
	for i, s := range sets {
		p.resize(s, sizes[i])
	}
}

package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// chaosAct is one thing that happens in the chaos test.
type chaosAct struct {
	verb  string // create, delete, force, label, image, resize, debug, deploy, scale, undeploy, static, unstatic, kill, start
	kind  string // of the pod that is made
	name  string // of the pod, the deployment, the static pod or the process
	n     int    // replicas, or a number that makes a change differ from the one before
	pause time.Duration
}

func (a chaosAct) String() string {
	return fmt.Sprintf("%s %s %s %d, then %s", a.verb, a.kind, a.name, a.n, a.pause)
}

// chaosPlan draws acts that make sense one after the other: what is deleted was there, what is started was killed, and while
// the control plane is away nothing asks for it. The sequence is a function of the seed alone.
type chaosPlan struct {
	rng         *rand.Rand
	count       int
	pods        []chaosAct // those there, as they were made
	deployments []string
	statics     []string
	down        map[string]int // killed processes, and after how many acts they are started
}

const (
	chaosPods        = 12
	chaosDeployments = 2
	chaosStatics     = 2
	chaosReplicas    = 3
)

var chaosProcesses = []string{"agent", "containerd", "log-writer", "controlplane"}

func newChaosPlan(seed uint64) *chaosPlan {
	return &chaosPlan{rng: rand.New(rand.NewPCG(seed, 1)), down: map[string]int{}}
}

func (p *chaosPlan) next() chaosAct {
	p.count++
	act := p.draw()
	act.pause = time.Duration(p.rng.IntN(800)) * time.Millisecond
	return act
}

func (p *chaosPlan) draw() chaosAct {
	for _, name := range chaosProcesses {
		if left, ok := p.down[name]; ok && left == 0 {
			delete(p.down, name)
			return chaosAct{verb: "start", name: name}
		} else if ok {
			p.down[name] = left - 1
		}
	}
	for {
		if act, ok := p.try(p.rng.IntN(100)); ok {
			return act
		}
	}
}

// try is the act that a number below 100 stands for, where it makes sense now.
func (p *chaosPlan) try(n int) (chaosAct, bool) {
	switch {
	case n < 18:
		return p.kill()
	case n < 26:
		return p.static()
	}
	if _, away := p.down["controlplane"]; away {
		return chaosAct{}, false
	}
	switch {
	case n < 56:
		if len(p.pods) >= chaosPods {
			return p.remove("delete")
		}
		kind := chaosKinds[p.rng.IntN(len(chaosKinds))].name
		act := chaosAct{verb: "create", kind: kind, name: fmt.Sprintf("%s-%d", kind, p.count)}
		p.pods = append(p.pods, act)
		return act, true
	case n < 70:
		return p.remove("delete")
	case n < 73:
		return p.remove("force")
	case n < 77:
		return p.change("label", func(string) bool { return true })
	case n < 80:
		return p.change("image", func(kind string) bool { return kind == "crash" || kind == "hooked" || kind == "half" })
	case n < 86:
		return p.change("resize", func(kind string) bool { return kind == "limited" })
	case n < 90:
		return p.change("debug", func(kind string) bool { return chaosKindOf(kind).ready() })
	default:
		return p.deployment()
	}
}

func (p *chaosPlan) kill() (chaosAct, bool) {
	// The control plane takes longest to come back: it is killed less often.
	name := chaosProcesses[[]int{0, 0, 0, 1, 1, 2, 2, 3}[p.rng.IntN(8)]]
	if _, away := p.down[name]; away {
		return chaosAct{}, false
	}
	p.down[name] = p.rng.IntN(4)
	return chaosAct{verb: "kill", name: name}, true
}

func (p *chaosPlan) remove(verb string) (chaosAct, bool) {
	if len(p.pods) == 0 {
		return chaosAct{}, false
	}
	i := p.rng.IntN(len(p.pods))
	act := chaosAct{verb: verb, kind: p.pods[i].kind, name: p.pods[i].name}
	p.pods = slices.Delete(p.pods, i, i+1)
	return act, true
}

func (p *chaosPlan) change(verb string, fits func(kind string) bool) (chaosAct, bool) {
	var fitting []chaosAct
	for _, pod := range p.pods {
		if fits(pod.kind) {
			fitting = append(fitting, pod)
		}
	}
	if len(fitting) == 0 {
		return chaosAct{}, false
	}
	pod := fitting[p.rng.IntN(len(fitting))]
	return chaosAct{verb: verb, kind: pod.kind, name: pod.name, n: p.count}, true
}

func (p *chaosPlan) deployment() (chaosAct, bool) {
	replicas, choice := p.rng.IntN(chaosReplicas+1), p.rng.IntN(6)
	switch {
	case len(p.deployments) == 0 || choice == 0 && len(p.deployments) < chaosDeployments:
		name := fmt.Sprintf("deploy-%d", p.count)
		p.deployments = append(p.deployments, name)
		return chaosAct{verb: "deploy", kind: "plain", name: name, n: replicas}, true
	case choice == 1:
		i := p.rng.IntN(len(p.deployments))
		act := chaosAct{verb: "undeploy", name: p.deployments[i]}
		p.deployments = slices.Delete(p.deployments, i, i+1)
		return act, true
	default:
		return chaosAct{verb: "scale", name: p.deployments[p.rng.IntN(len(p.deployments))], n: replicas}, true
	}
}

// static makes, changes or removes a file of a pod of the node's own.
func (p *chaosPlan) static() (chaosAct, bool) {
	choice := p.rng.IntN(3)
	switch {
	case len(p.statics) == 0 || choice == 0 && len(p.statics) < chaosStatics:
		name := fmt.Sprintf("static-%d", p.count)
		p.statics = append(p.statics, name)
		return chaosAct{verb: "static", kind: "plain", name: name, n: p.count}, true
	case choice == 1:
		i := p.rng.IntN(len(p.statics))
		act := chaosAct{verb: "unstatic", name: p.statics[i]}
		p.statics = slices.Delete(p.statics, i, i+1)
		return act, true
	default:
		return chaosAct{verb: "static", kind: "plain", name: p.statics[p.rng.IntN(len(p.statics))], n: p.count}, true
	}
}

// TestChaosPlan: a seed gives one sequence, in which in the long run everything happens.
func TestChaosPlan(t *testing.T) {
	first, second, other := newChaosPlan(7), newChaosPlan(7), newChaosPlan(8)
	seen, differs := map[string]bool{}, false
	for range 2000 {
		act := first.next()
		if again := second.next(); again != act {
			t.Fatalf("the same seed gives %v and %v", act, again)
		}
		differs = differs || other.next() != act
		seen[act.verb] = true
		switch act.verb {
		case "create":
			seen["create "+act.kind] = true
		case "kill":
			seen["kill "+act.name] = true
		}
	}
	if !differs {
		t.Error("another seed gives the same sequence")
	}
	if want := 14 + len(chaosProcesses) + len(chaosKinds); len(seen) != want {
		t.Errorf("of %d things %d happened: %v", want, len(seen), seen)
	}
}

package status

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	nodev1 "coracle/proto/node/v1"
)

// disk is the node's store: what was put survives the outbox.
type disk struct {
	mu     sync.Mutex
	facts  map[string]map[string][]byte
	writes int
	full   bool
}

func newDisk() *disk { return &disk{facts: map[string]map[string][]byte{}} }

func (d *disk) PutFact(bucket, key string, value []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return errors.New("no space left on device")
	}
	if d.facts[bucket] == nil {
		d.facts[bucket] = map[string][]byte{}
	}
	d.facts[bucket][key] = append([]byte(nil), value...)
	d.writes++
	return nil
}

func (d *disk) Fact(bucket, key string) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.facts[bucket][key]
	return v, ok
}

func (d *disk) Facts(bucket string) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.facts[bucket])
}

func (d *disk) DeleteFact(bucket string, keys ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range keys {
		delete(d.facts[bucket], k)
	}
	d.writes++
	return nil
}

func open(t interface{ Fatal(...any) }, d *disk) *Outbox {
	o, err := NewOutbox(d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func phase(p v1.PodPhase, ip string) v1.PodStatus { return v1.PodStatus{Phase: p, PodIP: ip} }

func podsOf(msgs []*nodev1.AgentMessage) map[string]*nodev1.PodStatus {
	out := map[string]*nodev1.PodStatus{}
	for _, m := range msgs {
		if p := m.GetPodStatus(); p != nil {
			out[p.GetUid()] = p
		}
	}
	return out
}

func TestLatestWins(t *testing.T) {
	o := open(t, newDisk())
	o.SetPod("u", "d", "web", phase(v1.PodPending, ""), false)
	o.SetPod("u", "d", "web", phase(v1.PodRunning, "1"), false)
	msgs, last := o.Pending(0)
	if len(msgs) != 1 || msgs[0].GetPodStatus().GetSequence() != last {
		t.Fatalf("pending %v", msgs)
	}
	o.SetPod("u", "d", "web", phase(v1.PodRunning, "1"), false)
	if msgs, again := o.Pending(last); len(msgs) != 0 || again != last {
		t.Errorf("the same status is said again: %v", msgs)
	}
	// An acknowledgement that was under way when something new was said does not cover it.
	o.SetPod("u", "d", "web", phase(v1.PodRunning, "2"), false)
	o.Ack(&nodev1.StatusAck{Kind: nodev1.StatusAck_POD, Uid: "u", Sequence: last})
	msgs, last = o.Pending(0)
	if len(msgs) != 1 {
		t.Fatalf("the newer one is lost: %v", msgs)
	}
	o.Ack(&nodev1.StatusAck{Kind: nodev1.StatusAck_POD, Uid: "u", Sequence: last})
	if !o.Empty() {
		t.Error("not empty")
	}
	if s, _, ok := o.Last("u"); !ok || s.PodIP != "2" {
		t.Errorf("last %v %v", s, ok)
	}
	o.Resend()
	if msgs, _ := o.Pending(0); len(msgs) != 1 || msgs[0].GetPodStatus().GetSequence() <= last {
		t.Errorf("a new connection is told nothing: %v", msgs)
	}
}

func TestReleasedIsSaidAgainWhenTheObjectChanges(t *testing.T) {
	o := open(t, newDisk())
	o.SetPod("u", "d", "web", phase(v1.PodSucceeded, ""), true)
	o.SetPod("w", "d", "run", phase(v1.PodRunning, ""), false)
	for _, m := range podsOf(first(o.Pending(0))) {
		o.Ack(&nodev1.StatusAck{Uid: m.GetUid(), Sequence: m.GetSequence()})
	}
	o.Again("u")
	o.Again("w")
	o.Again("unknown")
	if got := podsOf(first(o.Pending(0))); len(got) != 1 || !got["u"].GetReleased() {
		t.Errorf("pending %v", got)
	}
}

func first(msgs []*nodev1.AgentMessage, _ uint64) []*nodev1.AgentMessage { return msgs }

func TestWhatEndsAPodIsDurableAtOnce(t *testing.T) {
	for name, end := range map[string]func(*Outbox){
		"finished": func(o *Outbox) { o.SetPod("u", "d", "web", phase(v1.PodFailed, ""), false) },
		"released": func(o *Outbox) { o.SetPod("u", "d", "web", phase(v1.PodRunning, ""), true) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk()
			o := open(t, d)
			end(o)
			before, _ := o.Pending(0)
			after, _ := open(t, d).Pending(0) // kill -9 and start
			if len(after) != 1 || after[0].String() != before[0].String() {
				t.Errorf("before %v, after %v", before, after)
			}
		})
	}
}

func TestAConnectedNodeWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		o := open(t, d)
		writes := d.writes
		done := make(chan error, 1)
		ctx := t.Context()
		go func() { done <- o.Run(ctx) }()
		for i := range 20 {
			o.SetPod("u", "d", "web", phase(v1.PodRunning, fmt.Sprint(i)), false)
			_, last := o.Pending(0)
			o.Ack(&nodev1.StatusAck{Uid: "u", Sequence: last})
			time.Sleep(time.Minute) // the bubble's clock
		}
		if d.writes != writes {
			t.Errorf("%d writes", d.writes-writes)
		}
		// Disconnected: written down after a while, and removed after the acknowledgement.
		o.SetPod("u", "d", "web", phase(v1.PodRunning, "off"), false)
		time.Sleep(2 * flushDelay)
		if len(d.Facts(bucketPending)) != 1 {
			t.Error("a status that nobody acknowledges is not durable")
		}
		_, last := o.Pending(0)
		o.Ack(&nodev1.StatusAck{Uid: "u", Sequence: last})
		time.Sleep(2 * flushDelay)
		if len(d.Facts(bucketPending)) != 0 {
			t.Error("an acknowledged status is kept on disk")
		}
	})
}

// What a new pod says first is kept for a moment, because most run before it is over.
func TestInterimStatusIsHeldBack(t *testing.T) {
	creating := func(ip string) v1.PodStatus {
		s := phase(v1.PodPending, ip)
		s.ContainerStatuses = []v1.ContainerStatus{{Name: "main", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "ContainerCreating"}}}}
		return s
	}
	pulling := creating("")
	pulling.ContainerStatuses[0].State.Waiting.Reason = "ErrImagePull"
	for name, test := range map[string]struct {
		say  []v1.PodStatus
		wait time.Duration
		want int // messages
	}{
		"held":                    {[]v1.PodStatus{creating("a"), creating("b")}, holdInterim / 2, 0},
		"said in the end":         {[]v1.PodStatus{creating("a"), creating("b")}, holdInterim, 1},
		"running comes first":     {[]v1.PodStatus{creating("a"), phase(v1.PodRunning, "")}, 0, 1},
		"trouble is said at once": {[]v1.PodStatus{pulling}, 0, 1},
		"trouble comes first":     {[]v1.PodStatus{creating("a"), pulling}, 0, 1},
		"not held a second time":  {[]v1.PodStatus{pulling, creating("a")}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := open(t, newDisk())
				for _, s := range test.say {
					o.SetPod("u", "d", "web", s, false)
				}
				o.SetPod("other", "d", "db", phase(v1.PodRunning, ""), false)
				_, sent := o.Pending(0) // the other's sequence is above the held one's
				time.Sleep(test.wait)
				synctest.Wait()
				msgs, _ := o.Pending(0)
				if got := podsOf(msgs)["u"]; (got != nil) != (test.want == 1) {
					t.Fatalf("pending: %v", got)
				}
				if msgs, _ := o.Pending(sent); test.wait == holdInterim && len(msgs) != 1 {
					t.Errorf("a reader that has heard of others does not hear of it: %v", msgs)
				}
				if o.Empty() {
					t.Error("empty, though nothing was acknowledged")
				}
				last, _, _ := o.Last("u")
				if want := test.say[len(test.say)-1]; last.PodIP != want.PodIP || last.Phase != want.Phase {
					t.Errorf("last said %v", last)
				}
			})
		})
	}
}

func TestAFullDiskDoesNotSilenceTheNode(t *testing.T) {
	d := newDisk()
	o := open(t, d)
	d.full = true
	for i := range sequenceBlock + 10 {
		o.SetPod("u", "d", "web", phase(v1.PodRunning, fmt.Sprint(i)), false)
	}
	if msgs, _ := o.Pending(0); len(msgs) != 1 || podsOf(msgs)["u"] == nil {
		t.Errorf("pending %v", msgs)
	}
}

func TestForget(t *testing.T) {
	o := open(t, newDisk())
	o.SetPod("u", "d", "web", phase(v1.PodFailed, ""), true)
	o.Forget("u")
	msgs, last := o.Pending(0)
	if len(msgs) != 1 {
		t.Fatal("forgotten before it was said")
	}
	o.Ack(&nodev1.StatusAck{Uid: "u", Sequence: last})
	if _, _, ok := o.Last("u"); ok {
		t.Error("still remembered")
	}
}

func TestNodeHeartbeatTimesAreNoChange(t *testing.T) {
	o := open(t, newDisk())
	n := &v1.Node{Status: v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue}}}}
	o.SetNode(n)
	_, last := o.Pending(0)
	n.Status.Conditions[0].LastHeartbeatTime.Time = time.Unix(5, 0)
	o.SetNode(n)
	if msgs, _ := o.Pending(last); len(msgs) != 0 {
		t.Error("said again")
	}
	n.Status.Conditions[0].Status = v1.ConditionFalse
	o.SetNode(n)
	if msgs, _ := o.Pending(last); len(msgs) != 1 {
		t.Error("a change is not said")
	}
	o.Ack(&nodev1.StatusAck{Kind: nodev1.StatusAck_NODE, Sequence: last})
	if o.Empty() {
		t.Error("acknowledged by an older one")
	}
}

// Kills, acknowledgements that come late or never, and reports in any order: sequences only
// grow, and the last status of each pod that ended is never lost.
func TestOutboxUnderKills(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newDisk()
		o := open(rt, d)
		highest := uint64(0)
		ended := map[types.UID]string{} // not yet acknowledged
		n := 0
		rt.Repeat(map[string]func(*rapid.T){
			"say": func(rt *rapid.T) {
				n++
				uid := types.UID(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "uid"))
				final := rapid.Bool().Draw(rt, "final")
				s := phase(v1.PodRunning, fmt.Sprint(n))
				if final {
					s.Phase = v1.PodFailed
				}
				o.SetPod(uid, "d", string(uid), s, false)
				got := podsOf(first(o.Pending(0)))[string(uid)]
				if got == nil || got.GetSequence() <= highest {
					rt.Fatalf("sequence %d after %d", got.GetSequence(), highest)
				}
				highest = got.GetSequence()
				delete(ended, uid)
				if final {
					ended[uid] = s.PodIP
				}
			},
			"ack": func(rt *rapid.T) {
				for uid, m := range podsOf(first(o.Pending(0))) {
					o.Ack(&nodev1.StatusAck{Uid: uid, Sequence: m.GetSequence()})
					delete(ended, types.UID(uid))
				}
			},
			"flush": func(*rapid.T) { o.flush(time.Time{}) },
			"kill":  func(rt *rapid.T) { o = open(rt, d) },
			"": func(rt *rapid.T) {
				for uid, ip := range ended {
					if s, _, ok := o.Last(uid); !ok || s.PodIP != ip {
						rt.Fatalf("the end of pod %s is lost: %v %v", uid, s, ok)
					}
				}
			},
		})
	})
}

func FuzzDecodePending(f *testing.F) {
	d := newDisk()
	open(f, d).SetPod("u", "d", "web", phase(v1.PodFailed, ""), true)
	f.Add(d.facts[bucketPending]["u"])
	f.Fuzz(func(t *testing.T, rec []byte) {
		d := newDisk()
		if err := d.PutFact(bucketPending, "u", rec); err != nil {
			t.Fatal(err)
		}
		o := open(t, d) // any record is read or dropped
		o.SetPod("u", "d", "web", phase(v1.PodRunning, "1"), false)
		if s, _, ok := o.Last("u"); !ok || s.PodIP != "1" {
			t.Errorf("%v %v", s, ok)
		}
	})
}

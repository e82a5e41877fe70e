// Package status holds what the node has to tell the control plane: the latest status of
// each pod and of the node, and events.
//
// It owns the outbox (latest wins per pod, kept until acknowledged), the recorder of events
// (counted, aggregated, rate limited) and the loop that looks at the node's own status. It
// does not decide what a pod's status is, and it does not send: agent/session takes from
// the outbox and hands back acknowledgements.
//
// Invariants:
//   - a status equal to the last one said is not said again;
//   - sequences only grow, also over a restart and a power cut;
//   - a status that ends a pod (finished, or released) is durable before SetPod returns, as
//     containers are removed after it and it could not be computed again. Others are made
//     durable only when no acknowledgement comes, so that a connected node writes nothing.
package status

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	nodev1 "coracle/proto/node/v1"
)

const (
	bucketPending  = "outbox"
	bucketSequence = "outbox-sequence"
	// sequenceBlock is how many sequences one write to the store reserves.
	sequenceBlock = 10000
	// flushDelay is how long an acknowledgement may take before a pending status is written down.
	flushDelay = 2 * time.Second
	// holdInterim is how long the first word of a new pod waits when it says no more than that containers are being
	// made: most pods run by then, and the control plane is spared one of two writes.
	holdInterim = 2 * time.Second
	// maxEvents bounds the memory of a node that cannot reach its control plane; the oldest are dropped.
	maxEvents = 1000
)

// Facts is the part of the node's store that the outbox writes to.
type Facts interface {
	PutFact(bucket, key string, value []byte) error
	Fact(bucket, key string) ([]byte, bool)
	Facts(bucket string) map[string][]byte
	DeleteFact(bucket string, keys ...string) error
}

// Outbox is safe for concurrent use.
type Outbox struct {
	facts   Facts
	log     *slog.Logger
	changed chan struct{} // one slot: "there is something new"; more would say the same
	dirty   chan struct{} // one slot: "the flusher has work"

	mu       sync.Mutex
	next     uint64 // the next sequence
	reserved uint64 // sequences below it may be used
	pods     map[types.UID]*podEntry
	node     *nodeEntry
	mirrors  *mirrorEntry           // nil: nothing was said of them
	events   map[string]*eventEntry // by namespace/name
	stale    []string               // uids whose written-down status has been acknowledged
}

type podEntry struct {
	msg       *nodev1.PodStatus // the latest said
	status    v1.PodStatus
	said      time.Time   // when msg was
	hold      *time.Timer // set while msg is held back
	acked     bool
	written   bool // msg is in the store
	forgotten bool
	local     bool // never sent
}

type nodeEntry struct {
	msg   *nodev1.NodeStatus
	plain []byte // the node without heartbeat times
	acked bool
}

type eventEntry struct{ msg *nodev1.Event }

// NewOutbox reads back what was pending when the agent last stopped.
func NewOutbox(facts Facts, log *slog.Logger) (*Outbox, error) {
	o := &Outbox{
		facts: facts, log: log,
		changed: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
		pods: map[types.UID]*podEntry{}, events: map[string]*eventEntry{},
	}
	if v, ok := facts.Fact(bucketSequence, "reserved"); ok && len(v) == 8 {
		o.next = binary.BigEndian.Uint64(v)
	}
	for uid, rec := range facts.Facts(bucketPending) {
		e, err := decodePending(rec)
		if err != nil {
			log.Error("pending status unreadable, it is computed again", "uid", uid, "err", err)
			o.stale = append(o.stale, uid)
			continue
		}
		o.pods[types.UID(uid)] = e
		o.next = max(o.next, e.msg.Sequence)
	}
	o.next++
	o.reserved = o.next
	if err := o.reserve(); err != nil {
		return nil, err
	}
	return o, nil
}

func decodePending(rec []byte) (*podEntry, error) {
	e := &podEntry{msg: &nodev1.PodStatus{}, written: true}
	if err := proto.Unmarshal(rec, e.msg); err != nil {
		return nil, fmt.Errorf("decode pending status: %w", err)
	}
	if err := e.status.Unmarshal(e.msg.Status); err != nil {
		return nil, fmt.Errorf("decode pending status of pod %s: %w", e.msg.Uid, err)
	}
	return e, nil
}

// reserve makes room for more sequences; the caller holds the lock or is alone.
func (o *Outbox) reserve() error {
	if o.next < o.reserved {
		return nil
	}
	var v [8]byte
	binary.BigEndian.PutUint64(v[:], o.next+sequenceBlock)
	if err := o.facts.PutFact(bucketSequence, "reserved", v[:]); err != nil {
		return fmt.Errorf("reserve sequences: %w", err)
	}
	o.reserved = o.next + sequenceBlock
	return nil
}

func (o *Outbox) take() uint64 {
	if err := o.reserve(); err != nil {
		// A full disk must not silence the node: the sequence still grows within this run,
		// and the next run begins above what was reserved last.
		o.log.Error("sequence not durable", "err", err)
		o.reserved = o.next + sequenceBlock
	}
	n := o.next
	o.next++
	return n
}

// SetPod says what a pod's status is now, and whether nothing of it is left on the node
// (released). The same status again costs nothing.
func (o *Outbox) SetPod(uid types.UID, namespace, name string, status v1.PodStatus, released bool) {
	data, err := status.Marshal()
	if err != nil {
		o.log.Error("pod status not encodable", "pod", namespace+"/"+name, "uid", uid, "err", err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.pods[uid]
	if e != nil && e.msg.Released == released && bytes.Equal(e.msg.Status, data) {
		return
	}
	held := (e == nil || e.hold != nil) && !released && interim(&status)
	if e == nil {
		e = &podEntry{}
		o.pods[uid] = e
	}
	e.msg = &nodev1.PodStatus{
		Uid: string(uid), Namespace: namespace, Name: name,
		Sequence: o.take(), Status: data, Released: released,
	}
	status.DeepCopyInto(&e.status)
	e.acked, e.said = false, time.Now()
	if held {
		if e.hold == nil {
			e.hold = time.AfterFunc(holdInterim, func() { o.sayHeld(e) })
		}
		return
	}
	if e.hold != nil {
		e.hold.Stop()
		e.hold = nil
	}
	if released || e.written || status.Phase == v1.PodSucceeded || status.Phase == v1.PodFailed {
		o.write(uid, e)
	} else {
		signal(o.dirty)
	}
	signal(o.changed)
}

// interim says whether a status tells no more than that the pod's containers are being made.
func interim(s *v1.PodStatus) bool {
	if s.Phase != v1.PodPending || len(s.ContainerStatuses) == 0 {
		return false
	}
	for _, list := range [][]v1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			wait := list[i].State.Waiting
			if wait == nil || wait.Reason != "ContainerCreating" && wait.Reason != "PodInitializing" {
				return false
			}
		}
	}
	return true
}

// sayHeld lets a status go that was held back, unless another has been said since.
func (o *Outbox) sayHeld(e *podEntry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.hold == nil {
		return
	}
	e.hold = nil
	e.msg = proto.CloneOf(e.msg)
	e.msg.Sequence = o.take() // later ones may have been sent
	e.said = time.Now()
	signal(o.dirty)
	signal(o.changed)
}

// write makes an entry durable; the lock is held.
func (o *Outbox) write(uid types.UID, e *podEntry) {
	rec, err := proto.Marshal(e.msg)
	if err == nil {
		err = o.facts.PutFact(bucketPending, string(uid), rec)
	}
	if err != nil {
		o.log.Error("pod status not durable", "pod", e.msg.Namespace+"/"+e.msg.Name, "uid", uid, "err", err)
		return
	}
	e.written = true
}

// Last returns the status last said of a pod, acknowledged or not.
func (o *Outbox) Last(uid types.UID) (status v1.PodStatus, released, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.pods[uid]
	if e == nil {
		return v1.PodStatus{}, false, false
	}
	return *e.status.DeepCopy(), e.msg.Released, true
}

// Forget ends the memory of a pod that is neither assigned nor present on the node. What it still has to say is said first.
func (o *Outbox) Forget(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.pods[uid]; e != nil {
		e.forgotten = true
		if e.acked {
			delete(o.pods, uid)
		}
	}
}

// SetNode says what the node is now: labels, annotations and taints to register with, and
// status. A node that differs only in heartbeat times is the same.
func (o *Outbox) SetNode(node *v1.Node) {
	plain := node.DeepCopy()
	for i := range plain.Status.Conditions {
		plain.Status.Conditions[i].LastHeartbeatTime.Reset()
	}
	plainData, err := plain.Marshal()
	if err != nil {
		o.log.Error("node not encodable", "node", node.Name, "err", err)
		return
	}
	data, err := node.Marshal()
	if err != nil {
		o.log.Error("node not encodable", "node", node.Name, "err", err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.node != nil && bytes.Equal(o.node.plain, plainData) {
		return
	}
	o.node = &nodeEntry{msg: &nodev1.NodeStatus{Sequence: o.take(), Node: data}, plain: plainData}
	signal(o.changed)
}

// putEvent is how the recorder says an event; the same name again replaces what is pending.
func (o *Outbox) putEvent(event *v1.Event) {
	data, err := event.Marshal()
	if err != nil {
		o.log.Error("event not encodable", "reason", event.Reason, "err", err)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	key := event.Namespace + "/" + event.Name
	if o.events[key] == nil && len(o.events) >= maxEvents {
		oldest := ""
		for k, e := range o.events {
			if oldest == "" || e.msg.Sequence < o.events[oldest].msg.Sequence {
				oldest = k
			}
		}
		delete(o.events, oldest)
	}
	o.events[key] = &eventEntry{msg: &nodev1.Event{Sequence: o.take(), Event: data}}
	signal(o.changed)
}

// Changed receives when there may be something new to send.
func (o *Outbox) Changed() <-chan struct{} { return o.changed }

// Pending returns what is not acknowledged and has a sequence above after, in the order of
// sequences, and the highest sequence among it (after, where there is nothing).
func (o *Outbox) Pending(after uint64) ([]*nodev1.AgentMessage, uint64) {
	type item struct {
		seq uint64
		msg *nodev1.AgentMessage
	}
	var items []item
	o.mu.Lock()
	for _, e := range o.pods {
		if !e.acked && e.hold == nil && e.msg.Sequence > after {
			items = append(items, item{e.msg.Sequence, &nodev1.AgentMessage{Message: &nodev1.AgentMessage_PodStatus{PodStatus: e.msg}}})
		}
	}
	if o.node != nil && !o.node.acked && o.node.msg.Sequence > after {
		items = append(items, item{o.node.msg.Sequence, &nodev1.AgentMessage{Message: &nodev1.AgentMessage_NodeStatus{NodeStatus: o.node.msg}}})
	}
	if m := o.mirrors; m != nil && !m.acked && m.msg.Sequence > after {
		items = append(items, item{m.msg.Sequence, &nodev1.AgentMessage{Message: &nodev1.AgentMessage_MirrorPods{MirrorPods: m.msg}}})
	}
	for _, e := range o.events {
		if e.msg.Sequence > after {
			items = append(items, item{e.msg.Sequence, &nodev1.AgentMessage{Message: &nodev1.AgentMessage_Event{Event: e.msg}}})
		}
	}
	o.mu.Unlock()
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.seq, b.seq) })
	out := make([]*nodev1.AgentMessage, len(items))
	for i, it := range items {
		out[i], after = it.msg, it.seq
	}
	return out, after
}

// Empty is true when all that was said has been acknowledged, also what is held back for a moment.
func (o *Outbox) Empty() bool {
	msgs, _ := o.Pending(0)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.pods {
		if e.hold != nil {
			return false
		}
	}
	return len(msgs) == 0
}

// Ack takes an acknowledgement up to and including its sequence. One for an older status than the latest changes nothing.
func (o *Outbox) Ack(ack *nodev1.StatusAck) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch ack.GetKind() {
	case nodev1.StatusAck_POD:
		uid := types.UID(ack.GetUid())
		e := o.pods[uid]
		if e == nil || e.acked || e.msg.Sequence > ack.GetSequence() {
			return
		}
		e.acked = true
		if e.written {
			o.stale = append(o.stale, string(uid))
			signal(o.dirty)
		}
		if e.forgotten {
			delete(o.pods, uid)
		}
	case nodev1.StatusAck_NODE:
		if o.node != nil && o.node.msg.Sequence <= ack.GetSequence() {
			o.node.acked = true
		}
	case nodev1.StatusAck_MIRRORS:
		if o.mirrors != nil && o.mirrors.msg.Sequence <= ack.GetSequence() {
			o.mirrors.acked = true
		}
	case nodev1.StatusAck_EVENT:
		for k, e := range o.events {
			if e.msg.Sequence == ack.GetSequence() {
				delete(o.events, k)
			}
		}
	}
}

// Resend makes everything that was ever said of the node and its pods pending again. It is
// called when a connection begins: while it was lost, others may have written that the pods
// are not ready or removed the Node, and only what is said again puts that right.
func (o *Outbox) Resend() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.node != nil {
		o.node.msg = &nodev1.NodeStatus{Sequence: o.take(), Node: o.node.msg.Node}
		o.node.acked = false
	}
	if o.mirrors != nil {
		o.mirrors = &mirrorEntry{msg: &nodev1.MirrorPods{Sequence: o.take(), Pods: o.mirrors.msg.Pods}}
	}
	for _, e := range o.pods {
		o.again(e)
	}
	signal(o.changed)
}

// Again makes a pod's status pending again if it was acknowledged as released: the object
// has changed since, and may have been marked for deletion only now.
func (o *Outbox) Again(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.pods[uid]; e != nil && e.acked && e.msg.Released {
		o.again(e)
		signal(o.changed)
	}
}

func (o *Outbox) again(e *podEntry) {
	if !e.acked || e.local {
		return
	}
	e.msg = proto.CloneOf(e.msg)
	e.msg.Sequence = o.take()
	e.acked = false
}

// Run writes down statuses that wait for an acknowledgement, and removes those that got it, until ctx ends.
func (o *Outbox) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			o.flush(time.Time{})
			return nil
		case <-o.dirty:
		}
		t := time.NewTimer(flushDelay)
		select {
		case <-ctx.Done():
			t.Stop()
			o.flush(time.Time{})
			return nil
		case <-t.C:
			o.flush(time.Now())
		}
	}
}

// flush writes down what has waited for flushDelay by now; what was said since then gets its own chance. The zero time
// is for the end, when everything is due.
func (o *Outbox) flush(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for uid, e := range o.pods {
		if e.acked || e.written || e.hold != nil && !now.IsZero() {
			continue
		}
		if !now.IsZero() && now.Sub(e.said) < flushDelay {
			signal(o.dirty)
			continue
		}
		o.write(uid, e)
	}
	var gone []string
	for _, uid := range o.stale {
		// Said again since the acknowledgement: then the record in the store is the newer one.
		if e := o.pods[types.UID(uid)]; e == nil || e.acked {
			gone = append(gone, uid)
			if e != nil {
				e.written = false
			}
		}
	}
	o.stale = nil
	if len(gone) > 0 {
		if err := o.facts.DeleteFact(bucketPending, gone...); err != nil {
			o.log.Error("acknowledged statuses not removed", "err", err)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

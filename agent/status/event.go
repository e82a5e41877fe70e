package status

import (
	"container/list"
	"fmt"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The limits are those that users of Kubernetes know: an object may cause a burst of 25
// events and one more each five minutes; ten different messages of one reason within ten
// minutes are told as one.
const (
	eventBurst       = 25
	eventRefill      = 5 * time.Minute
	similarLimit     = 10
	similarWindow    = 10 * time.Minute
	maxTracked       = 4096 // objects, groups and events remembered; the least recent are forgotten
	aggregatedPrefix = "(combined from similar events): "
)

// Recorder turns what happens to an object into Event objects. Safe for concurrent use.
type Recorder struct {
	outbox *Outbox
	source v1.EventSource
	now    func() time.Time

	mu      sync.Mutex
	buckets *recent[string, *bucket]   // by object: rate
	groups  *recent[string, *group]    // by object and reason: aggregation
	events  *recent[string, *v1.Event] // by object, reason and message: counting
}

type bucket struct {
	tokens float64
	at     time.Time
}

type group struct {
	messages map[string]bool
	at       time.Time
}

// NewRecorder records into the outbox as component on node. now is the clock, time.Now but for tests.
func NewRecorder(outbox *Outbox, component, node string, now func() time.Time) *Recorder {
	return &Recorder{
		outbox: outbox, source: v1.EventSource{Component: component, Host: node}, now: now,
		buckets: newRecent[string, *bucket](maxTracked),
		groups:  newRecent[string, *group](maxTracked),
		events:  newRecent[string, *v1.Event](maxTracked),
	}
}

// Event says that something happened to the object. eventType is v1.EventTypeNormal or
// v1.EventTypeWarning. The same again within the object's memory raises a count.
func (r *Recorder) Event(ref v1.ObjectReference, eventType, reason, message string) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	object := strings.Join([]string{ref.Kind, ref.Namespace, ref.Name, string(ref.UID), ref.APIVersion}, "\x00")
	message = r.aggregate(object+"\x00"+eventType+"\x00"+reason, message, now)
	key := strings.Join([]string{object, ref.FieldPath, eventType, reason, message}, "\x00")
	if strings.HasPrefix(message, aggregatedPrefix) {
		key = strings.Join([]string{object, eventType, reason, aggregatedPrefix}, "\x00")
	}
	event, seen := r.events.get(key)
	if !seen {
		event = r.newEvent(ref, eventType, reason, now)
		r.events.put(key, event)
	}
	event.Message = message
	event.Count++
	event.LastTimestamp = metav1.NewTime(now)
	if r.allow(object, now) { // what is not told still counts, and is told with the next that is
		r.outbox.putEvent(event)
	}
}

// Eventf is Event with a formatted message.
func (r *Recorder) Eventf(ref v1.ObjectReference, eventType, reason, format string, args ...any) {
	r.Event(ref, eventType, reason, fmt.Sprintf(format, args...))
}

func (r *Recorder) newEvent(ref v1.ObjectReference, eventType, reason string, now time.Time) *v1.Event {
	namespace := ref.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return &v1.Event{
		ObjectMeta: metav1.ObjectMeta{
			// The nanosecond tells events of one object apart, also over restarts of the agent.
			Name: fmt.Sprintf("%s.%x", ref.Name, now.UnixNano()+int64(r.events.added)), Namespace: namespace,
		},
		InvolvedObject: ref, Reason: reason, Type: eventType, Source: r.source,
		ReportingController: r.source.Component, ReportingInstance: r.source.Host,
		FirstTimestamp: metav1.NewTime(now),
	}
}

// aggregate returns the message to tell: its own, or the common one where a reason comes with ever new messages.
func (r *Recorder) aggregate(key, message string, now time.Time) string {
	g, ok := r.groups.get(key)
	if !ok || now.Sub(g.at) > similarWindow {
		g = &group{messages: map[string]bool{}}
		r.groups.put(key, g)
	}
	g.at = now
	if !g.messages[message] && len(g.messages) < similarLimit {
		g.messages[message] = true
	}
	if len(g.messages) < similarLimit {
		return message
	}
	return aggregatedPrefix + message
}

// allow is a token bucket for each object.
func (r *Recorder) allow(object string, now time.Time) bool {
	b, ok := r.buckets.get(object)
	if !ok {
		b = &bucket{tokens: eventBurst, at: now}
		r.buckets.put(object, b)
	}
	if d := now.Sub(b.at); d > 0 { // a clock that was set back gives nothing
		b.tokens = min(eventBurst, b.tokens+float64(d)/float64(eventRefill))
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// PodReference names a pod as the object of an event.
func PodReference(namespace, name string, uid types.UID, resourceVersion string) v1.ObjectReference {
	return v1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: namespace, Name: name, UID: uid, ResourceVersion: resourceVersion}
}

// ContainerReference names a container of a pod; list is "containers", "initContainers" or "ephemeralContainers".
func ContainerReference(pod v1.ObjectReference, list, container string) v1.ObjectReference {
	pod.FieldPath = fmt.Sprintf("spec.%s{%s}", list, container)
	return pod
}

// NodeReference names the node as the object of an event. Kubernetes uses the name as uid here, and kubectl looks for it.
func NodeReference(name string) v1.ObjectReference {
	return v1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: name, UID: types.UID(name)}
}

// recent is a map that forgets the least recently used key when it is full. Not safe for concurrent use.
type recent[K comparable, V any] struct {
	limit int
	added uint64 // keys put so far
	order *list.List
	items map[K]*list.Element
}

type recentItem[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, order: list.New(), items: map[K]*list.Element{}}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	e, ok := r.items[key]
	if !ok {
		var zero V
		return zero, false
	}
	r.order.MoveToFront(e)
	return e.Value.(recentItem[K, V]).value, true
}

func (r *recent[K, V]) put(key K, value V) {
	if e, ok := r.items[key]; ok {
		e.Value = recentItem[K, V]{key, value}
		r.order.MoveToFront(e)
		return
	}
	r.added++
	r.items[key] = r.order.PushFront(recentItem[K, V]{key, value})
	if r.order.Len() > r.limit {
		oldest := r.order.Back()
		r.order.Remove(oldest)
		delete(r.items, oldest.Value.(recentItem[K, V]).key)
	}
}

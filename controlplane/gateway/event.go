package gateway

import (
	"context"
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	nodev1 "coracle/proto/node/v1"
)

const eventWorkers = 4

// maxEventMessage is what the API takes of a message.
const maxEventMessage = 1024

type eventReport struct {
	from     *session
	sequence uint64
	event    *v1.Event
}

func (g *Gateway) takeEvent(s *session, m *nodev1.Event) {
	event := &v1.Event{}
	if err := event.Unmarshal(m.GetEvent()); err != nil {
		g.c.Log.Warn("event unreadable", "node", s.node, "err", err)
		s.ack(nodev1.StatusAck_EVENT, "", m.GetSequence())
		return
	}
	if why := g.foreignEvent(s.node, event); why != "" {
		g.c.Log.Warn("a node reported an event that is not its own", "node", s.node, "event", event.Namespace+"/"+event.Name, "why", why)
		s.ack(nodev1.StatusAck_EVENT, "", m.GetSequence())
		return
	}
	event.Source.Host = s.node
	event.ReportingInstance = s.node
	event.ResourceVersion, event.UID, event.ManagedFields, event.OwnerReferences, event.Finalizers = "", "", nil, nil, nil
	if len(event.Message) > maxEventMessage {
		event.Message = event.Message[:maxEventMessage-3] + "..."
	}
	key := event.Namespace + "/" + event.Name
	if before, ok := g.events.get(key); ok && before.from == s && before.sequence < m.GetSequence() {
		s.ack(nodev1.StatusAck_EVENT, "", before.sequence) // told by the newer one
	}
	g.events.put(key, eventReport{from: s, sequence: m.GetSequence(), event: event})
}

// foreignEvent says why an event is not the node's to report; empty: it is.
func (g *Gateway) foreignEvent(node string, e *v1.Event) string {
	switch o := e.InvolvedObject; o.Kind {
	case kindNode:
		if o.Name != node {
			return "about another node"
		}
	case kindPod:
		if o.Namespace != e.Namespace {
			return "in another namespace than its pod"
		}
		pod, err := g.world.pod.Pods(o.Namespace).Get(o.Name)
		if err == nil && pod.UID == o.UID && pod.Spec.NodeName != node {
			return "about a pod of another node"
		}
	default:
		return "about an object of kind " + o.Kind
	}
	return ""
}

func (g *Gateway) reportEvent(ctx context.Context, key string) error {
	r, ok := g.events.get(key)
	if !ok {
		return nil
	}
	if err := g.writeEvent(ctx, r.event); err != nil {
		return fmt.Errorf("event %s: %w", key, err)
	}
	r.from.ack(nodev1.StatusAck_EVENT, "", r.sequence)
	g.events.remove(func(k string, v eventReport) bool { return k == key && v.sequence == r.sequence && v.from == r.from })
	return nil
}

// writeEvent creates the event, or raises the count of the one that is there.
func (g *Gateway) writeEvent(ctx context.Context, e *v1.Event) error {
	events := g.c.Client.CoreV1().Events(e.Namespace)
	if e.Count > 1 {
		patch, err := json.Marshal(map[string]any{"count": e.Count, "lastTimestamp": e.LastTimestamp, "message": e.Message})
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		_, err = events.Patch(ctx, e.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		if !apierrors.IsNotFound(err) {
			return lost(err)
		}
		// It has run out since: the next one stands for it.
	}
	_, err := events.Create(ctx, e, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // said before an acknowledgement was lost
	}
	return lost(err)
}

// lost turns errors that will never go away into none: an event is not worth more.
func lost(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) {
		return nil
	}
	return err
}

package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"
	"k8s.io/apimachinery/pkg/types"
)

// reconnectPause is how long Run waits before it asks again for events of a containerd that went
// away: short, because a restart takes well under a second.
const reconnectPause = 500 * time.Millisecond

// Changes names pods to look at again. It is level-triggered: one name may stand for several changes.
func (r *Runtime) Changes() <-chan types.UID { return r.changes }

// Run follows containerd's events until ctx ends, reconnecting. After each connection every
// known pod is named once, for what was missed. Tasks that have ended are let go of after a while.
func (r *Runtime) Run(ctx context.Context) error {
	pending, reaps := newPending(), newReaper(r.reapDelay)
	away := false
	for ctx.Err() == nil {
		err := r.follow(ctx, pending, reaps, func() {
			if away {
				r.log.Info("containerd's events are back")
			}
			away = false
		})
		if ctx.Err() != nil {
			break
		}
		r.mu.Lock()
		r.prefix = "" // containerd may come back in another version
		r.mu.Unlock()
		if !away {
			r.log.Warn("containerd's events are away", "err", err)
			away = true
		}
		r.wait(ctx, pending)
	}
	return nil //nolint:nilerr // ended because it was told to
}

// follow handles events until the stream ends, and hands out names as they are taken. here is
// called once containerd has answered.
func (r *Runtime) follow(ctx context.Context, pending *pending, reaps *reaper, here func()) error {
	ctx, cancel := context.WithCancel(r.context(ctx))
	defer cancel()
	stream, errs := r.client.Subscribe(ctx,
		fmt.Sprintf("namespace==%q,topic==%q", r.cfg.Namespace, "/tasks/exit"),
		fmt.Sprintf("namespace==%q,topic==%q", r.cfg.Namespace, "/tasks/oom"))
	// The subscription is under way before the state is read: what changes in between is an event.
	if err := r.takeUp(ctx, pending, reaps); err != nil {
		return err
	}
	here()
	for {
		out, next := r.offer(pending)
		due, stop := reaps.next(time.Now())
		select {
		case out <- next:
			pending.taken()
		case <-due:
			id := reaps.take()
			if err := r.reap(ctx, id); err != nil && ctx.Err() == nil {
				r.log.Debug("ended container is kept", "container", id, "err", err)
				reaps.add(id, time.Now())
			}
		case envelope := <-stream:
			if envelope != nil {
				r.handle(ctx, envelope, pending, reaps)
			}
		case err := <-errs:
			stop()
			if err == nil {
				err = errors.New("the stream ended")
			}
			return err
		case <-ctx.Done():
			stop()
			return ctx.Err()
		}
		stop()
	}
}

// wait pauses between connections, still handing out names.
func (r *Runtime) wait(ctx context.Context, pending *pending) {
	timer := time.NewTimer(reconnectPause)
	defer timer.Stop()
	for {
		out, next := r.offer(pending)
		select {
		case out <- next:
			pending.taken()
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *Runtime) offer(p *pending) (chan<- types.UID, types.UID) {
	if len(p.order) == 0 {
		return nil, ""
	}
	return r.changes, p.order[0]
}

func (r *Runtime) handle(ctx context.Context, envelope *events.Envelope, pending *pending, reaps *reaper) {
	event, err := typeurl.UnmarshalAny(envelope.Event)
	if err != nil {
		return // of a newer containerd
	}
	var id string
	switch e := event.(type) {
	case *apievents.TaskExit:
		if e.ID != e.ContainerID {
			return // an exec
		}
		id = e.ContainerID
		reaps.add(id, time.Now())
	case *apievents.TaskOOM:
		id = e.ContainerID
		if f, err := os.OpenFile(r.oomPath(id), os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_ = f.Close() // the mark is its being there
		}
	default:
		return
	}
	if uid := r.owner(ctx, id); uid != "" {
		pending.add(uid)
	}
}

// owner is the pod of a container, asked from containerd where it was never seen.
func (r *Runtime) owner(ctx context.Context, id string) types.UID {
	r.mu.Lock()
	uid, ok := r.owners[id]
	r.mu.Unlock()
	if ok {
		return uid
	}
	record, err := r.containers().Get(ctx, id)
	if err != nil {
		return ""
	}
	return types.UID(record.Labels[labelUID])
}

func (r *Runtime) nameAll(pending *pending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, uid := range r.owners {
		pending.add(uid)
	}
}

// pending is an ordered set of names that nobody has taken yet.
type pending struct {
	order []types.UID
	have  map[types.UID]bool
}

func newPending() *pending { return &pending{have: map[types.UID]bool{}} }

func (p *pending) add(uid types.UID) {
	if uid != "" && !p.have[uid] {
		p.have[uid] = true
		p.order = append(p.order, uid)
	}
}

func (p *pending) taken() {
	delete(p.have, p.order[0])
	p.order = p.order[1:]
}

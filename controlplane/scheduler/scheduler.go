// Package scheduler gives pods their nodes: it keeps the state of nodes and pods from informers, asks package
// decide for one pod after the other and binds through the API.
//
// One goroutine decides, in the order of the queue; several bind. A decision counts at once (the pod is
// assumed on its node), so that a hundred pods need not wait for a hundred round trips. A pod for which there
// is no node waits until something that may help happens. Several schedulers may run: the API accepts one binding of a pod, and the
// others learn from the conflict.
//
// It writes bindings, the PodScheduled condition of pods without a node, and events; nothing else.
package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"coracle/controlplane/controller/loop"
	"coracle/controlplane/scheduler/decide"
)

// Name is the spec.schedulerName of the pods that this scheduler is for.
const Name = corev1.DefaultSchedulerName

// binders is how many calls to the API are under way at once.
const binders = 16

// Config of a Scheduler.
type Config struct {
	Client kubernetes.Interface // required; without rate limits
	// Informers is required. Its owner starts it after New, with a context that outlives Run.
	Informers informers.SharedInformerFactory
	Log       *slog.Logger       // required
	Clock     clock.PassiveClock // default: the real one
}

// Scheduler of one cluster. Run may be called again after it returned, when the Lease is held again.
type Scheduler struct {
	config     Config
	pods       cache.SharedIndexInformer
	nodes      cache.SharedIndexInformer
	namespaces cache.SharedIndexInformer

	// Made anew by each Run.
	queue    *queue
	state    *state
	recorder record.EventRecorder
	jobs     chan func(context.Context) // unbuffered: deciding waits for the slowest of the binders, no further
}

// New makes a scheduler and its informers. It fails only on an incomplete Config.
func New(config Config) (*Scheduler, error) {
	if config.Client == nil || config.Informers == nil || config.Log == nil {
		return nil, errors.New("scheduler: Client, Informers and Log are required")
	}
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	core := config.Informers.Core().V1()
	return &Scheduler{
		config: config, pods: core.Pods().Informer(), nodes: core.Nodes().Informer(), namespaces: core.Namespaces().Informer(),
	}, nil
}

// Run schedules until ctx ends and returns nil then.
func (s *Scheduler) Run(ctx context.Context) error {
	// It outlives ctx, so that what was done last is told too.
	broadcaster := record.NewBroadcaster(record.WithContext(context.WithoutCancel(ctx)))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: s.config.Client.CoreV1().Events("")})
	s.recorder = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: Name})
	s.queue, s.state = newQueue(s.config.Clock.Now), newState()
	s.jobs = make(chan func(context.Context))

	stop, err := loop.Register(ctx,
		loop.Watch{Informer: s.namespaces, Handler: loop.On(s.namespaceSet, func(_, ns *corev1.Namespace) { s.namespaceSet(ns) }, s.namespaceGone)},
		loop.Watch{Informer: s.nodes, Handler: loop.On(s.nodeAdded, s.nodeChanged, s.nodeGone)},
		loop.Watch{Informer: s.pods, Handler: loop.On(s.podAdded, s.podChanged, s.podGone)})
	if err != nil {
		return fmt.Errorf("run the scheduler: %w", err)
	}
	defer stop()

	var group errgroup.Group
	for range binders {
		group.Go(func() error {
			for job := range s.jobs {
				job(ctx)
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(s.jobs)
		for {
			pod, ok := s.queue.pop(ctx)
			if !ok {
				return nil
			}
			s.schedule(ctx, pod)
		}
	})
	return group.Wait()
}

// schedule decides for one pod and hands the call that follows to a binder.
func (s *Scheduler) schedule(ctx context.Context, pod *decide.Pod) {
	var job func(context.Context)
	if decide.Gated(pod.Pod) {
		s.queue.park(pod.UID, 0) // only a change of the pod itself helps
		job = func(ctx context.Context) {
			s.setScheduled(ctx, pod.Pod, corev1.PodReasonSchedulingGated, "Scheduling is blocked due to non-empty scheduling gates")
		}
	} else if d := s.state.decide(pod, s.config.Clock.Now()); d.Node == "" {
		s.queue.park(pod.UID, d.Wake)
		job = func(ctx context.Context) { s.explain(ctx, pod.Pod, d.Explain()) }
	} else {
		job = func(ctx context.Context) { s.bind(ctx, pod, d.Node) }
	}
	select {
	case s.jobs <- job:
	case <-ctx.Done():
	}
}

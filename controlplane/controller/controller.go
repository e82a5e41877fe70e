// Package controller runs the controllers of a cluster. Each kind has a package of its own below: plan.go decides and is
// pure, controller.go watches and carries out. This package only puts them together.
//
// All talk to the API server alone and share the informers they are given. One that fails is started again by
// itself; the others do not notice.
package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"coracle/controlplane/controller/deployment"
	"coracle/controlplane/controller/endpointslice"
	"coracle/controlplane/controller/gc"
	"coracle/controlplane/controller/loop"
	"coracle/controlplane/controller/namespace"
	"coracle/controlplane/controller/nodeipam"
	"coracle/controlplane/controller/nodelifecycle"
	"coracle/controlplane/controller/podgc"
	"coracle/controlplane/controller/replicaset"
	"coracle/controlplane/controller/rootca"
	"coracle/controlplane/controller/serviceaccount"
)

// Config of Controllers.
type Config struct {
	Client kubernetes.Interface // required; without rate limits
	// Metadata reads and deletes objects of any kind, for namespaces and garbage collection. Required.
	Metadata metadata.Interface
	// Informers is required. Its owner starts it after New, with a context that outlives Run.
	Informers informers.SharedInformerFactory
	RootCA    []byte // PEM, for kube-root-ca.crt in each namespace; empty: that ConfigMap is left alone
	// PodCIDR is cut into the nodes' ranges: one CIDR, or one of each family with a comma between. Empty: nodes
	// are given none.
	PodCIDR      string
	NodeMaskSize int // of the nodes' IPv4 ranges; default 24
	// Issuer fills service-account token Secrets of the older kind; nil: they stay empty.
	Issuer serviceaccount.Issuer
	Log    *slog.Logger       // required
	Clock  clock.PassiveClock // default: the real one
}

// Controllers of one cluster. Run may be called again after it returned, when the Lease is held again.
type Controllers struct {
	config Config
	parts  []part
	events recorders
}

// part is one controller's loop.
type part struct {
	name string
	run  func(context.Context) error
}

// New makes all controllers and their informers. It fails on an incomplete Config and on a PodCIDR that cannot be cut.
func New(config Config) (*Controllers, error) {
	if config.Client == nil || config.Metadata == nil || config.Informers == nil || config.Log == nil {
		return nil, errors.New("controllers: Client, Metadata, Informers and Log are required")
	}
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	c := &Controllers{config: config}
	env := loop.Env{
		Client: config.Client, Informers: config.Informers, Recorder: c.events.named, Log: config.Log, Now: config.Clock.Now,
	}
	var pools []nodeipam.Pool
	if config.PodCIDR != "" {
		var err error
		if pools, err = nodeipam.ParsePools(config.PodCIDR, config.NodeMaskSize); err != nil {
			return nil, fmt.Errorf("make the node address controller: %w", err)
		}
	}
	sets, err := replicaset.New(env)
	if err != nil {
		return nil, fmt.Errorf("make the replica set controller: %w", err)
	}
	deployments, err := deployment.New(env)
	if err != nil {
		return nil, fmt.Errorf("make the deployment controller: %w", err)
	}
	nodes, err := nodelifecycle.New(env)
	if err != nil {
		return nil, fmt.Errorf("make the node lifecycle controller: %w", err)
	}
	accounts := serviceaccount.New(env, config.RootCA, config.Issuer)
	c.parts = []part{
		{"namespace", namespace.New(env, config.Metadata).Run},
		{"serviceaccount", accounts.Run},
		{"serviceaccount-token", accounts.RunTokens},
		{"replicaset", sets.Run},
		{"deployment", deployments.Run},
		{"endpointslice", endpointslice.New(env).Run},
		{"nodelifecycle", nodes.Run},
		{"nodeipam", nodeipam.New(env, pools).Run},
		{"podgc", podgc.New(env).Run},
		{"gc", gc.New(env, config.Metadata).Run},
	}
	if len(config.RootCA) > 0 {
		c.parts = append(c.parts, part{"rootca", rootca.New(env, config.RootCA).Run})
	}
	return c, nil
}

// Run runs every controller until ctx ends and returns nil then.
func (c *Controllers) Run(ctx context.Context) error {
	// It outlives ctx, so that what was done last is told too.
	broadcaster := record.NewBroadcaster(record.WithContext(context.WithoutCancel(ctx)))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.config.Client.CoreV1().Events("")})
	c.events.use(broadcaster)
	var group errgroup.Group
	for _, p := range c.parts {
		group.Go(func() error {
			c.keep(ctx, p)
			return nil
		})
	}
	return group.Wait()
}

// The pause before a controller that ended is started again: doubled from the first to the cap.
const (
	firstPause = time.Second
	pauseCap   = time.Minute
)

// keep runs one controller, again and again if it ends before ctx does.
func (c *Controllers) keep(ctx context.Context, p part) {
	for pause := firstPause; ; pause = min(2*pause, pauseCap) {
		err := protect(ctx, p.run)
		if ctx.Err() != nil {
			return
		}
		c.config.Log.Error("controller ended, starting it again", "controller", p.name, "after", pause, "err", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func protect(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return run(ctx)
}

// recorders hands out event recorders before there is a broadcaster, which each Run makes anew.
type recorders struct {
	mu    sync.Mutex
	known []*recorder
}

func (r *recorders) named(component string) record.EventRecorder {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &recorder{component: component}
	r.known = append(r.known, out)
	return out
}

func (r *recorders) use(b record.EventBroadcaster) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.known {
		k.set(b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: k.component}))
	}
}

// Package shutdown ends the node's pods in good order when the machine shuts down: it holds an inhibitor lock of systemd's
// logind, and lets go of it once the pods have ended or their time is up.
//
//	PrepareForShutdown(true) ─▶ node not Ready, no new pods ─▶ groups by priority, lowest first ─▶ statuses told ─▶ lock released
//	PrepareForShutdown(false) ─▶ the shutdown was called off: Ready again, lock taken anew; pods that were ended stay ended
//
// It decides the order (plan.go, PURE) and talks to logind (logind.go); agent/podrun ends the pods. Where there is no logind it
// is off, which is said once, and looks again from time to time.
package shutdown

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

const (
	// lookAgain is how often a logind that was not there is looked for.
	lookAgain = time.Minute
	// connectAgain is when a connection that was lost is made anew.
	connectAgain = 5 * time.Second
	// endedEvery is how often it is asked, in a shutdown, whether the pods have ended.
	endedEvery = 100 * time.Millisecond
	// settle is how long the lock is kept for the last statuses to be told.
	settle = 2 * time.Second
)

// Pods are the pods of the node; agent/podrun.Runner.
type Pods interface {
	// Tenants are the pods that the node has taken and that have not ended.
	Tenants() []*v1.Pod
	End(uid types.UID, f pod.Failed) bool
}

// Config is what New needs. All is required unless it says otherwise.
type Config struct {
	// Graces by priority; empty: shutdowns are not waited with.
	Graces []Grace
	Pods   Pods
	// Bus connects to the machine's bus. Default: the system bus.
	Bus func(...dbus.ConnOption) (*dbus.Conn, error)
	// DropIns is the folder of logind's configuration that does not outlive the machine's run. Default: /run/systemd/logind.conf.d.
	DropIns string
	// Changed is told when a shutdown begins or is called off.
	Changed func()
	// Told waits until what was reported has reached the control plane, or ctx ends. Nil: nobody waits.
	Told func(ctx context.Context)
	// Event tells about the node.
	Event func(eventType, reason, message string)
	Log   *slog.Logger
}

// Shutdown follows the machine's shutdowns. Its questions are safe for concurrent use.
type Shutdown struct {
	cfg Config

	mu   sync.Mutex
	down bool
}

// New makes a Shutdown; Run starts it.
func New(cfg Config) *Shutdown {
	if cfg.Bus == nil {
		cfg.Bus = dbus.ConnectSystemBus
	}
	if cfg.DropIns == "" {
		cfg.DropIns = "/run/systemd/logind.conf.d"
	}
	return &Shutdown{cfg: cfg}
}

// Begun says that the machine shuts down.
func (s *Shutdown) Begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// Run works until ctx ends.
func (s *Shutdown) Run(ctx context.Context) error {
	if Total(s.cfg.Graces) == 0 {
		<-ctx.Done()
		return nil
	}
	said := ""
	for {
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if text := err.Error(); text != said {
			said = text
			if errors.Is(err, errNoLogind) {
				s.cfg.Log.Warn("a shutdown of this machine will not wait for pods: there is no systemd-logind to ask for it", "err", err)
			} else {
				s.cfg.Log.Warn("lost logind, connecting again", "err", err)
			}
		}
		pause := connectAgain
		if errors.Is(err, errNoLogind) {
			pause = lookAgain
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// follow holds the lock and does what shutdowns ask for, until ctx ends or the bus is lost.
func (s *Shutdown) follow(ctx context.Context) (err error) {
	l, err := connect(ctx, s.cfg.Bus)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	want := Total(s.cfg.Graces)
	if have, err := l.allow(ctx, s.cfg.DropIns, want); err != nil || have < want {
		s.cfg.Log.Warn("logind waits for less than pods may take: raise InhibitDelayMaxSec in its configuration", "want", want, "have", have, "err", err)
	}
	lock, err := l.inhibit(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release(&lock)) }()
	s.cfg.Log.Info("a shutdown of this machine waits for pods", "most", want)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case signal, open := <-l.signals:
			if !open {
				return errors.New("the system bus has closed the connection")
			}
			begins, ok := preparing(signal)
			if !ok {
				continue
			}
			if !s.set(begins) {
				continue
			}
			if begins {
				s.end(ctx)
				err = release(&lock)
			} else if lock == nil {
				lock, err = l.inhibit(ctx)
			}
			if err != nil {
				return err
			}
		}
	}
}

func release(lock **os.File) error {
	if *lock == nil {
		return nil
	}
	err := (*lock).Close()
	*lock = nil
	return err
}

// set notes whether a shutdown is under way, and says whether that is news.
func (s *Shutdown) set(down bool) bool {
	s.mu.Lock()
	news := s.down != down
	s.down = down
	s.mu.Unlock()
	if !news {
		return false
	}
	if down {
		s.cfg.Log.Info("the machine shuts down, ending pods")
		s.cfg.Event(v1.EventTypeNormal, "NodeShutdown", "Shutdown manager detected shutdown event")
	} else {
		s.cfg.Log.Info("the shutdown was called off")
	}
	s.cfg.Changed()
	return true
}

// end ends all pods, group by group, each for as long as it may take.
func (s *Shutdown) end(ctx context.Context) {
	for _, g := range Plan(s.cfg.Graces, s.cfg.Pods.Tenants()) {
		s.cfg.Log.Info("ending pods", "priority", g.Priority, "pods", len(g.Pods), "seconds", g.Seconds)
		waiting := map[types.UID]bool{}
		for _, p := range g.Pods {
			if s.cfg.Pods.End(p.UID, pod.Terminated(g.Seconds)) {
				waiting[p.UID] = true
			}
		}
		if left := s.wait(ctx, waiting, time.Duration(g.Seconds)*time.Second); left > 0 {
			s.cfg.Log.Warn("the machine shuts down before these pods have ended", "priority", g.Priority, "pods", left)
		}
	}
	if s.cfg.Told != nil {
		told, cancel := context.WithTimeout(ctx, settle)
		defer cancel()
		s.cfg.Told(told)
	}
}

// wait returns when none of these pods is left, or after d, with the number of those that are.
func (s *Shutdown) wait(ctx context.Context, these map[types.UID]bool, d time.Duration) int {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(endedEvery)
	defer tick.Stop()
	for {
		left := slices.DeleteFunc(s.cfg.Pods.Tenants(), func(p *v1.Pod) bool { return !these[p.UID] })
		if len(left) == 0 {
			return 0
		}
		select {
		case <-ctx.Done():
			return len(left)
		case <-end.C:
			return len(left)
		case <-tick.C:
		}
	}
}

package gateway

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
)

func waiting(reason string) v1.ContainerStatus {
	return v1.ContainerStatus{Name: "c", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason}}}
}

func TestInterimIsOnlyTheWayToTheFirstContainer(t *testing.T) {
	ran := waiting(reasonContainerCreating)
	ran.RestartCount = 1
	runs := v1.ContainerStatus{Name: "i", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}
	pending := func(init []v1.ContainerStatus, list ...v1.ContainerStatus) v1.PodStatus {
		return v1.PodStatus{Phase: v1.PodPending, InitContainerStatuses: init, ContainerStatuses: list}
	}
	for name, c := range map[string]struct {
		status   v1.PodStatus
		released bool
		want     bool
	}{
		"creating":                 {status: pending(nil, waiting(reasonContainerCreating)), want: true},
		"initializing":             {status: pending([]v1.ContainerStatus{waiting(reasonPodInitializing)}, waiting(reasonPodInitializing)), want: true},
		"released":                 {status: pending(nil, waiting(reasonContainerCreating)), released: true},
		"running":                  {status: v1.PodStatus{Phase: v1.PodRunning, ContainerStatuses: []v1.ContainerStatus{waiting(reasonContainerCreating)}}},
		"failed before containers": {status: v1.PodStatus{Phase: v1.PodFailed}},
		"refused image":            {status: pending(nil, waiting(reasonContainerCreating), waiting("ErrImagePull"))},
		"an init container runs":   {status: pending([]v1.ContainerStatus{runs}, waiting(reasonPodInitializing))},
		"started again":            {status: pending(nil, ran)},
		"says nothing yet":         {status: pending(nil)},
	} {
		if got := interim(podReport{status: &c.status, released: c.released}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestHeldValueWaitsForANewerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMailbox[string, string]("test")
		began := time.Now()
		var got []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- m.run(ctx, 1, quiet(), func(_ context.Context, k string) error {
				v, _ := m.get(k)
				got = append(got, k+" "+v+" "+time.Since(began).String())
				return nil
			})
		}()
		m.hold("a", "creating", time.Second)
		m.hold("b", "creating", time.Second)
		time.Sleep(100 * time.Millisecond) // of the bubble's clock
		m.hold("b", "created", time.Second)
		m.put("a", "running")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []string{"a running 100ms", "a running 1s", "b created 1s"}
		if slices.Sort(got); !slices.Equal(got[:min(3, len(got))], want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestInterimStatusIsToldWhenItLasts(t *testing.T) {
	c := newCluster(t, testPod("web", "u1", "n1"))
	n := c.node("n1")
	eventually(t, "assigned", func() error { return n.holds(map[string]bool{"pod default/web (u1)": true}) })
	n.outbox.SetPod("u1", "default", "web", v1.PodStatus{Phase: v1.PodPending, HostIP: "10.0.0.1", ContainerStatuses: []v1.ContainerStatus{waiting(reasonContainerCreating)}}, false)
	eventually(t, "status", func() error {
		if c.pod("web").Status.HostIP == "" {
			return errors.New("none")
		}
		return nil
	})
}

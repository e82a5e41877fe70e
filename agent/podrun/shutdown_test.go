package podrun

import (
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
)

// TestMachineShutdown: pods end as Kubernetes says it; after the reboot those of the node's own files run again, those of the API do not.
func TestMachineShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		r, stop := n.run(t)
		static, plain := fromFile(newPod("s1", "web")), newPod("u1", "web")
		n.store.assign(static)
		n.store.assign(mirrorOf(static, "m1"))
		n.store.assign(plain)
		n.pass(time.Second)
		if len(r.Tenants()) != 2 {
			t.Fatalf("%d pods are counted in", len(r.Tenants()))
		}
		for _, p := range r.Tenants() {
			r.End(p.UID, pod.Terminated(5))
		}
		n.pass(30 * time.Second)
		for _, uid := range []types.UID{"u1", "m1"} {
			s, _, _ := n.outbox.Last(uid)
			if s.Phase != v1.PodFailed || s.Reason != "Terminated" || s.Message != "Pod was terminated in response to imminent node shutdown." ||
				conditionIn(s, v1.DisruptionTarget).Reason != v1.PodReasonTerminationByKubelet {
				t.Errorf("%s: %+v", uid, s)
			}
		}
		if len(r.Tenants()) != 0 {
			t.Errorf("%d pods are still counted in", len(r.Tenants()))
		}
		stop()

		r, stop = n.run(t)
		defer stop()
		n.pass(time.Minute)
		if !n.ready("s1") || !n.ready("m1") {
			s, _, _ := n.outbox.Last("s1")
			t.Errorf("the pod of the node's own files is not ready after the reboot: %+v", s)
		}
		if s, _, _ := n.outbox.Last("u1"); s.Phase != v1.PodFailed || len(r.Tenants()) != 1 {
			t.Errorf("the pod of the API began anew: %s; %d are counted in", s.Phase, len(r.Tenants()))
		}
	})
}

// TestDeadContainersGo: those of an evicted pod at once, those of another ended pod when the disk is short; what is known of them stays.
func TestDeadContainersGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.runtime.behave["job"] = behaviour{exitAfter: time.Second}
		r, stop := n.run(t)
		defer stop()
		job, web := newPod("u1", "job"), newPod("u2", "web")
		job.Spec.RestartPolicy = v1.RestartPolicyNever
		n.store.assign(job)
		n.store.assign(web)
		n.pass(5 * time.Second)
		r.End("u2", pod.Failed{Reason: "Evicted", Message: "x"})
		n.pass(time.Minute)
		if len(n.runtime.pods["u1"].Containers) != 1 || len(n.runtime.pods["u2"].Containers) != 0 {
			t.Fatalf("containers: %d of the job, %d of the evicted pod", len(n.runtime.pods["u1"].Containers), len(n.runtime.pods["u2"].Containers))
		}
		if asked := r.DropDead(); asked != 2 {
			t.Errorf("asked for %d pods", asked)
		}
		if again := r.DropDead(); again != 0 {
			t.Errorf("asked again for %d pods", again)
		}
		n.pass(time.Minute)
		if left := len(n.runtime.pods["u1"].Containers); left != 0 {
			t.Errorf("%d containers of the job are left", left)
		}
		for uid, phase := range map[types.UID]v1.PodPhase{"u1": v1.PodSucceeded, "u2": v1.PodFailed} {
			s, _, _ := n.outbox.Last(uid)
			if s.Phase != phase || len(s.ContainerStatuses) != 1 || s.ContainerStatuses[0].State.Terminated == nil || s.ContainerStatuses[0].ContainerID == "" {
				t.Errorf("%s: %+v", uid, s)
			}
		}
	})
}

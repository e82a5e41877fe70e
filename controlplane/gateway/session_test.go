package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"coracle/agent/identity"
	"coracle/agent/store"
	"coracle/controlplane/pki"
	"coracle/internal/fault"
	"coracle/internal/liveness"
	"coracle/internal/testwait"
	nodev1 "coracle/proto/node/v1"
)

func TestLifeOfAPod(t *testing.T) {
	ctx := context.Background()
	c := newCluster(t)
	n := c.node("n1")
	eventually(t, "node registered", func() error {
		node, err := c.api.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if node.Labels["site"] != "north" || node.Labels["node-restriction.kubernetes.io/x"] != "" {
			return fmt.Errorf("labels %v", node.Labels)
		}
		if len(node.Status.Conditions) != 1 {
			return fmt.Errorf("conditions %v", node.Status.Conditions)
		}
		return nil
	})
	for _, pod := range []*v1.Pod{testPod("web", "u1", "n1"), testPod("other", "u2", "n2")} {
		if _, err := c.api.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"web-cfg", "other-cfg"} {
		if _, err := c.api.CoreV1().ConfigMaps("default").Create(ctx, &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]bool{"pod default/web (u1)": true, "configmap default/web-cfg": true}
	eventually(t, "assigned, and nothing of another node", func() error { return n.holds(want) })

	n.outbox.SetPod("u1", "default", "web", running("10.0.0.7"), false)
	eventually(t, "status", func() error {
		if p := c.pod("web"); p.Status.PodIP != "10.0.0.7" {
			return fmt.Errorf("status %+v", p.Status)
		}
		return nil
	})
	eventually(t, "acknowledged", func() error {
		if !n.outbox.Empty() {
			return errors.New("outbox not empty")
		}
		return nil
	})

	// Marked for deletion: the node hears of it, says that nothing is left, and the object goes.
	p := c.pod("web")
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Now()}, ptr.To[int64](30)
	if _, err := c.api.CoreV1().Pods("default").Update(ctx, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "node hears of the deletion", func() error {
		if p, ok := n.store.Pod("u1"); !ok || p.DeletionTimestamp == nil {
			return errors.New("not marked")
		}
		return nil
	})
	n.outbox.SetPod("u1", "default", "web", v1.PodStatus{Phase: v1.PodSucceeded}, true)
	eventually(t, "object gone", func() error {
		if c.pod("web") != nil {
			return errors.New("still there")
		}
		return n.holds(nil)
	})
}

// What the node itself reports must not come back to it as a change.
func TestOwnStatusIsNotEchoed(t *testing.T) {
	c := newCluster(t, testPod("web", "u1", "n1"), testPod("last", "u2", "n1"))
	n := c.node("n1")
	want := map[string]bool{"pod default/web (u1)": true, "pod default/last (u2)": true}
	eventually(t, "assigned", func() error {
		if _, ok := n.store.Node(); !ok {
			return errors.New("no node")
		}
		return n.holds(want)
	})
	changes := n.store.Watch()
	n.outbox.SetPod("u1", "default", "web", running("10.0.0.7"), false)
	eventually(t, "status", func() error {
		if c.pod("web").Status.PodIP == "" {
			return errors.New("none")
		}
		return nil
	})
	// The next change comes after any echo would.
	p := c.pod("last")
	p.Labels = map[string]string{"a": "b"}
	if _, err := c.api.CoreV1().Pods("default").Update(context.Background(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	got := testwait.Receive(t, "the change of the other pod", changes)
	for got.Kind != store.KindPod { // of before, told late
		got = testwait.Receive(t, "the change of the other pod", changes)
	}
	if got.Name != "last" {
		t.Errorf("the first change is %+v", got)
	}
}

// While the node is away somebody writes that its pods are not ready; when it is back, what it says stands again.
func TestReconnectPutsStatusRight(t *testing.T) {
	ctx := context.Background()
	c := newCluster(t, testPod("web", "u1", "n1"))
	n := c.node("n1")
	n.outbox.SetPod("u1", "default", "web", running("10.0.0.7"), false)
	ready := func() error {
		if p := c.pod("web"); len(p.Status.Conditions) != 1 || p.Status.Conditions[0].Status != v1.ConditionTrue {
			return fmt.Errorf("conditions %v", p.Status.Conditions)
		}
		return nil
	}
	eventually(t, "ready", ready)
	n.stop()
	p := c.pod("web")
	p.Status.Conditions[0].Status = v1.ConditionFalse
	if _, err := c.api.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.outbox.SetPod("u1", "default", "web", running("10.0.0.7"), false)
	eventually(t, "ready again", ready)
	n.cut()
	eventually(t, "connected again", func() error {
		if !n.session.State().Connected {
			return errors.New(n.session.State().LastError)
		}
		return nil
	})
	// Also over a connection that stands.
	p = c.pod("web")
	p.Status.Conditions[0].Status = v1.ConditionFalse
	if _, err := c.api.CoreV1().Pods("default").UpdateStatus(ctx, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready a third time", ready)
}

func TestJoinRefusals(t *testing.T) {
	c := newCluster(t)
	elsewhere, err := pki.Ensure(filepath.Join(t.TempDir(), "pki"), pki.Options{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	secrets := c.api.CoreV1().Secrets("kube-system")
	for name, tc := range map[string]struct {
		change func(*identity.JoinConfig)
		secret *v1.Secret
		want   error
		text   string
	}{
		"wrong token":   {func(j *identity.JoinConfig) { j.Token = "abcdef.ffffffffffffffff" }, nil, identity.ErrWrongToken, "no such token"},
		"unknown token": {func(j *identity.JoinConfig) { j.Token = "zzzzzz.ffffffffffffffff" }, nil, identity.ErrWrongToken, "no such token"},
		"no token":      {func(j *identity.JoinConfig) { j.Token = "hello" }, nil, identity.ErrWrongToken, "must look like"},
		"expired token": {func(*identity.JoinConfig) {}, tokenSecret("2020-01-01T00:00:00Z"), identity.ErrWrongToken, "2020-01-01"},
		"wrong hash":    {func(j *identity.JoinConfig) { j.CAHash = elsewhere.CAHash() }, nil, identity.ErrWrongCAHash, "token was not sent"},
		"bad name":      {func(j *identity.JoinConfig) { j.NodeName = "Under_Score" }, nil, fault.ErrInvalid, "Under_Score"},
		"no server":     {func(j *identity.JoinConfig) { j.Server = "127.0.0.1:1" }, nil, fault.ErrUnavailable, "cannot reach"},
	} {
		t.Run(name, func(t *testing.T) {
			secret := tc.secret
			if secret == nil {
				secret = tokenSecret("")
			}
			if _, err := secrets.Update(context.Background(), secret, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			j := identity.JoinConfig{Server: c.address, Token: goodToken, CAHash: c.pki.CAHash(), NodeName: "n1", Dir: t.TempDir(), Log: quiet()}
			tc.change(&j)
			_, err := identity.Join(context.Background(), j)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v with %q", err, tc.want, tc.text)
			}
			if strings.Contains(fmt.Sprint(err), "ffffffffffffffff") {
				t.Errorf("the token is in the error: %v", err)
			}
			if _, err := identity.Load(j.Dir, quiet()); !errors.Is(err, identity.ErrNotJoined) {
				t.Errorf("an identity was left behind: %v", err)
			}
		})
	}
}

func TestJoinIsSlowedDownAfterRefusals(t *testing.T) {
	c := newCluster(t)
	join := func(token string) error {
		_, err := identity.Join(context.Background(), identity.JoinConfig{Server: c.address, Token: token, CAHash: c.pki.CAHash(), NodeName: "n1", Dir: t.TempDir(), Log: quiet()})
		return err
	}
	c.clock.stand() // each six seconds forgive one attempt, and a busy machine takes them
	for i := range joinBurst {
		if err := join(fmt.Sprintf("abcdef.%016d", i)); !errors.Is(err, identity.ErrWrongToken) {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	if err := join(goodToken); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("not slowed down: %v", err)
	}
	c.clock.advance(time.Minute)
	if err := join(goodToken); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestJoinUnderTheNameOfANodeThatIsConnected(t *testing.T) {
	c := newCluster(t)
	c.connectedNode("n1")
	if _, err := c.join("n1", t.TempDir()); !errors.Is(err, fault.ErrConflict) || !strings.Contains(err.Error(), "connected now") {
		t.Errorf("got %v, want a conflict", err)
	}
}

func (c *cluster) connectedNode(name string) *node {
	c.t.Helper()
	n := c.node(name)
	eventually(c.t, "connected", func() error {
		if !n.session.State().Connected || c.gateway.session(name) == nil {
			return fmt.Errorf("state %+v", n.session.State())
		}
		return nil
	})
	return n
}

func TestCertificateOfAnotherCluster(t *testing.T) {
	c, other := newCluster(t), newCluster(t)
	dir := t.TempDir()
	if _, err := other.join("n1", dir); err != nil {
		t.Fatal(err)
	}
	// The files name this cluster's CA, but the certificate is the other's.
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), c.pki.CAPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	n := &node{c: c, name: "n1", dir: t.TempDir(), streams: echo{}}
	var err error
	if n.id, err = identity.Load(dir, quiet()); err != nil {
		t.Fatal(err)
	}
	n.start()
	defer n.stop()
	eventually(t, "refused in words", func() error {
		if s := n.session.State(); !strings.Contains(s.LastError, "not issued by this cluster") {
			return fmt.Errorf("state %+v", s)
		}
		return nil
	})
	if c.gateway.Sessions() != 0 {
		t.Error("let in")
	}
}

func TestExpiredCertificateIsRenewedByProofOfKey(t *testing.T) {
	c := newCluster(t)
	n := c.connectedNode("n1")
	eventually(t, "registered", func() error {
		_, err := c.api.CoreV1().Nodes().Get(context.Background(), "n1", metav1.GetOptions{})
		return err
	})
	before := n.id.NotAfter()
	n.stop()
	c.stop()
	// The machine lay switched off until some weeks after the certificate's end.
	c.clock.advance(before.Sub(c.clock.now()) + 30*24*time.Hour)
	p, err := pki.Ensure(c.pki.Dir, pki.Options{Log: quiet(), Now: c.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	c.pki = p
	c.start(c.address)
	n.start()
	eventually(t, "renewed and connected", func() error {
		if !n.id.NotAfter().After(c.clock.now()) || !n.session.State().Connected {
			return fmt.Errorf("until %v, state %+v", n.id.NotAfter(), n.session.State())
		}
		return nil
	})
	again, err := identity.Load(filepath.Join(n.dir, "identity"), quiet())
	if err != nil || !again.NotAfter().Equal(n.id.NotAfter()) {
		t.Errorf("the renewed certificate is not on disk: %v", err)
	}
}

func TestCertificateExpiredTooLongAgo(t *testing.T) {
	c := newCluster(t)
	n := c.connectedNode("n1")
	before := n.id.NotAfter()
	n.stop()
	c.stop()
	c.clock.advance(before.Sub(c.clock.now()) + renewGrace + time.Hour)
	p, err := pki.Ensure(c.pki.Dir, pki.Options{Log: quiet(), Now: c.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	c.pki = p
	c.start(c.address)
	n.start()
	eventually(t, "refused in words", func() error {
		if s := n.session.State(); !strings.Contains(s.LastError, "expired at") || !strings.Contains(s.LastError, "coracle-agent join") {
			return fmt.Errorf("state %+v", s)
		}
		return nil
	})
}

func TestPollHangsUpWhenEverythingIsSaid(t *testing.T) {
	c := newCluster(t, testPod("web", "u1", "n1"))
	n := &node{c: c, name: "n1", dir: t.TempDir(), streams: echo{}, poll: time.Hour}
	var err error
	if n.id, err = c.join("n1", filepath.Join(n.dir, "identity")); err != nil {
		t.Fatal(err)
	}
	n.start()
	defer func() { n.stop() }()
	n.outbox.SetPod("u1", "default", "web", running("10.0.0.7"), false)
	eventually(t, "exchanged and hung up", func() error {
		if c.gateway.Sessions() != 0 || !n.outbox.Empty() || n.session.State().Connected {
			return fmt.Errorf("sessions %d, state %+v", c.gateway.Sessions(), n.session.State())
		}
		return n.holds(map[string]bool{"pod default/web (u1)": true})
	})
	if got := n.session.State().LastError; got != "" {
		t.Errorf("a poll ended with an error: %s", got)
	}
}

func TestLeaseSaysWhoIsConnected(t *testing.T) {
	ctx := context.Background()
	c := newCluster(t)
	n := c.connectedNode("n1")
	read := func() (liveness.Session, error) {
		lease, err := c.api.CoordinationV1().Leases(liveness.NodeLeaseNamespace).Get(ctx, "n1", metav1.GetOptions{})
		return liveness.ReadSession(lease), err
	}
	eventually(t, "lease names the gateway", func() error {
		s, err := read()
		if err == nil && (!s.Live() || s.Gateway != "cp-1") {
			err = fmt.Errorf("%+v", s)
		}
		return err
	})
	if !c.gateway.Alive("n1") || c.gateway.Alive("n2") {
		t.Error("Alive is wrong")
	}
	n.stop()
	eventually(t, "session over", func() error {
		if c.gateway.Sessions() != 0 {
			return errors.New("still counted")
		}
		return nil
	})
	c.clock.advance(endDelay)
	c.gateway.leases.put("n1", struct{}{})
	eventually(t, "lease says that it ended", func() error {
		s, err := read()
		if err == nil && s.Live() {
			err = errors.New("still live")
		}
		return err
	})
	n.start()
	eventually(t, "and that it is back", func() error {
		s, err := read()
		if err == nil && !s.Live() {
			err = errors.New("still ended")
		}
		return err
	})
}

func TestStreamReachesTheNode(t *testing.T) {
	c := newCluster(t)
	c.connectedNode("n1")
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	s, err := c.gateway.Open(ctx, "n1", &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Exec{Exec: &nodev1.Exec{Container: "box"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Send(&nodev1.Frame{Data: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Recv(); err != nil || string(f.GetData()) != "hello" {
		t.Fatalf("%v %v", f, err)
	}
	if err := s.Send(&nodev1.Frame{Close: true}); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Recv(); err != nil || f.GetResult().GetExitCode() != 7 || f.GetResult().GetError() != "box" {
		t.Fatalf("%v %v", f, err)
	}
	if _, err := c.gateway.Open(ctx, "n2", &nodev1.StreamRequest{}); err == nil || !strings.Contains(err.Error(), `node "n2" is not connected`) {
		t.Errorf("got %v", err)
	}
}

func TestStoreIsNotAskedForKindsItDoesNotKnow(t *testing.T) {
	c := newCluster(t)
	n := c.connectedNode("n1")
	// Left by a newer agent: the gateway does not know the kind and takes it away.
	n.stop()
	s, err := store.Open(filepath.Join(n.dir, "store.db"), quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutObject(store.Object{Kind: "Novelty", Namespace: "a", Name: "b", UID: "c"}); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	n.start()
	eventually(t, "taken away", func() error { return n.holds(nil) })
}

package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"

	"coracle/agent/store"
	"coracle/internal/testwait"
	nodev1 "coracle/proto/node/v1"
)

// Pods and what they name come, change and go while the connection is cut, the agent is
// killed and the gateway is restarted: in the end the node holds what it should, and the API
// says of each pod what the node said last.
func TestAnyInterleavingOfDisconnectsConverges(t *testing.T) {
	// Each run starts real servers, so these are few; the pure half of the same property is TestViewConverges.
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { interleave(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

func interleave(t *testing.T, random *rand.Rand) {
	ctx := context.Background()
	c := newCluster(t)
	n := c.node("n1")
	pods, maps := c.api.CoreV1().Pods("default"), c.api.CoreV1().ConfigMaps("default")
	want, said, version := map[string]bool{}, map[string]string{}, 0
	live := map[string]string{} // by name: uid
	kinds := []string{"create", "create", "delete", "config", "status", "status", "cut", "cut", "kill agent", "restart gateway"}
	var steps []string
	for range 5 + random.IntN(20) {
		name := []string{"a", "b", "c", "d"}[random.IntN(4)]
		step := kinds[random.IntN(len(kinds))]
		steps = append(steps, step+" "+name)
		version++
		switch step {
		case "create":
			if live[name] == "" {
				uid := fmt.Sprintf("u%d", version)
				if _, err := pods.Create(ctx, testPod(name, uid, "n1"), metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				live[name] = uid
			}
		case "delete":
			if live[name] != "" {
				if err := pods.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				delete(live, name)
				delete(said, name)
			}
		case "config":
			cm := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name + "-cfg"}, Data: map[string]string{"v": fmt.Sprint(version)}}
			if _, err := maps.Update(ctx, cm, metav1.UpdateOptions{}); err != nil {
				if _, err := maps.Create(ctx, cm, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			want["configmap default/"+name+"-cfg"] = true
		case "status":
			if uid := live[name]; uid != "" {
				said[name] = fmt.Sprintf("10.0.0.%d", version)
				n.outbox.SetPod(testPod(name, uid, "").UID, "default", name, running(said[name]), false)
			}
		case "cut":
			n.cut()
		case "kill agent":
			n.restart()
			for name, ip := range said { // as podrun does after a start
				n.outbox.SetPod(testPod(name, live[name], "").UID, "default", name, running(ip), false)
			}
		case "restart gateway":
			c.stop()
			c.start(c.address)
		}
	}
	expect := map[string]bool{}
	for name, uid := range live {
		expect[store.Key{Kind: store.KindPod, Namespace: "default", Name: name, UID: uid}.String()] = true
		if cfg := "configmap default/" + name + "-cfg"; want[cfg] {
			expect[cfg] = true
		}
	}
	eventually(t, fmt.Sprint("the node holds what it should after ", steps), func() error { return n.holds(expect) })
	for name := range live {
		cm, err := maps.Get(ctx, name+"-cfg", metav1.GetOptions{})
		if err == nil {
			eventually(t, "newest config", func() error {
				if held, ok := n.store.ConfigMap("default", cm.Name); !ok || held.Data["v"] != cm.Data["v"] {
					return fmt.Errorf("%s: %v", cm.Name, held)
				}
				return nil
			})
		}
	}
	for name, ip := range said {
		eventually(t, "last status of "+name, func() error {
			if p := c.pod(name); p == nil || p.Status.PodIP != ip {
				return fmt.Errorf("got %v, want %s", p, ip)
			}
			return nil
		})
	}
	eventually(t, "everything acknowledged", func() error {
		if !n.outbox.Empty() {
			return errors.New("outbox not empty")
		}
		return nil
	})
	n.stop()
	c.stop()
	n.stop, c.stop = func() {}, func() {}
}

// A hundred pods report at once; none waits for another, though each write takes a while.
func TestAHundredPodsAtOnce(t *testing.T) {
	c := newCluster(t)
	n := c.node("n1")
	ctx := context.Background()
	for i := range 100 {
		if _, err := c.api.CoreV1().Pods("default").Create(ctx, testPod(fmt.Sprint("p", i), fmt.Sprint("u", i), "n1"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "assigned", func() error {
		if got := len(n.store.Pods()); got != 100 {
			return fmt.Errorf("%d pods", got)
		}
		return nil
	})
	for round := range 3 {
		for i := range 100 {
			n.outbox.SetPod(testPod("", fmt.Sprint("u", i), "").UID, "default", fmt.Sprint("p", i), running(fmt.Sprintf("10.0.%d.%d", round, i)), false)
		}
	}
	eventually(t, "all statuses", func() error {
		for i := range 100 {
			if got := c.pod(fmt.Sprint("p", i)).Status.PodIP; got != fmt.Sprintf("10.0.2.%d", i) {
				return fmt.Errorf("pod %d has %s", i, got)
			}
		}
		return nil
	})
}

// A stream asked of one gateway reaches a node that is connected to another.
func TestStreamIsForwardedToTheGatewayThatHoldsTheSession(t *testing.T) {
	c := newCluster(t)
	c.connectedNode("n1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(c.api, 0)
	other, err := New(Config{
		Client: c.api, Informers: factory, Signer: c.pki, CAPEM: c.pki.CAPEM, GetCertificate: c.pki.Gateway.GetCertificate,
		GetPeerCertificate: func() (*tls.Certificate, error) { return c.pki.Gateway.Certificate(), nil },
		Listener:           l, Name: "cp-2", Log: quiet(), Now: c.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	running, cancel := context.WithCancel(context.Background())
	factory.Start(running.Done())
	t.Cleanup(func() { cancel(); factory.Shutdown() })
	testwait.Run(t, "the other gateway", other.Run)
	eventually(t, "the other gateway knows where the node is", func() error {
		if !other.Alive("n1") {
			return errors.New("not alive")
		}
		return nil
	})
	ctx, giveUp := context.WithTimeout(t.Context(), testwait.Patience)
	defer giveUp()
	s, err := other.Open(ctx, "n1", &nodev1.StreamRequest{Request: &nodev1.StreamRequest_Exec{Exec: &nodev1.Exec{Container: "box"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var wg sync.WaitGroup
	defer testwait.End(t, "sending", wg.Wait)
	wg.Go(func() {
		_ = s.Send(&nodev1.Frame{Data: []byte("hello")})
		_ = s.Send(&nodev1.Frame{Close: true})
	})
	if f, err := s.Recv(); err != nil || string(f.GetData()) != "hello" {
		t.Fatalf("%v %v", f, err)
	}
	if f, err := s.Recv(); err != nil || f.GetResult().GetExitCode() != 7 {
		t.Fatalf("%v %v", f, err)
	}
}

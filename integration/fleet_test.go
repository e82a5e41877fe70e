package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"coracle/agent/identity"
	nodev1 "coracle/proto/node/v1"
)

// fleet is a number of nodes without containers: each joins by token, holds a session of its own and says of every pod
// that it is given that it runs.
type fleet struct {
	nodes []*simNode
	work  errgroup.Group
	stop  context.CancelFunc
}

// startFleet joins n nodes to the control plane and returns when each has been told that it holds everything.
func startFleet(t testing.TB, c *cluster, prefix string, n int) *fleet {
	t.Helper()
	token, err := c.token("token")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := c.token("ca-hash")
	if err != nil {
		t.Fatal(err)
	}
	dir, server := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", c.gwPort)
	ctx, cancel := context.WithCancel(context.Background())
	f := &fleet{stop: cancel}
	t.Cleanup(func() { f.end(t) })
	var joins errgroup.Group
	joins.SetLimit(8)
	f.nodes = make([]*simNode, n)
	for i := range n {
		node := &simNode{name: fmt.Sprintf("%s-%03d", prefix, i), number: i, server: server, complete: make(chan struct{}), pods: map[string]uint64{}}
		f.nodes[i] = node
		joins.Go(func() (err error) {
			node.id, err = identity.Join(ctx, identity.JoinConfig{
				Server: server, Token: token, CAHash: hash, NodeName: node.name, Dir: filepath.Join(dir, node.name), Log: slog.New(slog.DiscardHandler),
			})
			return err
		})
	}
	if err := joins.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, node := range f.nodes {
		f.work.Go(func() error {
			var err error
			for range 5 { // where the machine stood still for too long, the gateway has hung up
				err = node.session(ctx)
				if ctx.Err() != nil { // the end of the test ends the session
					break
				}
			}
			if ctx.Err() == nil {
				return fmt.Errorf("session of %s: %w", node.name, err)
			}
			return nil
		})
	}
	deadline := time.After(slack * 90 * time.Second)
	for _, node := range f.nodes {
		select {
		case <-node.complete:
		case <-deadline:
			t.Fatalf("node %s was never told that it holds everything", node.name)
		}
	}
	return f
}

func (f *fleet) end(t testing.TB) {
	f.stop()
	if err := f.work.Wait(); err != nil {
		t.Error(err)
	}
}

// unacknowledged is how many reports of pods the gateway has not yet taken.
func (f *fleet) unacknowledged() (n int) {
	for _, node := range f.nodes {
		node.mu.Lock()
		n += len(node.pods)
		node.mu.Unlock()
	}
	return n
}

// simNode speaks the node's end of the wire protocol.
type simNode struct {
	name     string
	number   int
	server   string
	id       *identity.Identity
	complete chan struct{}

	completed sync.Once

	mu       sync.Mutex
	sequence uint64
	pods     map[string]uint64 // by uid: sequence of the report that is not acknowledged
	rpc      nodev1.Node_SessionClient
}

// session is one connection, from hello to its end.
func (n *simNode) session(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+n.server, grpc.WithTransportCredentials(credentials.NewTLS(n.id.TLS("127.0.0.1", func() []time.Time { return []time.Time{time.Now()} }))))
	if err != nil {
		return err
	}
	defer conn.Close()
	group, ctx := errgroup.WithContext(ctx)
	if n.rpc, err = nodev1.NewNodeClient(conn).Session(ctx); err != nil {
		return err
	}
	if err := n.send(&nodev1.AgentMessage{Message: &nodev1.AgentMessage_Hello{Hello: &nodev1.Hello{Version: "simulated", BootId: n.name}}}); err != nil {
		return err
	}
	n.mu.Lock()
	n.pods = map[string]uint64{} // it said that it holds nothing: all comes anew
	n.mu.Unlock()
	first, err := n.rpc.Recv()
	if err != nil {
		return err
	}
	welcome := first.GetWelcome()
	if welcome == nil || welcome.GetHeartbeatSeconds() < 1 {
		return errors.New("the gateway's first message is no welcome with a heartbeat")
	}
	if err := n.report(); err != nil {
		return err
	}
	group.Go(func() error { return n.receive() })
	group.Go(func() error {
		tick := time.NewTicker(time.Duration(welcome.GetHeartbeatSeconds()) * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
				if err := n.send(&nodev1.AgentMessage{Message: &nodev1.AgentMessage_Heartbeat{Heartbeat: &nodev1.Heartbeat{}}}); err != nil {
					return err
				}
			}
		}
	})
	return group.Wait()
}

func (n *simNode) send(m *nodev1.AgentMessage) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rpc.Send(m)
}

func (n *simNode) receive() error {
	for {
		m, err := n.rpc.Recv()
		if err != nil {
			return err
		}
		switch m := m.GetMessage().(type) {
		case *nodev1.GatewayMessage_Assign:
			if m.Assign.GetKind() == "Pod" {
				err = n.run(m.Assign)
			}
		case *nodev1.GatewayMessage_Complete:
			if err = n.send(&nodev1.AgentMessage{Message: &nodev1.AgentMessage_Applied{Applied: &nodev1.Applied{N: m.Complete.GetN()}}}); err == nil && m.Complete.GetN() == 1 {
				n.completed.Do(func() { close(n.complete) })
			}
		case *nodev1.GatewayMessage_StatusAck:
			n.mu.Lock()
			if a := m.StatusAck; a.GetKind() == nodev1.StatusAck_POD && n.pods[a.GetUid()] <= a.GetSequence() {
				delete(n.pods, a.GetUid())
			}
			n.mu.Unlock()
		}
		if err != nil {
			return err
		}
	}
}

// run reports a pod as Running and Ready, or, when it is to go, as gone.
func (n *simNode) run(o *nodev1.Object) error {
	p := &corev1.Pod{}
	if err := p.Unmarshal(o.GetData()); err != nil {
		return fmt.Errorf("pod %s/%s: %w", o.GetNamespace(), o.GetName(), err)
	}
	status := simStatus(p, n.number)
	rec, err := status.Marshal()
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sequence++
	n.pods[o.GetUid()] = n.sequence
	return n.rpc.Send(&nodev1.AgentMessage{Message: &nodev1.AgentMessage_PodStatus{PodStatus: &nodev1.PodStatus{
		Uid: o.GetUid(), Namespace: o.GetNamespace(), Name: o.GetName(), Sequence: n.sequence, Status: rec, Released: p.DeletionTimestamp != nil,
	}}})
}

// simStatus is what an agent would say of the pod: all its containers run.
func simStatus(p *corev1.Pod, node int) *corev1.PodStatus {
	since := metav1.NewTime(p.CreationTimestamp.Add(time.Second))
	s := &corev1.PodStatus{Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.212.%d.%d", node, 2+since.Unix()%250), HostIP: "127.0.0.1", StartTime: &since, QOSClass: corev1.PodQOSBestEffort}
	s.PodIPs, s.HostIPs = []corev1.PodIP{{IP: s.PodIP}}, []corev1.HostIP{{IP: s.HostIP}}
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled, corev1.PodReadyToStartContainers} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: since})
	}
	started := true
	for _, c := range p.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image + "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
			ContainerID: "containerd://" + string(p.UID) + "-" + c.Name, Ready: true, Started: &started,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: since}},
		})
	}
	return s
}

// report says what the node is and that it is Ready.
func (n *simNode) report() error {
	now := metav1.Now()
	can := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{corev1.LabelHostname: n.name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"}},
		Status: corev1.NodeStatus{
			Capacity: can, Allocatable: can,
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: net.IPv4(10, 213, 0, byte(n.number+1)).String()}, {Type: corev1.NodeHostName, Address: n.name}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "simulated", LastHeartbeatTime: now, LastTransitionTime: now}},
		},
	}
	rec, err := node.Marshal()
	if err != nil {
		return err
	}
	return n.send(&nodev1.AgentMessage{Message: &nodev1.AgentMessage_NodeStatus{NodeStatus: &nodev1.NodeStatus{Sequence: 1, Node: rec}}})
}

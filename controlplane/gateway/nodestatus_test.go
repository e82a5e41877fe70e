package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNodeEvents(t *testing.T) {
	status := func(boot string, conditions ...string) *v1.NodeStatus {
		s := &v1.NodeStatus{NodeInfo: v1.NodeSystemInfo{BootID: boot}}
		for _, c := range conditions {
			kind, value, _ := strings.Cut(c, "=")
			s.Conditions = append(s.Conditions, v1.NodeCondition{Type: v1.NodeConditionType(kind), Status: v1.ConditionStatus(value)})
		}
		return s
	}
	none := &v1.NodeStatus{}
	calm := []string{"MemoryPressure=False", "DiskPressure=False", "PIDPressure=False", "Ready=True"}
	for name, tc := range map[string]struct {
		before, after *v1.NodeStatus
		want          string
	}{
		"new":             {none, status("a", calm...), "NodeHasSufficientMemory NodeHasNoDiskPressure NodeHasSufficientPID NodeReady"},
		"new, not ready":  {none, status("a", "Ready=False"), ""},
		"nothing":         {status("a", calm...), status("a", calm...), ""},
		"becomes ready":   {status("a", "Ready=False"), status("a", "Ready=True"), "NodeReady"},
		"comes back":      {status("a", "Ready=Unknown"), status("a", "Ready=True"), "NodeReady"},
		"fails":           {status("a", "Ready=True"), status("a", "Ready=False"), "NodeNotReady"},
		"nobody knows":    {status("a", "Ready=True"), status("a", "Ready=Unknown"), ""},
		"under pressure":  {status("a", "DiskPressure=False", "PIDPressure=False"), status("a", "DiskPressure=True", "PIDPressure=True"), "NodeHasDiskPressure NodeHasInsufficientPID"},
		"memory is short": {status("a", "MemoryPressure=False"), status("a", "MemoryPressure=True"), "NodeHasInsufficientMemory"},
		"rebooted":        {status("a", "Ready=True"), status("b", "Ready=True"), "Rebooted"},
	} {
		var got []string
		for _, e := range nodeEvents("n1", tc.before, tc.after) {
			got = append(got, e.reason)
			if !strings.Contains(e.message, "n1") {
				t.Errorf("%s: %q does not name the node", name, e.message)
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
}

func TestDeletedNodeIsRegisteredAgain(t *testing.T) {
	ctx := context.Background()
	c := newCluster(t)
	n := c.connectedNode("n1")
	ready := func() error {
		node, err := c.api.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		if err == nil && nodeCondition(&node.Status, v1.NodeReady) != v1.ConditionTrue {
			err = fmt.Errorf("conditions %v", node.Status.Conditions)
		}
		return err
	}
	acknowledged := func() error {
		if !n.outbox.Empty() {
			return errors.New("the agent's report is not acknowledged")
		}
		return nil
	}
	eventually(t, "registered", ready)
	eventually(t, "taken", acknowledged)
	for range 2 {
		if err := c.api.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "registered again", ready)
	}
	eventually(t, "told each time", func() error {
		events, err := c.api.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		count := len(slices.DeleteFunc(events.Items, func(e v1.Event) bool {
			return e.Reason != "NodeReady" || e.InvolvedObject.Name != "n1" || e.Source.Host != "n1"
		}))
		if count != 3 {
			return fmt.Errorf("%d events NodeReady", count)
		}
		return nil
	})
	// One that has gone stays away.
	n.stop()
	eventually(t, "session over", func() error {
		if c.gateway.Sessions() != 0 {
			return errors.New("still counted")
		}
		return nil
	})
	if err := c.api.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.gateway.reportNode(ctx, "n1"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.api.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a node that is not connected was registered: %v", err)
	}
	n.start()
	eventually(t, "registered when it is back", ready)
}

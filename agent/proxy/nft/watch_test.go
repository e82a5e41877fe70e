package nft

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/nftables"

	"coracle/internal/testwait"
)

// A foreign flush is noticed at once.
func TestWatch(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("changing firewall rules needs root")
	}
	ruleset(t) // skips without nft
	nft := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("nft", args...).CombinedOutput(); err != nil {
			t.Fatalf("nft %v: %v: %s", args, err, out)
		}
	}
	m := Masquerade{Table: "watched", CIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, "watched", func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	// When the subscription stands cannot be seen from here, so the flush is repeated until it is noticed.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(testwait.Patience)
	for seen := false; !seen; {
		if _, err := m.Ensure(); err != nil {
			t.Fatal(err)
		}
		nft("flush", "ruleset")
		select {
		case <-changed:
			seen = true
		case <-tick.C:
		case <-deadline:
			t.Fatal("a flush was not seen")
		}
	}
	cancel()
	if err := testwait.Receive(t, "Watch is to end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestRemoves(t *testing.T) {
	ours, theirs := &nftables.Table{Name: "watched"}, &nftables.Table{Name: "other"}
	for name, tc := range map[string]struct {
		event nftables.MonitorEvent
		want  bool
	}{
		"our table":     {nftables.MonitorEvent{Type: nftables.MonitorEventTypeDelTable, Data: ours}, true},
		"their table":   {nftables.MonitorEvent{Type: nftables.MonitorEventTypeDelTable, Data: theirs}, false},
		"our rule":      {nftables.MonitorEvent{Type: nftables.MonitorEventTypeDelRule, Data: &nftables.Rule{Table: ours}}, true},
		"their chain":   {nftables.MonitorEvent{Type: nftables.MonitorEventTypeDelChain, Data: &nftables.Chain{Table: theirs}}, false},
		"our new rule":  {nftables.MonitorEvent{Type: nftables.MonitorEventTypeNewRule, Data: &nftables.Rule{Table: ours}}, false},
		"no content":    {nftables.MonitorEvent{Type: nftables.MonitorEventTypeDelRule, Data: (*nftables.Rule)(nil)}, false},
		"other content": {nftables.MonitorEvent{Type: nftables.MonitorEventTypeDelTable}, false},
	} {
		if got := removes(&tc.event, "watched"); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

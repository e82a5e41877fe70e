package node

import (
	"context"

	"coracle/agent/session"
	nodev1 "coracle/proto/node/v1"
)

// noStreams answers every request for a stream with the reason that it cannot be served.
type noStreams struct{}

func (noStreams) Serve(_ context.Context, req *nodev1.StreamRequest, s session.Stream) {
	_ = s.Send(&nodev1.Frame{Result: &nodev1.Result{Reason: nodev1.Result_UNAVAILABLE, Error: "this agent serves no streams"}})
}

package podstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"

	"coracle/internal/usage"
)

// maxUsage bounds the answer of a node: some 200 bytes for each container of a few thousand.
const maxUsage = 8 << 20

// Usage asks a node for the CPU and memory that it and its pods use now.
func Usage(ctx context.Context, streams Streams, node string) (*usage.Node, error) {
	c := Config{Streams: streams}
	client := &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, node, nil, 0, false) },
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node"+usage.Path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask node %s for its usage: %w", node, err)
	}
	answer, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask node %s for its usage: %w", node, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxUsage))
	if err != nil {
		return nil, fmt.Errorf("ask node %s for its usage: %w", node, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask node %s for its usage: %s", node, answer.Status)
	}
	out := &usage.Node{}
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("read the usage of node %s: %w", node, err)
	}
	return out, nil
}

package nft

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"
)

// Watch calls changed when somebody takes rules away from the table, until ctx ends. A firewall that
// is reloaded flushes everything, ours too. It only says "look again"; our own changes
// are announced as well. The error is about a subscription that broke; changes may have been missed then.
func Watch(ctx context.Context, table string, changed func()) (err error) {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	// Everything is asked for and sorted here: the library's filter for removals lets nothing through.
	monitor := nftables.NewMonitor()
	events, err := c.AddGenerationalMonitor(monitor)
	if err != nil {
		return fmt.Errorf("subscribe to nftables: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = monitor.Close() }) // ends the channel
	defer stop()
	for generation := range events {
		for _, e := range generation.Changes {
			if e.Error != nil && ctx.Err() == nil {
				err = errors.Join(err, e.Error)
			}
			if removes(e, table) {
				changed()
				break
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("nftables subscription ended: %w", errors.Join(err, monitor.Close()))
}

func removes(e *nftables.MonitorEvent, table string) bool {
	switch e.Type {
	case nftables.MonitorEventTypeDelTable, nftables.MonitorEventTypeDelChain, nftables.MonitorEventTypeDelRule:
	default:
		return false
	}
	switch d := e.Data.(type) {
	case *nftables.Table:
		return d != nil && d.Name == table
	case *nftables.Chain:
		return d != nil && d.Table != nil && d.Table.Name == table
	case *nftables.Rule:
		return d != nil && d.Table != nil && d.Table.Name == table
	}
	return false
}

package logwriter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"coracle/internal/fault"
)

// dialTimeout bounds reaching the log writer: it is on this machine, and an absent one answers at once.
const dialTimeout = 2 * time.Second

// Follow copies the raw output of container id, from now on, to stdout and stderr until the
// container's streams end, ctx ends or a writer fails. ready is called once output can no longer
// be missed; it may be nil. With a nil writer that stream is left out. An error of class
// Unavailable means that no log writer answers.
func Follow(ctx context.Context, socket, id string, stdout, stderr io.Writer, ready func()) error {
	conn, stop, err := ask(ctx, socket, request{Op: "follow", ID: id})
	if err != nil {
		return fmt.Errorf("follow container %s: %w", id, err)
	}
	defer stop()
	defer conn.Close()
	var buf []byte
	for {
		kind, content, err := readFrame(conn, buf)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("follow container %s: %w", id, fault.As(fault.ErrUnavailable, err))
		}
		buf = content[:cap(content)]
		var to io.Writer
		switch kind {
		case frameReady:
			if ready != nil {
				ready()
			}
		case frameEnd:
			return nil
		case frameError:
			return fmt.Errorf("follow container %s: %s", id, content)
		case frameStdout:
			to = stdout
		case frameStderr:
			to = stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(content); err != nil {
			return fmt.Errorf("follow container %s: %w", id, err)
		}
	}
}

// Drain returns when everything that container id wrote is in its log file, which cannot be
// before the container has ended. ctx bounds the wait.
func Drain(ctx context.Context, socket, id string) error {
	conn, stop, err := ask(ctx, socket, request{Op: "drain", ID: id})
	if err != nil {
		return fmt.Errorf("drain log of container %s: %w", id, err)
	}
	defer stop()
	defer conn.Close()
	kind, content, err := readFrame(conn, nil)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("drain log of container %s: %w", id, ctx.Err())
	case err != nil:
		return fmt.Errorf("drain log of container %s: %w", id, fault.As(fault.ErrUnavailable, err))
	case kind == frameError:
		return fmt.Errorf("drain log of container %s: %s", id, content)
	}
	return nil
}

func ask(ctx context.Context, socket string, req request) (net.Conn, func() bool, error) {
	line, err := json.Marshal(req)
	if err != nil {
		return nil, nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, fault.As(fault.ErrUnavailable, fmt.Errorf("reach the log writer: %w", err))
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, nil, errors.Join(fault.As(fault.ErrUnavailable, err), conn.Close())
	}
	return conn, context.AfterFunc(ctx, func() { conn.Close() }), nil
}

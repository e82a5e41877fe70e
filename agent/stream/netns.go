package stream

import (
	"context"
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

// dialIn connects from inside a network namespace; an empty path is the agent's own.
//
// A socket belongs to the namespace of the thread that made it, so a thread is moved, makes
// the socket and is given up. No reading and writing happens on it afterwards.
func dialIn(ctx context.Context, netns, address string) (net.Conn, error) {
	dialer := &net.Dialer{}
	if netns == "" {
		return dialer.DialContext(ctx, "tcp", address)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1) // read once, below
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its namespace with it.
		runtime.LockOSThread()
		conn, err := dialHere(ctx, dialer, netns, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func dialHere(ctx context.Context, dialer *net.Dialer, netns, address string) (net.Conn, error) {
	fd, err := unix.Open(netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", netns, err)
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter network namespace %s: %w", netns, err)
	}
	return dialer.DialContext(ctx, "tcp", address)
}

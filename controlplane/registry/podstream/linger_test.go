package podstream

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coracle/internal/testwait"
)

// A client that is slow to read gets everything, though it has said something that the server never read.
func TestSlowReadersLoseNothingAtTheEnd(t *testing.T) {
	const size = 1 << 20
	closing, closed := make(chan struct{}), make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := lingerWriter{w}.Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := conn.Write(append([]byte("HTTP/1.1 101 Switching Protocols\r\n\r\n"), bytes.Repeat([]byte("x"), size)...)); err != nil {
			t.Error(err)
		}
		close(closing)
		closed <- conn.Close()
	}))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// What follows the request is the ping that nobody reads.
	if _, err := fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\nping"); err != nil {
		t.Fatal(err)
	}
	testwait.Receive(t, "the server's close", closing)
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Error(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(testwait.Patience)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if n := strings.Count(string(got), "x"); err != nil || n != size {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := testwait.Receive(t, "the end of the close", closed); err != nil {
		t.Error(err)
	}
}

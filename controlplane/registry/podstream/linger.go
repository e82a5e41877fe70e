package podstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// lingerTime is how long a client may take to read what is on its way to it when a command has ended.
const lingerTime = 10 * time.Minute

// lingerWriter gives out connections that are closed with care. A client that reads slowly has up to some megabytes of
// output waiting in the kernels' buffers when its command ends. Closing then, with a ping of the client's unread or still to
// come, would reset the connection, and all that would be lost.
type lingerWriter struct{ http.ResponseWriter }

// Unwrap serves http.ResponseController.
func (w lingerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w lingerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hijacker, ok := w.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("the connection cannot be taken over")
	}
	conn, buffers, err := hijacker.Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &lingerConn{Conn: conn}, buffers, nil
}

type lingerConn struct {
	net.Conn
	once sync.Once
	err  error
}

// Close says that nothing more comes, waits until the client has hung up, and closes.
func (c *lingerConn) Close() error {
	c.once.Do(func() {
		half, ok := c.Conn.(interface{ CloseWrite() error })
		if ok && half.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			// What clients still say is pings and their own goodbye. The error is the end that is waited for.
			_, _ = io.Copy(io.Discard, onlyReader{c.Conn})
		}
		c.err = c.Conn.Close()
	})
	return c.err
}

// onlyReader hides a connection's other abilities, so that reading is all that is done with it.
type onlyReader struct{ io.Reader }

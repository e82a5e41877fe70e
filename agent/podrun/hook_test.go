package podrun

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// loopbackUp makes 127.0.0.1 work in the network namespace of the tests.
func loopbackUp(t *testing.T) {
	t.Helper()
	if os.Getenv(insideEnv) == "" {
		return // not root, so in the machine's own
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}()
	flags, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	flags.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, flags); err != nil {
		t.Fatal(err)
	}
}

// TestHandlers: each kind of handler against something real.
func TestHandlers(t *testing.T) {
	loopbackUp(t)
	var agent string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent = r.UserAgent()
		w.WriteHeader(http.StatusTeapot)
	}))
	defer s.Close()
	host, text, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	target := hookTarget{container: &v1.Container{Ports: []v1.ContainerPort{{Name: "web", ContainerPort: int32(port)}}}, ips: []string{host}}
	get := func(scheme v1.URIScheme, port string) *v1.LifecycleHandler {
		return &v1.LifecycleHandler{HTTPGet: &v1.HTTPGetAction{Scheme: scheme, Path: "/drain", Port: intstr.FromString(port)}}
	}
	for _, tc := range []struct {
		name string
		h    *v1.LifecycleHandler
		want string
	}{
		{"any answer is a good one", get(v1.URISchemeHTTP, "web"), ""},
		{"https where only http is spoken", get(v1.URISchemeHTTPS, "web"), ""},
		{"a port that has no such name", get(v1.URISchemeHTTP, "nope"), `the container has no port named "nope"`},
		{"sleep", &v1.LifecycleHandler{Sleep: &v1.SleepAction{}}, ""},
		{"tcpSocket", &v1.LifecycleHandler{TCPSocket: &v1.TCPSocketAction{}}, "tcpSocket is not a handler of lifecycle hooks"},
		{"nothing", &v1.LifecycleHandler{}, "the hook names no handler"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := runHandler(ctx, tc.h, target)
		cancel()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if agent != hookAgent {
		t.Errorf("User-Agent %q", agent)
	}
}

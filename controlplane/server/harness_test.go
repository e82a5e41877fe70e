package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"coracle/controlplane/config"
	"coracle/internal/testport"
	"coracle/internal/testwait"
)

// cluster is a control plane that runs in this process or in a child, and clients with every right on it.
type cluster struct {
	cfg     *config.Config
	rest    *rest.Config
	client  kubernetes.Interface
	dynamic dynamic.Interface
	stop    func() error
}

// testConfig is a configuration on free loopback ports.
func testConfig(dir string) (*config.Config, error) {
	cfg := config.Default()
	cfg.DataDir = dir
	cfg.BindAddress, cfg.AdvertiseAddress, cfg.Name = "127.0.0.1", "127.0.0.1", "test"
	ports, err := testport.Free(2)
	if err != nil {
		return nil, err
	}
	cfg.SecurePort, cfg.GatewayPort = ports[0], ports[1]
	cfg.LogLevel = "error"
	return cfg, cfg.Complete()
}

func testLog() *slog.Logger {
	level := slog.LevelError
	if os.Getenv("CORACLE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// boot runs a control plane in this process until stop.
func boot(cfg *config.Config) (*cluster, error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, testLog()) }()
	c := &cluster{cfg: cfg}
	var once sync.Once
	var result error
	c.stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case result = <-done:
			case <-time.After(testwait.Patience):
				result = fmt.Errorf("the control plane did not end in %s", testwait.Patience)
			}
		})
		return result
	}
	if err := c.connect(done); err != nil {
		cancel()
		return nil, err
	}
	return c, nil
}

// connect waits until the API is ready and makes the clients. done tells of an end before that.
func (c *cluster) connect(done <-chan error) error {
	kubeconfig := filepath.Join(c.cfg.DataDir, "admin.kubeconfig")
	return wait.PollUntilContextTimeout(context.Background(), 20*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		select {
		case err := <-done:
			return false, fmt.Errorf("the control plane ended: %w", err)
		default:
		}
		rc, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			return false, nil //nolint:nilerr // not written yet
		}
		rc.QPS = -1
		c.rest = rc
		if c.client, err = kubernetes.NewForConfig(rc); err != nil {
			return false, err
		}
		if c.dynamic, err = dynamic.NewForConfig(rc); err != nil {
			return false, err
		}
		_, err = c.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err == nil, nil
	})
}

var shared struct {
	once sync.Once
	c    *cluster
	err  error
	dir  string
}

// use returns the control plane that the tests of this package share, and a namespace of the test's own with its service
// account.
func use(t *testing.T) (*cluster, string) {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "coracle-server-test-"); shared.err != nil {
			return
		}
		cfg, err := testConfig(shared.dir)
		if err != nil {
			shared.err = err
			return
		}
		shared.c, shared.err = boot(cfg)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.c, shared.c.namespace(t)
}

func (c *cluster) namespace(t *testing.T) string {
	t.Helper()
	ns, err := c.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "t-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the service account of the namespace", func() error {
		_, err := c.client.CoreV1().ServiceAccounts(ns.Name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// etcd is a client of the embedded server, to look at what is stored.
func (c *cluster) etcd(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"unix://" + filepath.Join(c.cfg.EtcdDir(), "client.sock")}, Logger: zap.NewNop(), DialTimeout: testwait.Patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// eventually tries check until it succeeds, and fails the test with its last error.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	testwait.Nil(t, what, check)
}

// wantStatus fails the test unless err is an API error with the code whose message contains text.
func wantStatus(t *testing.T, err error, code int, text string) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || int(status.Status().Code) != code || !strings.Contains(status.Status().Message, text) {
		t.Fatalf("got %v, want status %d with %q", err, code, text)
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv("CORACLE_TEST_CHILD"); dir != "" {
		os.Exit(child(dir))
	}
	code := m.Run()
	if shared.c != nil {
		if err := shared.c.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the shared control plane:", err)
			code = 1
		}
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

package controller

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/utils/clock"
)

func config(t *testing.T) Config {
	t.Helper()
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset()
	return Config{
		Client: client, Metadata: metadatafake.NewSimpleMetadataClient(scheme), Informers: informers.NewSharedInformerFactory(client, 0),
		RootCA: []byte("ca"), PodCIDR: "10.244.0.0/16", Log: slog.New(slog.DiscardHandler),
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no client":      func(c *Config) { c.Client = nil },
		"no metadata":    func(c *Config) { c.Metadata = nil },
		"no log":         func(c *Config) { c.Log = nil },
		"a broken range": func(c *Config) { c.PodCIDR = "10.244.0.0" },
	} {
		c := config(t)
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// All run together on one API, stop with their context, and run again as after the Lease was lost and won.
func TestRunsTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		all, stopInformers := context.WithCancel(t.Context())
		cfg.Informers.Start(all.Done())
		for _, name := range []string{"one", "two"} {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- c.Run(ctx) }()
			if _, err := cfg.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := cfg.Client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Second)
			if _, err := cfg.Client.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
			if _, err := cfg.Client.CoreV1().ConfigMaps(name).Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
			n, err := cfg.Client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
			if err != nil || n.Spec.PodCIDR == "" || len(n.Spec.Taints) == 0 {
				t.Errorf("node %+v, %v", n.Spec, err)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
		}
		stopInformers()
		cfg.Informers.Shutdown()
	})
}

func TestOneThatFailsIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		c := &Controllers{config: Config{Log: slog.New(slog.NewTextHandler(&log, nil)), Clock: clock.RealClock{}}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		runs := 0
		c.keep(ctx, part{"bad", func(ctx context.Context) error {
			switch runs++; runs {
			case 1:
				return errors.New("no informer")
			case 2:
				panic("a defect")
			}
			<-ctx.Done()
			return nil
		}})
		if runs != 3 || !strings.Contains(log.String(), "no informer") || !strings.Contains(log.String(), "a defect") {
			t.Errorf("%d runs, log:\n%s", runs, log.String())
		}
	})
}

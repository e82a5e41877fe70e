package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"coracle/controlplane/admission"
	"coracle/controlplane/api/table"
	"coracle/controlplane/apiserver"
	"coracle/controlplane/auth"
	"coracle/controlplane/config"
	"coracle/controlplane/controller"
	"coracle/controlplane/etcd"
	"coracle/controlplane/gateway"
	"coracle/controlplane/pki"
	"coracle/controlplane/registry"
	"coracle/controlplane/registry/core/service"
	"coracle/controlplane/registry/kind"
	"coracle/controlplane/scheduler"
	"coracle/internal/version"
)

// part is a client of the API that runs as long as the control plane does.
type part struct {
	name string
	run  func(context.Context) error
}

// plane is a control plane that is built and not yet running.
type plane struct {
	cfg      *config.Config
	log      *slog.Logger
	etcd     *etcd.Server
	material *pki.Material

	serving   *apiserver.Serving
	loopback  *rest.Config
	client    kubernetes.Interface
	informers informers.SharedInformerFactory

	auth      *auth.Auth
	gateway   *gateway.Gateway
	scheduler *scheduler.Scheduler
	control   *controller.Controllers
	api       *apiserver.Server
	parts     []part
	// ready is closed when the cluster has what every cluster has; parts begin then.
	ready chan struct{}
}

func build(ctx context.Context, cfg *config.Config, log *slog.Logger, store *etcd.Server, material *pki.Material) (*plane, error) {
	p := &plane{cfg: cfg, log: log, etcd: store, material: material, ready: make(chan struct{})}
	var err error
	p.serving, err = apiserver.Listen(ctx, apiserver.ServingConfig{
		BindAddress: cfg.BindAddress, Port: cfg.SecurePort,
		CertFile: material.Serving.File, KeyFile: material.Serving.File, ClientCA: material.CAPEM,
	})
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{p.connect, p.addAuth, p.addGateway, p.addControl, p.addAPI} {
		if err := step(); err != nil {
			_ = p.serving.Close() // the first error is the one to tell
			return nil, err
		}
	}
	p.addParts()
	return p, nil
}

// connect makes the one client and the one set of informers that all parts share.
func (p *plane) connect() error {
	var err error
	p.loopback = p.serving.Loopback()
	if p.client, err = kubernetes.NewForConfig(p.loopback); err != nil {
		return fmt.Errorf("make loopback client: %w", err)
	}
	p.informers = informers.NewSharedInformerFactoryWithOptions(p.client, 0, informers.WithTransform(slim))
	return nil
}

// slim drops what no part reads and what is half of a small object.
func slim(obj any) (any, error) {
	if m, err := apimeta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

func (p *plane) addAuth() error {
	var err error
	p.auth, err = auth.New(auth.Config{
		ClientCA: p.material.CAPEM, Keys: p.material.ServiceAccountKeys, Issuer: p.cfg.ServiceAccountIssuer,
		APIServerURL: "https://" + net.JoinHostPort(p.cfg.AdvertiseAddress, strconv.Itoa(p.cfg.SecurePort)),
		Client:       p.client, Informers: p.informers, Log: p.log.With("part", "auth"),
	})
	return err
}

func (p *plane) addGateway() error {
	var err error
	p.gateway, err = gateway.New(gateway.Config{
		Client: p.client, Informers: p.informers, Signer: p.material, CAPEM: p.material.CAPEM,
		GetCertificate:     p.material.Gateway.GetCertificate,
		GetPeerCertificate: func() (*tls.Certificate, error) { return p.material.Gateway.Certificate(), nil },
		Listen:             net.JoinHostPort(p.cfg.BindAddress, strconv.Itoa(p.cfg.GatewayPort)),
		AdvertiseAddress:   p.cfg.GatewayAddress(),
		Name:               p.cfg.Name, Version: version.Version,
		ClusterDomain: p.cfg.ClusterDomain, ClusterDNS: []string{p.cfg.ClusterDNS},
		Log: p.log.With("part", "gateway"),
	})
	return err
}

func (p *plane) addControl() error {
	var err error
	p.scheduler, err = scheduler.New(scheduler.Config{Client: p.client, Informers: p.informers, Log: p.log.With("part", "scheduler")})
	if err != nil {
		return err
	}
	objects, err := metadata.NewForConfig(p.loopback)
	if err != nil {
		return fmt.Errorf("make loopback client: %w", err)
	}
	p.control, err = controller.New(controller.Config{
		Client: p.client, Metadata: objects, Informers: p.informers, RootCA: p.material.CAPEM,
		PodCIDR: p.cfg.PodCIDR, NodeMaskSize: p.cfg.NodeMaskSize, Issuer: p.auth.Issuer,
		Log: p.log.With("part", "controller"),
	})
	return err
}

func (p *plane) addAPI() error {
	plugins, err := admission.New(admission.Config{Client: p.client, Informers: p.informers})
	if err != nil {
		return err
	}
	prefix, err := netip.ParsePrefix(p.cfg.ServiceCIDR)
	if err != nil {
		return fmt.Errorf("serviceCIDR: %w", err)
	}
	var ports service.PortRange
	if _, err := fmt.Sscanf(p.cfg.NodePortRange, "%d-%d", &ports.First, &ports.Last); err != nil {
		return fmt.Errorf("nodePortRange %q: want FIRST-LAST: %w", p.cfg.NodePortRange, err)
	}
	var keys []apiserver.EncryptionKey
	for _, k := range p.material.EncryptionKeys {
		keys = append(keys, apiserver.EncryptionKey{Name: k.Name, Secret: k.Secret})
	}
	p.api, err = apiserver.New(apiserver.Config{
		Serving:          p.serving,
		Storage:          apiserver.StorageConfig{Endpoints: p.etcd.Endpoints(), TLS: p.etcd.TLS(), NewClient: p.etcd.NewClient(), EncryptionKeys: keys},
		Replicated:       !p.etcd.Embedded(),
		AdvertiseAddress: net.ParseIP(p.cfg.AdvertiseAddress),
		Informers:        p.informers,
		Authenticator:    p.auth.Authenticator(), Audiences: p.auth.Audiences(),
		Authorizer: p.auth.Authorizer(), RuleResolver: p.auth.RuleResolver(),
		Admission: plugins,
		Registry: registry.Config{
			Env:    kind.Env{Table: table.NewConvertor(time.Now)},
			Guard:  p.auth.Guard(),
			Issuer: p.auth.Issuer, ServiceCIDR: prefix, NodePorts: ports,
			Sessions:  p.gateway,
			Streaming: p.streaming,
			Usage:     p.usage,
			Log:       p.log.With("part", "registry"),
		},
		Log: p.log.With("part", "apiserver"),
	})
	if err != nil {
		return err
	}
	p.auth.Discovery.Install(p.api)
	return p.api.BeforeReady("coracle-bootstrap", p.bootstrap)
}

func (p *plane) addParts() {
	p.parts = []part{
		{"certificates", p.material.Run},
		{"auth", p.auth.Run},
		{"registry", p.api.Registry().Run},
		{"gateway", p.gateway.Run},
		{"service of the API", p.keepPublished},
		{"scheduler and controllers", p.lead},
	}
}

func pkiOptions(cfg *config.Config, log *slog.Logger) pki.Options {
	return pki.Options{
		Name: cfg.Name, AdvertiseAddress: net.ParseIP(cfg.AdvertiseAddress), ServiceIP: cfg.ServiceIP(),
		ClusterDomain: cfg.ClusterDomain, ServerNames: cfg.ServerNames, Kubeconfig: cfg.Kubeconfig, ServerURL: cfg.LocalURL(), Log: log,
	}
}

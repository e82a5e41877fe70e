package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/runtime"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"

	"coracle/controlplane/apiserver/loopback"
)

// ServingConfig says where and as whom the REST API is served.
type ServingConfig struct {
	// BindAddress and Port are listened on. Port 0 takes a free one, for tests.
	BindAddress string
	Port        int
	// CertFile and KeyFile are the serving pair; they are read again when they change.
	CertFile, KeyFile string
	// ClientCA is the PEM bundle that client certificates must be signed by.
	ClientCA []byte
}

// Serving is an open door that nobody answers yet: the listener, its certificates, and the client that reaches it
// from inside the process. It exists before the server so that authenticators can be built on its client.
type Serving struct {
	info *genericapiserver.SecureServingInfo
	// loopback is how the parts of this process reach the server, library how the API library's own parts do.
	loopback *loopback.Transport
	library  *rest.Config
	serving  *dynamiccertificates.DynamicCertKeyPairContent
}

// Listen opens the port. Errors say which address was tried.
func Listen(ctx context.Context, cfg ServingConfig) (*Serving, error) {
	cert, err := dynamiccertificates.NewDynamicServingContentFromFiles("serving-cert", cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load serving certificate: %w", err)
	}
	ca, err := dynamiccertificates.NewStaticCAContent("client-ca", cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("load client CA: %w", err)
	}
	address := net.JoinHostPort(cfg.BindAddress, strconv.Itoa(cfg.Port))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("serve the API: port in use, another program listens on %s (stop it or choose another securePort): %w", address, err)
	case err != nil:
		return nil, fmt.Errorf("serve the API: %w", err)
	}
	s := &Serving{serving: cert, loopback: loopback.New(), info: &genericapiserver.SecureServingInfo{
		Listener: listener, Cert: cert, ClientCA: ca,
		// Upstream's limit; one client cannot occupy the server with streams.
		HTTP2MaxStreamsPerConnection: 1000,
	}}
	if err := s.addLibraryClient(); err != nil {
		listener.Close()
		return nil, err
	}
	return s, nil
}

// addLibraryClient makes a certificate and a bearer token that live as long as the process and never leave its memory.
func (s *Serving) addLibraryClient() error {
	name := genericapiserver.LoopbackClientServerNameOverride
	cert, key, err := certutil.GenerateSelfSignedCertKey(name, nil, nil)
	if err != nil {
		return fmt.Errorf("make loopback certificate: %w", err)
	}
	content, err := dynamiccertificates.NewStaticSNICertKeyContent("loopback", cert, key, name)
	if err != nil {
		return fmt.Errorf("make loopback certificate: %w", err)
	}
	s.info.SNICerts = []dynamiccertificates.SNICertKeyContentProvider{content}
	s.library, err = s.info.NewLoopbackClientConfig(uuid.NewString(), cert)
	if err != nil {
		return fmt.Errorf("make loopback client: %w", err)
	}
	return nil
}

// Loopback is a client configuration with every right, for the parts of this process: protobuf, no rate limit.
func (s *Serving) Loopback() *rest.Config {
	c := s.loopback.Config()
	c.ContentType = runtime.ContentTypeProtobuf
	c.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	c.QPS = -1
	c.UserAgent = "coracle-controlplane"
	// The parts of this process use deprecated kinds knowingly, for clients that still read them.
	c.WarningHandler = rest.NoWarnings{}
	return c
}

// Address is where the server listens.
func (s *Serving) Address() *net.TCPAddr { return s.info.Listener.Addr().(*net.TCPAddr) }

// Close gives the port back when the server is never run.
func (s *Serving) Close() error { return s.info.Listener.Close() }

package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// probeTimeout is how long one external endpoint may take to answer at start.
const probeTimeout = 5 * time.Second

// probe returns nil as soon as one endpoint answers, and otherwise says what each of them did.
func probe(ctx context.Context, endpoints []string, files TLS) error {
	config, err := clientTLS(files)
	if err != nil {
		return err
	}
	var failures []error
	for _, endpoint := range endpoints {
		if err := checkURL(endpoint, config != nil); err != nil {
			failures = append(failures, err)
			continue
		}
		if err := status(ctx, endpoint, config); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", endpoint, err))
			continue
		}
		return nil
	}
	return fmt.Errorf("no etcd endpoint answers (check that etcd runs, the address and the certificates): %w", errors.Join(failures...))
}

func checkURL(endpoint string, secure bool) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("etcd endpoint: %w", err)
	}
	switch {
	case u.Scheme == "http" || u.Scheme == "unix":
		return nil
	case u.Scheme == "https" && secure:
		return nil
	case u.Scheme == "https":
		return fmt.Errorf("etcd endpoint %s is https, but no CA or client certificate is configured", endpoint)
	}
	return fmt.Errorf("etcd endpoint %q: want a URL such as https://10.0.0.1:2379", endpoint)
}

func status(ctx context.Context, endpoint string, config *tls.Config) error {
	if strings.HasPrefix(endpoint, "http://") || strings.HasPrefix(endpoint, "unix://") {
		config = nil
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, TLS: config, DialTimeout: probeTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if _, err = client.Status(ctx, endpoint); err != nil {
		return err
	}
	return nil
}

func clientTLS(files TLS) (*tls.Config, error) {
	if files == (TLS{}) {
		return nil, nil
	}
	config, err := transport.TLSInfo{
		TrustedCAFile: files.CAFile, CertFile: files.CertFile, KeyFile: files.KeyFile,
	}.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("load etcd client certificates: %w", err)
	}
	return config, nil
}

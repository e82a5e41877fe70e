package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	apinet "k8s.io/apimachinery/pkg/util/net"
)

// dnsIndex is the place of the cluster DNS address in the service range, as kubeadm has it.
const dnsIndex = 10

// Complete infers what was left out and validates the whole. It may be called again.
func (c *Config) Complete() error {
	if c.DataDir != "" {
		abs, err := filepath.Abs(c.DataDir)
		if err != nil {
			return fmt.Errorf("dataDir: %w", err)
		}
		c.DataDir = abs
	}
	if c.Kubeconfig == "" {
		c.Kubeconfig = filepath.Join(c.DataDir, "admin.kubeconfig")
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("name: the host name is unknown (%w), set it", err)
		}
		c.Name = strings.ToLower(host)
	}
	if c.AdvertiseAddress == "" {
		c.AdvertiseAddress = inferAddress(c.BindAddress)
	}
	if c.ClusterDNS == "" {
		if prefix, err := netip.ParsePrefix(c.ServiceCIDR); err == nil {
			c.ClusterDNS = nth(prefix, dnsIndex).String()
		}
	}
	return errors.Join(c.validate()...)
}

// inferAddress is the address of the interface that the default route leaves by; without one, any address that is not
// link-local; without that, loopback, which is right for a machine that serves itself alone.
func inferAddress(bind string) string {
	if ip := net.ParseIP(bind); ip != nil {
		if chosen, err := apinet.ResolveBindAddress(ip); err == nil {
			return chosen.String()
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err == nil {
		for _, address := range addresses {
			if n, ok := address.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

func nth(prefix netip.Prefix, n int) netip.Addr {
	address := prefix.Masked().Addr()
	for range n {
		address = address.Next()
	}
	return address
}

// ServiceIP is the cluster IP of the Service "kubernetes": the first of ServiceCIDR.
func (c *Config) ServiceIP() net.IP {
	prefix, err := netip.ParsePrefix(c.ServiceCIDR)
	if err != nil {
		return nil
	}
	return net.IP(nth(prefix, 1).AsSlice())
}

// PKIDir is where the keys are, EtcdDir where the embedded etcd keeps its files.
func (c *Config) PKIDir() string { return filepath.Join(c.DataDir, "pki") }

// EtcdDir is where the embedded etcd keeps its files.
func (c *Config) EtcdDir() string { return filepath.Join(c.DataDir, "etcd") }

// LocalURL is the REST API as seen on this machine.
func (c *Config) LocalURL() string {
	host := "127.0.0.1"
	if ip := net.ParseIP(c.BindAddress); ip != nil && !ip.IsUnspecified() {
		host = c.BindAddress
	}
	return "https://" + net.JoinHostPort(host, fmt.Sprint(c.SecurePort))
}

// GatewayAddress is what agents dial, host:port.
func (c *Config) GatewayAddress() string {
	return net.JoinHostPort(c.AdvertiseAddress, fmt.Sprint(c.GatewayPort))
}

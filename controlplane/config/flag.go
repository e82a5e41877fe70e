package config

import (
	"github.com/spf13/pflag"
)

// ConfigFlag is the flag that names the file.
const ConfigFlag = "config"

// Bind declares one flag for each field of c, with c's values as defaults, and --config.
func Bind(fs *pflag.FlagSet, c *Config) {
	fs.String(ConfigFlag, "", "YAML file with the same settings; a flag wins over the file")
	BindData(fs, c)
	fs.StringVar(&c.Name, "name", c.Name, "name of this control plane among others of the cluster (inferred: host name)")
	fs.StringVar(&c.BindAddress, "bind-address", c.BindAddress, "address to listen on")
	fs.IntVar(&c.SecurePort, "secure-port", c.SecurePort, "port of the REST API")
	fs.IntVar(&c.GatewayPort, "gateway-port", c.GatewayPort, "port that agents dial")
	fs.StringVar(&c.AdvertiseAddress, "advertise-address", c.AdvertiseAddress,
		"address others reach this machine at (inferred: that of the default route)")
	fs.StringSliceVar(&c.ServerNames, "server-names", c.ServerNames, "further names and addresses for the serving certificates")
	fs.StringSliceVar(&c.Etcd.Endpoints, "etcd-endpoints", c.Etcd.Endpoints, "URLs of an external etcd (default: embedded)")
	fs.StringVar(&c.Etcd.CAFile, "etcd-ca-file", c.Etcd.CAFile, "PEM file with the external etcd's authority")
	fs.StringVar(&c.Etcd.CertFile, "etcd-cert-file", c.Etcd.CertFile, "PEM file with the client certificate for the external etcd")
	fs.StringVar(&c.Etcd.KeyFile, "etcd-key-file", c.Etcd.KeyFile, "PEM file with the client key for the external etcd")
	fs.StringVar(&c.ServiceCIDR, "service-cidr", c.ServiceCIDR, "range of cluster IPs")
	fs.StringVar(&c.PodCIDR, "pod-cidr", c.PodCIDR, "range of pod IPs, cut into one part for each node")
	fs.IntVar(&c.NodeMaskSize, "node-mask-size", c.NodeMaskSize, "prefix length of a node's part of the pod range")
	fs.StringVar(&c.NodePortRange, "node-port-range", c.NodePortRange, "range of node ports, FIRST-LAST")
	fs.StringVar(&c.ClusterDomain, "cluster-domain", c.ClusterDomain, "DNS suffix of services")
	fs.StringVar(&c.ClusterDNS, "cluster-dns", c.ClusterDNS, "cluster IP of DNS (inferred: tenth of the service range)")
	fs.StringVar(&c.ServiceAccountIssuer, "service-account-issuer", c.ServiceAccountIssuer, "issuer of service-account tokens")
	fs.StringVar(&c.MemoryLimit, "memory-limit", c.MemoryLimit, "soft memory limit, for example 80Mi")
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
}

// BindData declares the two flags that find a control plane's files.
func BindData(fs *pflag.FlagSet, c *Config) {
	fs.StringVar(&c.DataDir, "data-dir", c.DataDir, "directory of keys, etcd and the admin kubeconfig")
	fs.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig, "admin kubeconfig (inferred: admin.kubeconfig in the data directory)")
}

// setting is a flag given on the command line, kept while the file is laid under it.
type setting struct {
	name  string
	value string
	list  []string
}

// changed lists the flags that were given.
func changed(fs *pflag.FlagSet) []setting {
	var given []setting
	fs.Visit(func(f *pflag.Flag) {
		s := setting{name: f.Name, value: f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			s.list = list.GetSlice()
		}
		given = append(given, s)
	})
	return given
}

// apply sets the flags again, after the file was read into the struct they are bound to.
func apply(fs *pflag.FlagSet, given []setting) error {
	for _, s := range given {
		flag := fs.Lookup(s.name)
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			if err := list.Replace(s.list); err != nil {
				return err
			}
			continue
		}
		if err := flag.Value.Set(s.value); err != nil {
			return err
		}
	}
	return nil
}

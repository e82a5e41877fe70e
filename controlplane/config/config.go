// Package config owns the configuration of coracle-controlplane: one struct, its defaults, a strict YAML file, one flag for
// each field, what is inferred from the machine, and validation. A flag wins over the file, the file over the default.
// It does not act on any of it; controlplane/server does.
//
// Invariant: a Config that Complete returned without error has every field set that says "inferred".
package config

// Config is the whole configuration. Zero values are not valid by themselves: begin with Default.
type Config struct {
	// DataDir holds pki/, etcd/ and admin.kubeconfig. Default /var/lib/coracle-controlplane. It is not below the agent's state
	// directory, which may be removed on its own. Move it to a disk that survives.
	DataDir string `json:"dataDir"`
	// Kubeconfig is where the admin kubeconfig is written, mode 0600. Inferred: DataDir/admin.kubeconfig.
	Kubeconfig string `json:"kubeconfig"`
	// Name tells this control plane from others of the same cluster. Inferred: the host name.
	Name string `json:"name"`

	// BindAddress is the address both doors listen on. Default 0.0.0.0. Narrow it on machines with a public side.
	BindAddress string `json:"bindAddress"`
	// SecurePort is the port of the REST API. Default 6443.
	SecurePort int `json:"securePort"`
	// GatewayPort is the port that agents dial. Default 6444.
	GatewayPort int `json:"gatewayPort"`
	// AdvertiseAddress is the address others reach this machine at; it is in the certificates, in the "kubernetes" Service
	// and in join commands. Inferred: the address of the default route. Set it behind NAT or with several networks.
	AdvertiseAddress string `json:"advertiseAddress"`
	// ServerNames are further DNS names and addresses for the serving certificates, such as a load balancer's. Default none.
	ServerNames []string `json:"serverNames"`

	// Etcd says where cluster state is kept. Default: an embedded etcd in DataDir/etcd.
	Etcd Etcd `json:"etcd"`

	// ServiceCIDR is the range of cluster IPs; its first address is the API's own. Default 10.96.0.0/16. Fixed after the
	// first start.
	ServiceCIDR string `json:"serviceCIDR"`
	// PodCIDR is cut into one range for each node. Default 10.244.0.0/16.
	PodCIDR string `json:"podCIDR"`
	// NodeMaskSize is the prefix length of a node's part of PodCIDR. Default 24 (254 pods a node).
	NodeMaskSize int `json:"nodeMaskSize"`
	// NodePortRange is the range of node ports, FIRST-LAST inclusive. Default 30000-32767.
	NodePortRange string `json:"nodePortRange"`
	// ClusterDomain is the DNS suffix of services. Default cluster.local.
	ClusterDomain string `json:"clusterDomain"`
	// ClusterDNS is the cluster IP that agents answer DNS at. Inferred: the tenth address of ServiceCIDR.
	ClusterDNS string `json:"clusterDNS"`

	// ServiceAccountIssuer is the "iss" of service-account tokens. Default https://kubernetes.default.svc.cluster.local.
	// Change it where others verify tokens by OIDC discovery; tokens of the old issuer then fail.
	ServiceAccountIssuer string `json:"serviceAccountIssuer"`

	// MemoryLimit is the soft memory limit of the process as a quantity (for example 80Mi); the collector works harder near
	// it. Default empty: chosen by the program.
	MemoryLimit string `json:"memoryLimit"`
	// LogLevel is debug, info, warn or error. Default info.
	LogLevel string `json:"logLevel"`
	// LogFormat is text or json. Default text.
	LogFormat string `json:"logFormat"`
}

// Etcd names the store. With no endpoints an embedded one is run.
type Etcd struct {
	// Endpoints are URLs of an external cluster. Default none: embedded.
	Endpoints []string `json:"endpoints"`
	// CAFile, CertFile and KeyFile are PEM files for https endpoints. CertFile and KeyFile come together. Default none.
	CAFile   string `json:"caFile"`
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

// Default returns the configuration of a machine where nothing was said.
func Default() *Config {
	return &Config{
		DataDir:              "/var/lib/coracle-controlplane",
		BindAddress:          "0.0.0.0",
		SecurePort:           6443,
		GatewayPort:          6444,
		ServiceCIDR:          "10.96.0.0/16",
		PodCIDR:              "10.244.0.0/16",
		NodeMaskSize:         24,
		NodePortRange:        "30000-32767",
		ClusterDomain:        "cluster.local",
		ServiceAccountIssuer: "https://kubernetes.default.svc.cluster.local",
		LogLevel:             "info",
		LogFormat:            "text",
	}
}

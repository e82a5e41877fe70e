package apiserver

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/secretbox"

	"coracle/controlplane/api"
	"coracle/controlplane/etcd"
)

// StorageConfig says where objects are kept and how Secrets are sealed.
type StorageConfig struct {
	Endpoints []string
	TLS       etcd.TLS
	// EncryptionKeys: the first encrypts Secrets, all of them decrypt. At least one.
	EncryptionKeys []EncryptionKey
	// NewClient makes a client of the etcd in this process; nil where it is elsewhere.
	NewClient func() *etcd.Client
}

// EncryptionKey is a named 32-byte key. The name is stored beside each ciphertext.
type EncryptionKey struct {
	Name   string
	Secret []byte
}

// prefix is kube-apiserver's, so that its tools and backups read our data.
const prefix = "/registry"

// compactInterval is how long old revisions are kept: watchers that lag further behind list again.
const compactInterval = 5 * time.Minute

// resourcePrefixes are the places that differ from the resource's name, as kube-apiserver has them.
var resourcePrefixes = map[schema.GroupResource]string{
	{Resource: "replicationcontrollers"}: "controllers",
	{Resource: "endpoints"}:              "services/endpoints",
	{Resource: "services"}:               "services/specs",
	{Resource: "nodes"}:                  "minions",
}

// unwatched have no watch cache: events are written often, watched rarely, and expire by themselves.
var unwatched = []schema.GroupResource{{Resource: "events"}, {Group: "events.k8s.io", Resource: "events"}}

// place is where objects are stored, for servers that store more.
type place struct {
	options.EtcdOptions
	direct *direct // nil where etcd is elsewhere
}

// wrap has the resources of a getter stored at the place. Those named as uncached have no watch cache.
func (p *place) wrap(getter generic.RESTOptionsGetter, uncached ...schema.GroupResource) generic.RESTOptionsGetter {
	if p.direct == nil {
		return getter
	}
	return p.direct.wrap(getter, uncached...)
}

// applyStorage gives the generic configuration its storage: protobuf in etcd, Secrets sealed, watch caches on.
func applyStorage(c *genericapiserver.Config, cfg StorageConfig) (*place, error) {
	transformers, err := sealSecrets(cfg.EncryptionKeys)
	if err != nil {
		return nil, err
	}
	backend := storagebackend.NewDefaultConfig(prefix, nil)
	backend.Transport.ServerList = cfg.Endpoints
	backend.Transport.TrustedCAFile = cfg.TLS.CAFile
	backend.Transport.CertFile = cfg.TLS.CertFile
	backend.Transport.KeyFile = cfg.TLS.KeyFile
	backend.CompactionInterval = compactInterval
	backend.DBMetricPollInterval = 0
	backend.EventsHistoryWindow = storagebackend.DefaultEventsHistoryWindow

	o := options.NewEtcdOptions(backend)
	// Counting objects is for priority and fairness, which is off; an idle server has nothing to poll etcd for.
	o.StorageConfig.CountMetricPollPeriod = 0
	o.DefaultStorageMediaType = runtime.ContentTypeProtobuf
	o.DeleteCollectionWorkers = 4
	o.WatchCacheSizes = withoutCache(unwatched...)
	factory := serverstorage.NewDefaultStorageFactory(o.StorageConfig, runtime.ContentTypeProtobuf, api.Codecs,
		serverstorage.NewDefaultResourceEncodingConfigForEffectiveVersion(api.Scheme, c.EffectiveVersion),
		serverstorage.NewResourceConfig(), resourcePrefixes)
	c.ResourceTransformers = transformers
	if err := o.ApplyWithStorageFactoryTo(factory, c); err != nil {
		return nil, fmt.Errorf("set up storage: %w", err)
	}
	at := &place{EtcdOptions: *o}
	if cfg.NewClient != nil {
		at.direct = newDirect(cfg.NewClient)
	}
	c.RESTOptionsGetter = at.wrap(c.RESTOptionsGetter, unwatched...)
	return at, nil
}

// withoutCache is how the library's options say that resources have no watch cache.
func withoutCache(resources ...schema.GroupResource) (sizes []string) {
	for _, r := range resources {
		sizes = append(sizes, r.String()+"#0")
	}
	return sizes
}

// sealSecrets encrypts Secrets with XSalsa20-Poly1305. There is no reading of plain ones: an object that was put into
// etcd unsealed was not put there by this server.
func sealSecrets(keys []EncryptionKey) (value.ResourceTransformers, error) {
	if len(keys) == 0 {
		return nil, errors.New("no encryption key for Secrets")
	}
	var chain []value.PrefixTransformer
	for _, k := range keys {
		if len(k.Secret) != 32 {
			return nil, fmt.Errorf("encryption key %q has %d bytes, want 32", k.Name, len(k.Secret))
		}
		chain = append(chain, value.PrefixTransformer{
			Prefix:      []byte("k8s:enc:secretbox:v1:" + k.Name + ":"),
			Transformer: secretbox.NewSecretboxTransformer([32]byte(k.Secret)),
		})
	}
	unknown := errors.New("the Secret was sealed with a key this control plane does not have")
	return encryptionconfig.StaticTransformers{
		{Resource: "secrets"}: value.NewPrefixTransformers(unknown, chain...),
	}, nil
}

package apiserver

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
var unwatched = []string{"events#0", "events.events.k8s.io#0"}

// applyStorage gives the generic configuration its storage: protobuf in etcd, Secrets sealed, watch caches on. The result is
// where that storage is.
func applyStorage(c *genericapiserver.Config, cfg StorageConfig) (*options.EtcdOptions, error) {
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
	o.WatchCacheSizes = unwatched
	factory := serverstorage.NewDefaultStorageFactory(o.StorageConfig, runtime.ContentTypeProtobuf, api.Codecs,
		serverstorage.NewDefaultResourceEncodingConfigForEffectiveVersion(api.Scheme, c.EffectiveVersion),
		serverstorage.NewResourceConfig(), resourcePrefixes)
	c.ResourceTransformers = transformers
	if err := o.ApplyWithStorageFactoryTo(factory, c); err != nil {
		return nil, fmt.Errorf("set up storage: %w", err)
	}
	return o, nil
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

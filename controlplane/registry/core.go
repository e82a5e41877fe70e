package registry

import (
	"errors"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apiserver/pkg/registry/rest"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"coracle/controlplane/registry/core"
	"coracle/controlplane/registry/core/pod"
	"coracle/controlplane/registry/core/service"
	"coracle/controlplane/registry/core/serviceaccounttoken"
	"coracle/controlplane/registry/events"
	"coracle/controlplane/registry/metrics"
	"coracle/controlplane/registry/networking"
)

var v1 = corev1.SchemeGroupVersion

func (r *Registry) addCore(cfg Config) error {
	if err := r.addNamespaces(cfg); err != nil {
		return err
	}
	nodes, err := place(r, cfg, v1, core.Nodes())
	if err != nil {
		return err
	}
	var alive func(string) bool
	if cfg.Sessions != nil {
		alive = cfg.Sessions.Alive
	}
	r.add(v1, "nodes", core.ShowNodes(nodes, alive))
	secrets, err := place(r, cfg, v1, core.Secrets())
	if err != nil {
		return err
	}
	accounts, err := place(r, cfg, v1, core.ServiceAccounts())
	if err != nil {
		return err
	}
	pods, err := pod.Build(cfg.Env)
	if err != nil {
		return err
	}
	for path, storage := range pods.Map() {
		r.add(v1, path, storage)
	}
	r.add(v1, "serviceaccounts/token", serviceaccounttoken.New(serviceaccounttoken.Config{
		Accounts: accounts, Pods: pods.Pods, Secrets: secrets, Nodes: nodes, Issuer: cfg.Issuer, Audiences: cfg.Audiences,
	}))
	if err := r.addServices(cfg); err != nil {
		return err
	}
	if cfg.Streaming != nil {
		for path, storage := range cfg.Streaming(pods.Pods, nodes, r.services.Services) {
			r.add(v1, path, storage)
		}
	}
	if cfg.Usage != nil {
		for path, storage := range metrics.Storage(metrics.Config{Pods: pods.Pods, Nodes: nodes, Usage: cfg.Usage, Table: cfg.Env.Table}) {
			r.add(metricsv1beta1.SchemeGroupVersion, path, storage)
		}
	}
	if err := r.addEvents(cfg); err != nil {
		return err
	}
	return errors.Join(
		placed(place(r, cfg, v1, core.ConfigMaps())),
		placed(place(r, cfg, v1, core.PodTemplates())),
		placed(place(r, cfg, v1, core.LimitRanges())),
		placed(place(r, cfg, v1, core.ResourceQuotas())),
		placed(place(r, cfg, v1, core.PersistentVolumes())),
		placed(place(r, cfg, v1, core.PersistentVolumeClaims())),
		placeScaled(r, cfg, v1, core.ReplicationControllers(), core.ReplicationControllerScale()),
	)
}

func (r *Registry) addNamespaces(cfg Config) error {
	main, status, finalize, err := core.BuildNamespaces(cfg.Env)
	if err != nil {
		return err
	}
	for path, storage := range map[string]rest.Storage{"namespaces": main, "namespaces/status": status, "namespaces/finalize": finalize} {
		r.add(v1, path, storage)
	}
	return nil
}

// addEvents serves one storage in two groups.
func (r *Registry) addEvents(cfg Config) error {
	main, err := place(r, cfg, v1, events.Events())
	if err != nil {
		return err
	}
	r.add(eventsv1.SchemeGroupVersion, "events", main)
	return nil
}

func (r *Registry) addServices(cfg Config) error {
	addresses, err := place(r, cfg, networkingV1, networking.IPAddresses())
	if err != nil {
		return err
	}
	endpoints, err := place(r, cfg, v1, core.Endpoints())
	if err != nil {
		return err
	}
	r.services, err = service.Build(service.Config{
		Env: cfg.Env, Prefix: cfg.ServiceCIDR, Ports: cfg.NodePorts, Addresses: addresses, Endpoints: endpoints, Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	r.add(v1, "services", r.services.Services)
	r.add(v1, "services/status", r.services.Status)
	return nil
}

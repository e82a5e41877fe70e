package pod

import (
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/registry/kind"
)

// Storage is everything the package serves.
type Storage struct {
	Pods                      *REST
	Status, Ephemeral, Resize *kind.Sub
	Binding                   *Binding
	LegacyBinding             *LegacyBinding
	Eviction                  *Eviction
}

// Build makes the storage of pods.
func Build(env kind.Env) (*Storage, error) {
	k := Pods()
	main, _, err := k.Build(env)
	if err != nil {
		return nil, err
	}
	main.ReturnDeletedObject = true
	binding := &Binding{store: main.Store}
	pods := &REST{main}
	return &Storage{
		Pods:          pods,
		Status:        k.Sub(env, main.Store, *k.Status),
		Ephemeral:     k.Sub(env, main.Store, ephemeral()),
		Resize:        k.Sub(env, main.Store, resize()),
		Binding:       binding,
		LegacyBinding: &LegacyBinding{binding},
		Eviction:      &Eviction{store: pods},
	}, nil
}

// Map keys the storage by path as the group's version wants it.
func (s *Storage) Map() map[string]rest.Storage {
	return map[string]rest.Storage{
		"pods": s.Pods, "pods/status": s.Status, "pods/ephemeralcontainers": s.Ephemeral, "pods/resize": s.Resize,
		"pods/binding": s.Binding, "pods/eviction": s.Eviction, "bindings": s.LegacyBinding,
	}
}

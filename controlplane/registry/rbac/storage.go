package rbac

import (
	"context"
	"errors"

	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/registry/kind"
)

// Build makes the storage of the four kinds, keyed by resource.
func Build(env kind.Env, g Guard) (map[string]rest.Storage, error) {
	if g == nil {
		return nil, errors.New("roles cannot be served without a guard: anybody could grant anything")
	}
	out := map[string]rest.Storage{}
	return out, errors.Join(
		guard(out, env, roles(), g.Role),
		guard(out, env, clusterRoles(), g.ClusterRole),
		guard(out, env, roleBindings(), g.RoleBinding),
		guard(out, env, clusterRoleBindings(), g.ClusterRoleBinding),
	)
}

func guard[T kind.Object](out map[string]rest.Storage, env kind.Env, k kind.Kind[T], check func(ctx context.Context, obj, old T) error) error {
	main, _, err := k.Build(env)
	if err != nil {
		return err
	}
	out[k.Resource] = &REST[T]{REST: main, check: check}
	return nil
}

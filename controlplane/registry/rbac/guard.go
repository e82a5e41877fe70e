package rbac

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"

	"coracle/controlplane/registry/kind"
)

// Guard keeps users from granting more than they hold. Its methods judge what is about to be written; old is nil on
// create. Refusals are errors of the API.
type Guard interface {
	Role(ctx context.Context, obj, old *rbacv1.Role) error
	ClusterRole(ctx context.Context, obj, old *rbacv1.ClusterRole) error
	RoleBinding(ctx context.Context, obj, old *rbacv1.RoleBinding) error
	ClusterRoleBinding(ctx context.Context, obj, old *rbacv1.ClusterRoleBinding) error
}

// REST is the storage of one of the four kinds behind the guard.
type REST[T kind.Object] struct {
	*kind.REST
	check func(ctx context.Context, obj, old T) error
}

// Create implements rest.Creater. The check comes where admission does, after validation.
func (r *REST[T]) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, options *metav1.CreateOptions) (runtime.Object, error) {
	return r.REST.Create(ctx, obj, r.onCreate(validate), options)
}

// Update implements rest.Updater.
func (r *REST[T]) Update(ctx context.Context, name string, info rest.UpdatedObjectInfo, create rest.ValidateObjectFunc, update rest.ValidateObjectUpdateFunc, allowCreate bool, options *metav1.UpdateOptions) (runtime.Object, bool, error) {
	guarded := func(ctx context.Context, obj, old runtime.Object) error {
		if err := r.check(ctx, obj.(T), old.(T)); err != nil {
			return err
		}
		if update == nil {
			return nil
		}
		return update(ctx, obj, old)
	}
	return r.REST.Update(ctx, name, info, r.onCreate(create), guarded, allowCreate, options)
}

func (r *REST[T]) onCreate(next rest.ValidateObjectFunc) rest.ValidateObjectFunc {
	return func(ctx context.Context, obj runtime.Object) error {
		var none T
		if err := r.check(ctx, obj.(T), none); err != nil {
			return err
		}
		if next == nil {
			return nil
		}
		return next(ctx, obj)
	}
}

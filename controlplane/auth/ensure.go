package auth

import (
	"context"
	"errors"
	"fmt"
	"path"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"coracle/controlplane/auth/policy"
)

// BootstrapPolicy is what a new cluster begins with.
func BootstrapPolicy() policy.Policy { return policy.Default() }

// EnsurePolicy creates the default Roles and bindings that are missing and adds to the others what they lack, unless their
// annotation rbac.authorization.kubernetes.io/autoupdate says "false". It writes nothing where all is well. The namespaces
// kube-system and kube-public must exist. It tries everything and joins the errors.
func EnsurePolicy(ctx context.Context, client kubernetes.Interface) error {
	want := policy.Default()
	return errors.Join(
		ensureClusterRoles(ctx, client, want.ClusterRoles),
		ensureClusterRoleBindings(ctx, client, want.ClusterRoleBindings),
		ensureRoles(ctx, client, want.Roles),
		ensureRoleBindings(ctx, client, want.RoleBindings),
	)
}

// door is how objects of one kind are reached in one namespace; the typed clients are doors.
type door[T any] interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*T, error)
	Create(ctx context.Context, obj *T, o metav1.CreateOptions) (*T, error)
	Update(ctx context.Context, obj *T, o metav1.UpdateOptions) (*T, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
}

// object is a pointer to a T that has metadata.
type object[T any] interface {
	*T
	metav1.Object
}

// repairer says what current must become to be as wanted, nil for nothing, and whether it must be made anew for that.
type repairer[T any] func(current, want *T) (repaired *T, recreate bool)

// inPlace is a repair that an update can always make.
func inPlace[T any](repair func(current, want *T) *T) repairer[T] {
	return func(current, want *T) (*T, bool) { return repair(current, want), false }
}

func ensureClusterRoles(ctx context.Context, client kubernetes.Interface, wants []rbacv1.ClusterRole) error {
	api := client.RbacV1().ClusterRoles()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list clusterroles: %w", err)
	}
	return ensureAll(ctx, "clusterrole", func(string) door[rbacv1.ClusterRole] { return api }, list.Items, wants, inPlace(policy.RepairClusterRole))
}

func ensureRoles(ctx context.Context, client kubernetes.Interface, wants []rbacv1.Role) error {
	api := func(namespace string) door[rbacv1.Role] { return client.RbacV1().Roles(namespace) }
	return ensureAll(ctx, "role", api, nil, wants, inPlace(policy.RepairRole))
}

func ensureClusterRoleBindings(ctx context.Context, client kubernetes.Interface, wants []rbacv1.ClusterRoleBinding) error {
	api := client.RbacV1().ClusterRoleBindings()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list clusterrolebindings: %w", err)
	}
	return ensureAll(ctx, "clusterrolebinding", func(string) door[rbacv1.ClusterRoleBinding] { return api }, list.Items, wants, policy.RepairClusterRoleBinding)
}

func ensureRoleBindings(ctx context.Context, client kubernetes.Interface, wants []rbacv1.RoleBinding) error {
	api := func(namespace string) door[rbacv1.RoleBinding] { return client.RbacV1().RoleBindings(namespace) }
	return ensureAll(ctx, "rolebinding", api, nil, wants, policy.RepairRoleBinding)
}

// ensureAll brings all objects of a kind in line. What was listed before need not be asked for; nothing listed is fine.
func ensureAll[T any, P object[T]](ctx context.Context, kind string, api func(namespace string) door[T], listed, wants []T, repair repairer[T]) error {
	have := make(map[string]*T, len(listed))
	for i := range listed {
		have[P(&listed[i]).GetName()] = &listed[i]
	}
	var errs []error
	for i := range wants {
		want := P(&wants[i])
		if err := ensure[T, P](ctx, api(want.GetNamespace()), have[want.GetName()], &wants[i], repair); err != nil {
			errs = append(errs, fmt.Errorf("ensure %s %s: %w", kind, path.Join(want.GetNamespace(), want.GetName()), err))
		}
	}
	return errors.Join(errs...)
}

// ensure brings one object in line: repairs known, or reads it, or creates it. Other control planes may do the same at the same
// time, so conflicts and "already exists" lead to another look.
func ensure[T any, P object[T]](ctx context.Context, api door[T], known, want *T, repair repairer[T]) error {
	lookAgain := func(err error) bool {
		return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
	}
	create := func() error {
		_, err := api.Create(ctx, want, metav1.CreateOptions{})
		return err
	}
	return retry.OnError(retry.DefaultRetry, lookAgain, func() error {
		current := known
		known = nil // good for the first try only
		if current == nil {
			var err error
			if current, err = api.Get(ctx, P(want).GetName(), metav1.GetOptions{}); apierrors.IsNotFound(err) {
				return create()
			} else if err != nil {
				return err
			}
		}
		repaired, recreate := repair(current, want)
		switch {
		case repaired == nil:
			return nil
		case recreate:
			return replace(P(current), func(o metav1.DeleteOptions) error { return api.Delete(ctx, P(current).GetName(), o) }, create)
		}
		_, err := api.Update(ctx, repaired, metav1.UpdateOptions{})
		return err
	})
}

// replace deletes just the object that was seen and creates the wanted one.
func replace(seen metav1.Object, remove func(metav1.DeleteOptions) error, create func() error) error {
	uid := seen.GetUID()
	err := remove(metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return create()
}

package auth

import (
	"context"
	"errors"
	"fmt"

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

func ensureClusterRoles(ctx context.Context, client kubernetes.Interface, wants []rbacv1.ClusterRole) error {
	api := client.RbacV1().ClusterRoles()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list clusterroles: %w", err)
	}
	have := map[string]*rbacv1.ClusterRole{}
	for i := range list.Items {
		have[list.Items[i].Name] = &list.Items[i]
	}
	var errs []error
	for i := range wants {
		want := &wants[i]
		err := settle(have[want.Name], func() error {
			_, err := api.Create(ctx, want, metav1.CreateOptions{})
			return err
		}, func() (*rbacv1.ClusterRole, error) {
			return api.Get(ctx, want.Name, metav1.GetOptions{})
		}, func(current *rbacv1.ClusterRole) error {
			if repaired := policy.RepairClusterRole(current, want); repaired != nil {
				_, err := api.Update(ctx, repaired, metav1.UpdateOptions{})
				return err
			}
			return nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("ensure clusterrole %s: %w", want.Name, err))
		}
	}
	return errors.Join(errs...)
}

func ensureRoles(ctx context.Context, client kubernetes.Interface, wants []rbacv1.Role) error {
	var errs []error
	for i := range wants {
		want := &wants[i]
		api := client.RbacV1().Roles(want.Namespace)
		err := settle(nil, func() error {
			_, err := api.Create(ctx, want, metav1.CreateOptions{})
			return err
		}, func() (*rbacv1.Role, error) {
			return api.Get(ctx, want.Name, metav1.GetOptions{})
		}, func(current *rbacv1.Role) error {
			if repaired := policy.RepairRole(current, want); repaired != nil {
				_, err := api.Update(ctx, repaired, metav1.UpdateOptions{})
				return err
			}
			return nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("ensure role %s/%s: %w", want.Namespace, want.Name, err))
		}
	}
	return errors.Join(errs...)
}

func ensureClusterRoleBindings(ctx context.Context, client kubernetes.Interface, wants []rbacv1.ClusterRoleBinding) error {
	api := client.RbacV1().ClusterRoleBindings()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list clusterrolebindings: %w", err)
	}
	have := map[string]*rbacv1.ClusterRoleBinding{}
	for i := range list.Items {
		have[list.Items[i].Name] = &list.Items[i]
	}
	var errs []error
	for i := range wants {
		want := &wants[i]
		create := func() error {
			_, err := api.Create(ctx, want, metav1.CreateOptions{})
			return err
		}
		err := settle(have[want.Name], create, func() (*rbacv1.ClusterRoleBinding, error) {
			return api.Get(ctx, want.Name, metav1.GetOptions{})
		}, func(current *rbacv1.ClusterRoleBinding) error {
			repaired, recreate := policy.RepairClusterRoleBinding(current, want)
			switch {
			case repaired == nil:
				return nil
			case recreate:
				return replace(current, func(o metav1.DeleteOptions) error { return api.Delete(ctx, current.Name, o) }, create)
			}
			_, err := api.Update(ctx, repaired, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("ensure clusterrolebinding %s: %w", want.Name, err))
		}
	}
	return errors.Join(errs...)
}

func ensureRoleBindings(ctx context.Context, client kubernetes.Interface, wants []rbacv1.RoleBinding) error {
	var errs []error
	for i := range wants {
		want := &wants[i]
		api := client.RbacV1().RoleBindings(want.Namespace)
		create := func() error {
			_, err := api.Create(ctx, want, metav1.CreateOptions{})
			return err
		}
		err := settle(nil, create, func() (*rbacv1.RoleBinding, error) {
			return api.Get(ctx, want.Name, metav1.GetOptions{})
		}, func(current *rbacv1.RoleBinding) error {
			repaired, recreate := policy.RepairRoleBinding(current, want)
			switch {
			case repaired == nil:
				return nil
			case recreate:
				return replace(current, func(o metav1.DeleteOptions) error { return api.Delete(ctx, current.Name, o) }, create)
			}
			_, err := api.Update(ctx, repaired, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("ensure rolebinding %s/%s: %w", want.Namespace, want.Name, err))
		}
	}
	return errors.Join(errs...)
}

// settle brings one object in line: repairs known, or reads it, or creates it. Other control planes may do the same at the same
// time, so conflicts and "already exists" lead to another look.
func settle[T any](known *T, create func() error, get func() (*T, error), repair func(*T) error) error {
	lookAgain := func(err error) bool {
		return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
	}
	return retry.OnError(retry.DefaultRetry, lookAgain, func() error {
		current := known
		known = nil // good for the first try only
		if current == nil {
			var err error
			if current, err = get(); apierrors.IsNotFound(err) {
				return create()
			} else if err != nil {
				return err
			}
		}
		return repair(current)
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

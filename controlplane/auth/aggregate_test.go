package auth

import (
	"context"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"coracle/internal/testwait"
)

func TestRunAggregates(t *testing.T) {
	a, client, factory := newAuth(t, newAuthority(t))
	if err := EnsurePolicy(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	changes, err := client.RbacV1().ClusterRoles().Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer changes.Stop()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()

	allows := func(role *rbacv1.ClusterRole, resource string) bool {
		for _, rule := range role.Rules {
			for _, r := range rule.Resources {
				if r == resource {
					return true
				}
			}
		}
		return false
	}
	until := func(what string, good func(*rbacv1.ClusterRole) bool) {
		t.Helper()
		for {
			select {
			case <-ctx.Done():
				t.Fatalf("%s: %v", what, ctx.Err())
			case event := <-changes.ResultChan():
				role, ok := event.Object.(*rbacv1.ClusterRole)
				if ok && event.Type == watch.Modified && good(role) {
					return
				}
			}
		}
	}
	until("admin gets what view has, through edit", func(r *rbacv1.ClusterRole) bool {
		return r.Name == "admin" && allows(r, "pods/log") && allows(r, "pods/exec") && allows(r, "rolebindings")
	})
	if _, err := client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "boats", Labels: map[string]string{"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"example.com"}, Resources: []string{"boats"}}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until("view gets a new part", func(r *rbacv1.ClusterRole) bool { return r.Name == "view" && allows(r, "boats") })
	cancel()
	if err := testwait.Receive(t, "Run ends", done); err != nil {
		t.Fatal(err)
	}
}

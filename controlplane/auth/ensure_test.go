package auth

import (
	"context"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// writes counts what a call changed.
func writes(client *fake.Clientset) int {
	n := 0
	for _, action := range client.Actions() {
		switch action.GetVerb() {
		case "create", "update", "patch", "delete":
			n++
		}
	}
	return n
}

func TestEnsurePolicyIsQuietWhenAllIsWell(t *testing.T) {
	client := fake.NewClientset()
	if err := EnsurePolicy(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	policy := BootstrapPolicy()
	if n, want := writes(client), len(policy.ClusterRoles)+len(policy.ClusterRoleBindings)+len(policy.Roles)+len(policy.RoleBindings); n != want {
		t.Fatalf("%d writes, want one for each of %d objects", n, want)
	}
	client.ClearActions()
	if err := EnsurePolicy(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	if n := writes(client); n != 0 {
		t.Fatalf("%d writes where all was well", n)
	}
}

func TestEnsurePolicyRepairs(t *testing.T) {
	client := fake.NewClientset()
	if err := EnsurePolicy(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	api := client.RbacV1()
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	role, err := api.ClusterRoles().Get(t.Context(), "cluster-admin", metav1.GetOptions{})
	change(err)
	role.Rules = nil
	_, err = api.ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{})
	change(err)
	guarded, err := api.ClusterRoles().Get(t.Context(), "system:discovery", metav1.GetOptions{})
	change(err)
	guarded.Rules, guarded.Annotations[rbacv1.AutoUpdateAnnotationKey] = nil, "false"
	_, err = api.ClusterRoles().Update(t.Context(), guarded, metav1.UpdateOptions{})
	change(err)
	change(api.RoleBindings("kube-public").Delete(t.Context(), "system:controller:bootstrap-signer", metav1.DeleteOptions{}))
	binding, err := api.ClusterRoleBindings().Get(t.Context(), "cluster-admin", metav1.GetOptions{})
	change(err)
	binding.RoleRef.Name = "view"
	_, err = api.ClusterRoleBindings().Update(t.Context(), binding, metav1.UpdateOptions{})
	change(err)

	change(EnsurePolicy(t.Context(), client))
	role, err = api.ClusterRoles().Get(t.Context(), "cluster-admin", metav1.GetOptions{})
	if err != nil || len(role.Rules) != 2 {
		t.Errorf("cluster-admin has %d rules, %v", len(role.Rules), err)
	}
	guarded, err = api.ClusterRoles().Get(t.Context(), "system:discovery", metav1.GetOptions{})
	if err != nil || len(guarded.Rules) != 0 {
		t.Errorf("a role that opted out has %d rules, %v", len(guarded.Rules), err)
	}
	if _, err := api.RoleBindings("kube-public").Get(t.Context(), "system:controller:bootstrap-signer", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	binding, err = api.ClusterRoleBindings().Get(t.Context(), "cluster-admin", metav1.GetOptions{})
	if err != nil || binding.RoleRef.Name != "cluster-admin" {
		t.Errorf("the binding refers to %s, %v", binding.RoleRef.Name, err)
	}
}

// TestEnsurePolicyBesideAnother: another control plane creates a role between the look and the write.
func TestEnsurePolicyBesideAnother(t *testing.T) {
	client := fake.NewClientset()
	raced := false
	client.PrependReactor("create", "clusterroles", func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateAction)
		if !ok || raced {
			return false, nil, nil
		}
		raced = true
		role, ok := create.GetObject().(*rbacv1.ClusterRole)
		if !ok {
			t.Fatalf("created a %T", create.GetObject())
		}
		if err := client.Tracker().Add(role.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		return true, nil, apierrors.NewAlreadyExists(rbacv1.Resource("clusterroles"), role.Name)
	})
	if err := EnsurePolicy(context.Background(), client); err != nil {
		t.Fatal(err)
	}
	if !raced {
		t.Fatal("nothing was raced")
	}
}

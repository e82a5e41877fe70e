package serviceaccount

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPlanDefault(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}
	if sa := PlanDefault(ns, false); sa == nil || sa.Name != "default" || sa.Namespace != "team" {
		t.Errorf("planned %+v", sa)
	}
	if sa := PlanDefault(ns, true); sa != nil {
		t.Errorf("planned %+v where there is one", sa)
	}
	ns.Status.Phase = corev1.NamespaceTerminating
	if sa := PlanDefault(ns, false); sa != nil {
		t.Errorf("planned %+v in a namespace that goes", sa)
	}
}

func TestPlanSecret(t *testing.T) {
	ca := []byte("ca")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "bot", UID: "1"}}
	secret := func(change ...func(*corev1.Secret)) *corev1.Secret {
		s := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "team", Annotations: map[string]string{corev1.ServiceAccountNameKey: "bot"}},
			Type:       corev1.SecretTypeServiceAccountToken,
		}
		for _, f := range change {
			f(s)
		}
		return s
	}
	p := PlanSecret(secret(), account, ca)
	if p.Update == nil || !p.NeedsToken || p.Delete {
		t.Fatalf("a fresh secret: %+v", p)
	}
	full := p.Update
	if string(full.Data["ca.crt"]) != "ca" || string(full.Data["namespace"]) != "team" || full.Annotations[corev1.ServiceAccountUIDKey] != "1" {
		t.Errorf("filled %v, annotations %v", full.Data, full.Annotations)
	}
	full.Data[corev1.ServiceAccountTokenKey] = []byte("token")
	if p := PlanSecret(full, account, ca); p.Update != nil || p.Delete {
		t.Errorf("a full secret: %+v", p)
	}
	if p := PlanSecret(full, account, []byte("new ca")); p.Update == nil || p.NeedsToken {
		t.Errorf("after the CA changed: %+v", p)
	}
	if p := PlanSecret(full, nil, ca); !p.Delete {
		t.Errorf("without its account: %+v", p)
	}
	other := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "bot", UID: "2"}}
	if p := PlanSecret(full, other, ca); !p.Delete {
		t.Errorf("with another account of the name: %+v", p)
	}
	for name, s := range map[string]*corev1.Secret{
		"of another type":    secret(func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }),
		"that names nobody":  secret(func(s *corev1.Secret) { s.Annotations = nil }),
		"on its way already": secret(func(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{} }),
	} {
		if p := PlanSecret(s, nil, ca); p.Delete || p.Update != nil {
			t.Errorf("a secret %s: %+v", name, p)
		}
	}
}

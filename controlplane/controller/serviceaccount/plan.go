// Package serviceaccount gives each namespace the ServiceAccount "default" and fills the older kind of
// token Secrets, where an issuer for them is given.
package serviceaccount

import (
	"bytes"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultName is the account that every namespace has.
const DefaultName = "default"

// PlanDefault is the account to create in a namespace; nil where it is there, or must not be made.
func PlanDefault(ns *corev1.Namespace, exists bool) *corev1.ServiceAccount {
	if exists || ns.DeletionTimestamp != nil || ns.Status.Phase == corev1.NamespaceTerminating {
		return nil
	}
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: DefaultName, Namespace: ns.Name}}
}

// SecretPlan is what to do with a token Secret.
type SecretPlan struct {
	Delete bool           // its account is gone or is another one by now
	Update *corev1.Secret // with the keys that were missing or old; nil: right as it is
	// NeedsToken: Update lacks only the token, which the caller signs and adds.
	NeedsToken bool
}

// PlanSecret decides about a Secret of type kubernetes.io/service-account-token. account is the one that its
// annotation names, nil if there is none. Secrets of other types are left alone.
func PlanSecret(secret *corev1.Secret, account *corev1.ServiceAccount, rootCA []byte) SecretPlan {
	name := secret.Annotations[corev1.ServiceAccountNameKey]
	if secret.Type != corev1.SecretTypeServiceAccountToken || name == "" || secret.DeletionTimestamp != nil {
		return SecretPlan{}
	}
	uid := secret.Annotations[corev1.ServiceAccountUIDKey]
	if account == nil || (uid != "" && uid != string(account.UID)) {
		return SecretPlan{Delete: true}
	}
	next := secret.DeepCopy()
	if next.Data == nil {
		next.Data = map[string][]byte{}
	}
	changed := false
	fill := func(key string, value []byte) {
		if len(value) > 0 && !bytes.Equal(next.Data[key], value) {
			next.Data[key], changed = value, true
		}
	}
	fill(corev1.ServiceAccountRootCAKey, rootCA)
	if len(next.Data[corev1.ServiceAccountNamespaceKey]) == 0 {
		fill(corev1.ServiceAccountNamespaceKey, []byte(secret.Namespace))
	}
	if uid == "" {
		next.Annotations[corev1.ServiceAccountUIDKey], changed = string(account.UID), true
	}
	needs := len(next.Data[corev1.ServiceAccountTokenKey]) == 0
	if !changed && !needs {
		return SecretPlan{}
	}
	return SecretPlan{Update: next, NeedsToken: needs}
}

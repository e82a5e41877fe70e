package core

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"coracle/controlplane/api/core"
	"coracle/controlplane/registry/kind"
)

// ConfigMaps describes configmaps.
func ConfigMaps() kind.Kind[*corev1.ConfigMap] {
	return kind.Kind[*corev1.ConfigMap]{
		Versions: versions, Resource: "configmaps", Singular: "configmap", Short: []string{"cm"},
		New:     func() *corev1.ConfigMap { return &corev1.ConfigMap{} },
		NewList: listOf[corev1.ConfigMapList](),
		Indexed: []string{"metadata.name"},
		Main: kind.Strategy[*corev1.ConfigMap]{
			Validate: core.ValidateConfigMap, ValidateUpdate: core.ValidateConfigMapUpdate,
		},
	}
}

// Secrets describes secrets.
func Secrets() kind.Kind[*corev1.Secret] {
	return kind.Kind[*corev1.Secret]{
		Versions: versions, Resource: "secrets", Singular: "secret",
		New:     func() *corev1.Secret { return &corev1.Secret{} },
		NewList: listOf[corev1.SecretList](),
		Indexed: []string{"metadata.name"},
		Fields:  func(s *corev1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} },
		Main: kind.Strategy[*corev1.Secret]{
			Update: func(_ context.Context, obj, old *corev1.Secret) {
				// An update that names no type keeps the old one; the type itself is immutable.
				if obj.Type == "" {
					obj.Type = old.Type
				}
			},
			Validate: core.ValidateSecret, ValidateUpdate: core.ValidateSecretUpdate,
		},
	}
}

// ServiceAccounts describes serviceaccounts.
func ServiceAccounts() kind.Kind[*corev1.ServiceAccount] {
	return kind.Kind[*corev1.ServiceAccount]{
		Versions: versions, Resource: "serviceaccounts", Singular: "serviceaccount", Short: []string{"sa"},
		New:     func() *corev1.ServiceAccount { return &corev1.ServiceAccount{} },
		NewList: listOf[corev1.ServiceAccountList](),
		Main: kind.Strategy[*corev1.ServiceAccount]{
			Create:   func(_ context.Context, obj *corev1.ServiceAccount) { keepSecretNames(obj) },
			Update:   func(_ context.Context, obj, _ *corev1.ServiceAccount) { keepSecretNames(obj) },
			Validate: core.ValidateServiceAccount, ValidateUpdate: core.ValidateServiceAccountUpdate,
		},
	}
}

// keepSecretNames drops all of the references but the names: they are in the service account's own namespace.
func keepSecretNames(sa *corev1.ServiceAccount) {
	for i, ref := range sa.Secrets {
		sa.Secrets[i] = corev1.ObjectReference{Name: ref.Name}
	}
}

// PodTemplates describes podtemplates.
func PodTemplates() kind.Kind[*corev1.PodTemplate] {
	return kind.Kind[*corev1.PodTemplate]{
		Versions: versions, Resource: "podtemplates", Singular: "podtemplate",
		New:     func() *corev1.PodTemplate { return &corev1.PodTemplate{} },
		NewList: listOf[corev1.PodTemplateList](),
		Main: kind.Strategy[*corev1.PodTemplate]{
			Create:   func(_ context.Context, obj *corev1.PodTemplate) { obj.Generation = 1 },
			Update:   func(_ context.Context, obj, old *corev1.PodTemplate) { bump(obj, old, obj.Template, old.Template) },
			Validate: core.ValidatePodTemplate, ValidateUpdate: core.ValidatePodTemplateUpdate,
		},
	}
}

// Endpoints describes endpoints.
func Endpoints() kind.Kind[*corev1.Endpoints] {
	return kind.Kind[*corev1.Endpoints]{
		Versions: versions, Resource: "endpoints", Singular: "endpoints", Short: []string{"ep"},
		New:     func() *corev1.Endpoints { return &corev1.Endpoints{} },
		NewList: listOf[corev1.EndpointsList](),
		Main: kind.Strategy[*corev1.Endpoints]{
			Validate: core.ValidateEndpoints, ValidateUpdate: core.ValidateEndpointsUpdate,
			CreateOnUpdate: true,
		},
	}
}

// LimitRanges describes limitranges.
func LimitRanges() kind.Kind[*corev1.LimitRange] {
	return kind.Kind[*corev1.LimitRange]{
		Versions: versions, Resource: "limitranges", Singular: "limitrange", Short: []string{"limits"},
		New:     func() *corev1.LimitRange { return &corev1.LimitRange{} },
		NewList: listOf[corev1.LimitRangeList](),
		Main: kind.Strategy[*corev1.LimitRange]{
			Validate: core.ValidateLimitRange, ValidateUpdate: core.ValidateLimitRangeUpdate,
			CreateOnUpdate: true,
		},
	}
}

// ResourceQuotas describes resourcequotas.
func ResourceQuotas() kind.Kind[*corev1.ResourceQuota] {
	return kind.Kind[*corev1.ResourceQuota]{
		Versions: versions, Resource: "resourcequotas", Singular: "resourcequota", Short: []string{"quota"},
		New:     func() *corev1.ResourceQuota { return &corev1.ResourceQuota{} },
		NewList: listOf[corev1.ResourceQuotaList](),
		Main: kind.Strategy[*corev1.ResourceQuota]{
			Create:   func(_ context.Context, obj *corev1.ResourceQuota) { obj.Status = corev1.ResourceQuotaStatus{} },
			Update:   func(_ context.Context, obj, old *corev1.ResourceQuota) { obj.Status = old.Status },
			Validate: core.ValidateResourceQuota, ValidateUpdate: core.ValidateResourceQuotaUpdate,
			Reset: []string{"status"},
		},
		Status: &kind.Strategy[*corev1.ResourceQuota]{
			Update:         func(_ context.Context, obj, old *corev1.ResourceQuota) { obj.Spec = old.Spec },
			ValidateUpdate: core.ValidateResourceQuotaStatusUpdate,
			Reset:          []string{"spec"},
		},
	}
}

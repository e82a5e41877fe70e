// Package openapi holds the generated schema definitions of every type the API server serves.
//
// Server-side apply, strict field validation, kubectl explain and the published OpenAPI documents are all derived from
// GetOpenAPIDefinitions. A package whose kinds become served is added to the list below, and the file is generated again;
// nothing in this folder is edited by hand but this file.
package openapi

//go:generate go tool openapi-gen --go-header-file /dev/null --output-dir . --output-pkg coracle/controlplane/apiserver/openapi --output-file zz_generated.openapi.go --report-filename /dev/null k8s.io/api/apps/v1 k8s.io/api/authentication/v1 k8s.io/api/authorization/v1 k8s.io/api/autoscaling/v1 k8s.io/api/autoscaling/v2 k8s.io/api/batch/v1 k8s.io/api/coordination/v1 k8s.io/api/core/v1 k8s.io/api/discovery/v1 k8s.io/api/events/v1 k8s.io/api/networking/v1 k8s.io/api/node/v1 k8s.io/api/policy/v1 k8s.io/api/rbac/v1 k8s.io/api/scheduling/v1 k8s.io/api/scheduling/v1alpha3 k8s.io/api/storage/v1 k8s.io/apimachinery/pkg/api/resource k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/util/intstr k8s.io/apimachinery/pkg/version k8s.io/metrics/pkg/apis/metrics/v1beta1

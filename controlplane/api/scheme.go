// Package api owns the one scheme of the control plane: which kinds exist, how
// their bytes become objects, which defaults a decoded object gets, and which
// field selectors each kind answers.
//
// Every type of k8s.io/api is registered under its own version and under
// __internal as the same Go type, so that the hub version is the versioned type
// itself and decoding converts nothing. The one kind with two shapes is Event:
// core/v1 is the hub, and events.k8s.io/v1 is converted to and from it.
//
// The package and those below it are pure: no I/O, no clock, no goroutines. The
// folders hold one API group each: its defaults (AddDefaults) and its validation.
// Validation is split as the REST handlers call it:
//
//   - ValidateX(obj) judges an object about to be created;
//   - ValidateXUpdate(new, old) judges an update and is complete: it includes
//     what ValidateX would say, and the object meta checks;
//   - ValidateXStatusUpdate(new, old) judges an update through /status.
//
// Field paths and error types are those that Kubernetes gives.
package api

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"coracle/controlplane/api/apps"
	"coracle/controlplane/api/authentication"
	"coracle/controlplane/api/authorization"
	"coracle/controlplane/api/autoscaling"
	"coracle/controlplane/api/batch"
	"coracle/controlplane/api/coordination"
	"coracle/controlplane/api/core"
	"coracle/controlplane/api/discovery"
	"coracle/controlplane/api/events"
	"coracle/controlplane/api/networking"
	"coracle/controlplane/api/node"
	"coracle/controlplane/api/policy"
	"coracle/controlplane/api/rbac"
	"coracle/controlplane/api/scheduling"
)

var (
	// Scheme knows every kind the control plane serves, with its defaults,
	// conversions and field labels. It is complete when the package is loaded
	// and must not be added to.
	Scheme = mustScheme()

	// Codecs makes serializers for JSON, YAML and protobuf over Scheme.
	Codecs = serializer.NewCodecFactory(Scheme,
		serializer.WithStreamingCollectionEncodingToJSON(),
		serializer.WithStreamingCollectionEncodingToProtobuf())

	// ParameterCodec turns query strings into option objects and back.
	ParameterCodec = runtime.NewParameterCodec(Scheme)
)

// group is one version of an API group.
type group struct {
	version schema.GroupVersion
	add     func(*runtime.Scheme) error
	// defaults is nil where the group has none.
	defaults func(*runtime.Scheme) error
}

// groups lists what Scheme is made of.
var groups = []group{
	{corev1.SchemeGroupVersion, corev1.AddToScheme, core.AddDefaults},
	{eventsv1.SchemeGroupVersion, eventsv1.AddToScheme, events.AddDefaults},
	{appsv1.SchemeGroupVersion, appsv1.AddToScheme, apps.AddDefaults},
	{batchv1.SchemeGroupVersion, batchv1.AddToScheme, batch.AddDefaults},
	{autoscalingv1.SchemeGroupVersion, autoscalingv1.AddToScheme, autoscaling.AddDefaults},
	{rbacv1.SchemeGroupVersion, rbacv1.AddToScheme, rbac.AddDefaults},
	{discoveryv1.SchemeGroupVersion, discoveryv1.AddToScheme, discovery.AddDefaults},
	{coordinationv1.SchemeGroupVersion, coordinationv1.AddToScheme, coordination.AddDefaults},
	{authenticationv1.SchemeGroupVersion, authenticationv1.AddToScheme, authentication.AddDefaults},
	{authorizationv1.SchemeGroupVersion, authorizationv1.AddToScheme, authorization.AddDefaults},
	{policyv1.SchemeGroupVersion, policyv1.AddToScheme, policy.AddDefaults},
	{schedulingv1.SchemeGroupVersion, schedulingv1.AddToScheme, scheduling.AddDefaults},
	{nodev1.SchemeGroupVersion, nodev1.AddToScheme, node.AddDefaults},
	{networkingv1.SchemeGroupVersion, networkingv1.AddToScheme, networking.AddDefaults},
	{storagev1.SchemeGroupVersion, storagev1.AddToScheme, nil},
	{certificatesv1.SchemeGroupVersion, certificatesv1.AddToScheme, nil},
	{flowcontrolv1.SchemeGroupVersion, flowcontrolv1.AddToScheme, nil},
	{admissionregistrationv1.SchemeGroupVersion, admissionregistrationv1.AddToScheme, nil},
	{metricsv1beta1.SchemeGroupVersion, metricsv1beta1.AddToScheme, nil},
}

// mustScheme builds the scheme of the program. An error in it is an error in the
// source: every test of the package meets it.
func mustScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	if err := AddToScheme(s); err != nil {
		panic(err)
	}
	return s
}

// AddToScheme adds everything Scheme holds to another scheme, for programs and
// tests that need one of their own.
func AddToScheme(s *runtime.Scheme) error {
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	if err := metav1.AddMetaToScheme(s); err != nil {
		return fmt.Errorf("register meta types: %w", err)
	}
	for _, g := range groups {
		if err := g.add(s); err != nil {
			return fmt.Errorf("register %s: %w", g.version, err)
		}
		if err := addHub(s, g.version); err != nil {
			return fmt.Errorf("register hub of %s: %w", g.version, err)
		}
		if g.defaults != nil {
			if err := g.defaults(s); err != nil {
				return fmt.Errorf("register defaults of %s: %w", g.version, err)
			}
		}
		if err := s.SetVersionPriority(g.version); err != nil {
			return fmt.Errorf("set priority of %s: %w", g.version, err)
		}
	}
	for _, add := range []func(*runtime.Scheme) error{addEventConversions, addOptionConversions, addFieldLabels} {
		if err := add(s); err != nil {
			return err
		}
	}
	return nil
}

// addHub registers each type of a version under __internal too. Types of
// meta/v1 (options, watch events, Status) have their own places and are left out.
func addHub(s *runtime.Scheme, gv schema.GroupVersion) error {
	hub := schema.GroupVersion{Group: gv.Group, Version: runtime.APIVersionInternal}
	if gv == eventsv1.SchemeGroupVersion {
		s.AddKnownTypes(hub, &corev1.Event{}, &corev1.EventList{})
		return nil
	}
	for kind, goType := range s.KnownTypes(gv) {
		if path := goType.PkgPath(); !strings.HasPrefix(path, "k8s.io/api/") && !strings.HasPrefix(path, "k8s.io/metrics/") {
			continue
		}
		obj, err := s.New(gv.WithKind(kind))
		if err != nil {
			return err
		}
		s.AddKnownTypeWithName(hub.WithKind(kind), obj)
		if err := addIdentity(s, obj); err != nil {
			return err
		}
	}
	return nil
}

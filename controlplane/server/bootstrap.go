package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"coracle/controlplane/apiserver"
	"coracle/controlplane/auth"
	"coracle/internal/liveness"
	"coracle/internal/version"
)

// bootstrapRetry is how long to wait before trying again what a cluster must have.
const bootstrapRetry = time.Second

// apiName is the Service, in the default namespace, by which pods find the API.
const apiName = "kubernetes"

// bootstrap makes what every cluster has. The server is not ready before it succeeded; it is tried until it does.
func (p *plane) bootstrap(ctx context.Context) error {
	reported := ""
	for {
		err := p.bootstrapOnce(ctx)
		if err == nil {
			p.log.Info("ready", "api", p.serving.Address().String(), "version", version.Version, "kubernetes", apiserver.KubernetesVersion)
			close(p.ready)
			return nil
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the server is stopping
		}
		if err.Error() != reported {
			reported = err.Error()
			p.log.Warn("cluster not set up yet, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(bootstrapRetry):
		}
	}
}

func (p *plane) bootstrapOnce(ctx context.Context) error {
	var errs []error
	for _, name := range []string{metav1.NamespaceSystem, metav1.NamespacePublic, metav1.NamespaceDefault, liveness.NodeLeaseNamespace} {
		errs = append(errs, p.ensureNamespace(ctx, name))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(
		auth.EnsurePolicy(ctx, p.client),
		p.ensureAPIService(ctx),
		p.ensurePriorityClasses(ctx),
	)
}

func (p *plane) ensureNamespace(ctx context.Context, name string) error {
	namespaces := p.client.CoreV1().Namespaces()
	_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = namespaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("ensure namespace %s: %w", name, err)
	}
	return nil
}

// apiService is the Service kubernetes: no selector, its endpoints are this package's to write.
func (p *plane) apiService() *corev1.Service {
	ip := p.cfg.ServiceIP().String()
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: apiName,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, SessionAffinity: corev1.ServiceAffinityNone,
			Ports: []corev1.ServicePort{{
				Name: "https", Protocol: corev1.ProtocolTCP, Port: 443, TargetPort: intstr.FromInt(p.cfg.SecurePort),
			}},
		},
	}
}

func (p *plane) ensureAPIService(ctx context.Context) error {
	services := p.client.CoreV1().Services(metav1.NamespaceDefault)
	want := p.apiService()
	have, err := services.Get(ctx, apiName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = services.Create(ctx, want, metav1.CreateOptions{})
	case err != nil:
	case have.Spec.ClusterIP != want.Spec.ClusterIP:
		// The range was changed; an address cannot be, so the Service is made anew.
		if err = services.Delete(ctx, apiName, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}}); err == nil {
			_, err = services.Create(ctx, want, metav1.CreateOptions{})
		}
	case len(have.Spec.Ports) != 1 || have.Spec.Ports[0].TargetPort != want.Spec.Ports[0].TargetPort || have.Spec.Ports[0].Port != 443:
		have = have.DeepCopy()
		have.Spec.Ports = want.Spec.Ports
		_, err = services.Update(ctx, have, metav1.UpdateOptions{})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("ensure service %s: %w", apiName, err)
	}
	return nil
}

// ensurePriorityClasses makes the two classes that system pods name.
func (p *plane) ensurePriorityClasses(ctx context.Context) error {
	classes := p.client.SchedulingV1().PriorityClasses()
	var errs []error
	for _, want := range []schedulingv1.PriorityClass{
		{
			ObjectMeta:  metav1.ObjectMeta{Name: "system-cluster-critical"},
			Value:       2000000000,
			Description: "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
		},
		{
			ObjectMeta:  metav1.ObjectMeta{Name: "system-node-critical"},
			Value:       2000001000,
			Description: "Used for system critical pods that must not be moved from their current node.",
		},
	} {
		want.PreemptionPolicy = ptr.To(corev1.PreemptLowerPriority)
		_, err := classes.Get(ctx, want.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			_, err = classes.Create(ctx, &want, metav1.CreateOptions{})
		}
		if err != nil && !apierrors.IsAlreadyExists(err) {
			errs = append(errs, fmt.Errorf("ensure priorityclass %s: %w", want.Name, err))
		}
	}
	return errors.Join(errs...)
}

package table

import (
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

func metricsPrinters() map[reflect.Type]printer {
	head := columns(nameColumn, text("cpu"), text("memory"), text("Window"))
	return map[reflect.Type]printer{
		typeOf[metricsv1beta1.NodeMetrics](): of(head, func(o *metricsv1beta1.NodeMetrics, _ time.Time) []any {
			return usageCells(o.Name, o.Usage, o.Window.Duration)
		}),
		typeOf[metricsv1beta1.PodMetrics](): of(head, func(o *metricsv1beta1.PodMetrics, _ time.Time) []any {
			sum := corev1.ResourceList{}
			for i := range o.Containers {
				for name, q := range o.Containers[i].Usage {
					have := sum[name]
					have.Add(q)
					sum[name] = have
				}
			}
			return usageCells(o.Name, sum, o.Window.Duration)
		}),
	}
}

func usageCells(name string, usage corev1.ResourceList, window time.Duration) []any {
	text := func(name corev1.ResourceName) string {
		q, ok := usage[name]
		if !ok {
			q = *resource.NewQuantity(0, resource.DecimalSI)
		}
		return q.String()
	}
	return []any{name, text(corev1.ResourceCPU), text(corev1.ResourceMemory), window.String()}
}

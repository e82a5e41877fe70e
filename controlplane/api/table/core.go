package table

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func corePrinters() map[reflect.Type]printer {
	return map[reflect.Type]printer{
		typeOf[corev1.Pod](): podPrinter(),
		typeOf[corev1.Node](): of(columns(nameColumn, text("Status"), text("Roles"), ageColumn, text("Version"), wide("Internal-IP"),
			wide("External-IP"), wide("OS-Image"), wide("Kernel-Version"), wide("Container-Runtime")), nodeCells),
		typeOf[corev1.Namespace](): of(columns(nameColumn, text("Status"), ageColumn),
			func(o *corev1.Namespace, now time.Time) []any {
				return []any{o.Name, string(o.Status.Phase), age(o, now)}
			}),
		typeOf[corev1.ConfigMap](): of(columns(nameColumn, text("Data"), ageColumn),
			func(o *corev1.ConfigMap, now time.Time) []any {
				return []any{o.Name, int64(len(o.Data) + len(o.BinaryData)), age(o, now)}
			}),
		typeOf[corev1.Secret](): of(columns(nameColumn, text("Type"), text("Data"), ageColumn),
			func(o *corev1.Secret, now time.Time) []any {
				return []any{o.Name, string(o.Type), int64(len(o.Data)), age(o, now)}
			}),
		typeOf[corev1.ServiceAccount](): of(columns(nameColumn, text("Secrets"), ageColumn),
			func(o *corev1.ServiceAccount, now time.Time) []any {
				return []any{o.Name, int64(len(o.Secrets)), age(o, now)}
			}),
		typeOf[corev1.Event](): of(columns(text("Last Seen"), text("Type"), text("Reason"), text("Object"), wide("Subobject"),
			wide("Source"), text("Message"), wide("First Seen"), wide("Count"), wideName()), eventCells),
		typeOf[corev1.PodTemplate](): of(columns(nameColumn, text("Containers"), text("Images"), text("Pod Labels")),
			func(o *corev1.PodTemplate, _ time.Time) []any {
				names, images := containerCells(o.Template.Spec.Containers)
				return []any{o.Name, names, images, labelText(o.Template.Labels)}
			}),
		typeOf[corev1.LimitRange](): of(columns(nameColumn, metav1.TableColumnDefinition{Name: "Created At", Type: "date", Description: describe("creationTimestamp")}),
			func(o *corev1.LimitRange, _ time.Time) []any {
				return []any{o.Name, o.CreationTimestamp.UTC().Format(time.RFC3339)}
			}),
		typeOf[corev1.ResourceQuota]():   of(columns(nameColumn, text("Request"), text("Limit"), ageColumn), quotaCells),
		typeOf[corev1.ComponentStatus](): of(columns(nameColumn, text("Status"), text("Message"), text("Error")), componentCells),
	}
}

func wideName() metav1.TableColumnDefinition {
	c := nameColumn
	c.Priority = 1
	return c
}

func nodeCells(node *corev1.Node, now time.Time) []any {
	status := "Unknown"
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if node.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	i := node.Status.NodeInfo
	return []any{node.Name, status, or(strings.Join(roles(node), ","), none), age(node, now), i.KubeletVersion,
		address(node, corev1.NodeInternalIP), address(node, corev1.NodeExternalIP),
		or(i.OSImage, unknown), or(i.KernelVersion, unknown), or(i.ContainerRuntimeVersion, unknown)}
}

// roles come from the labels node-role.kubernetes.io/ROLE and kubernetes.io/role=ROLE.
func roles(node *corev1.Node) []string {
	var list []string
	for key, value := range node.Labels {
		role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/")
		if key == "kubernetes.io/role" {
			role, ok = value, true
		}
		if ok && role != "" && !slices.Contains(list, role) {
			list = append(list, role)
		}
	}
	slices.Sort(list)
	return list
}

func address(node *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range node.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return none
}

// eventCells serve both generations of events: the old count and last timestamp, the new series and event time.
func eventCells(e *corev1.Event, now time.Time) []any {
	first := since(e.FirstTimestamp, now)
	if e.FirstTimestamp.IsZero() {
		first = since(metav1.NewTime(e.EventTime.Time), now)
	}
	last := since(e.LastTimestamp, now)
	if e.LastTimestamp.IsZero() {
		last = first
	}
	count := int64(e.Count)
	if e.Series != nil {
		last = since(metav1.NewTime(e.Series.LastObservedTime.Time), now)
		count = int64(e.Series.Count)
	} else if count == 0 {
		count = 1
	}
	target := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		target += "/" + e.InvolvedObject.Name
	}
	return []any{last, e.Type, e.Reason, target, e.InvolvedObject.FieldPath, source(e), strings.TrimSpace(e.Message), first, count, e.Name}
}

func source(e *corev1.Event) string {
	component, host := e.Source.Component, e.Source.Host
	if component == "" {
		component = e.ReportingController
	}
	if host == "" && e.ReportingInstance != "" && e.Source.Component == "" {
		host = e.ReportingInstance
	}
	parts := []string{component}
	if host != "" {
		parts = append(parts, host)
	}
	return strings.Join(parts, ", ")
}

func quotaCells(q *corev1.ResourceQuota, now time.Time) []any {
	var requests, limits []string
	names := make([]string, 0, len(q.Status.Hard))
	for name := range q.Status.Hard {
		names = append(names, string(name))
	}
	slices.Sort(names)
	for _, name := range names {
		used, hard := q.Status.Used[corev1.ResourceName(name)], q.Status.Hard[corev1.ResourceName(name)]
		text := fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String())
		if strings.HasPrefix(name, "limits.") {
			limits = append(limits, text)
		} else {
			requests = append(requests, text)
		}
	}
	return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), age(q, now)}
}

func componentCells(o *corev1.ComponentStatus, _ time.Time) []any {
	status, message, problem := "Unknown", "", ""
	for _, c := range o.Conditions {
		if c.Type != corev1.ComponentHealthy {
			continue
		}
		status = "Unhealthy"
		if c.Status == corev1.ConditionTrue {
			status = "Healthy"
		}
		message, problem = c.Message, c.Error
	}
	return []any{o.Name, status, message, problem}
}

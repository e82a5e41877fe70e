package table

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Words for what is absent.
const (
	none    = "<none>"
	unknown = "<unknown>"
	unset   = "<unset>"
	pending = "<pending>"
)

func describe(field string) string { return metav1.ObjectMeta{}.SwaggerDoc()[field] }

var nameColumn = metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: describe("name")}

var ageColumn = metav1.TableColumnDefinition{Name: "Age", Type: "string", Description: describe("creationTimestamp")}

func columns(list ...metav1.TableColumnDefinition) []metav1.TableColumnDefinition { return list }

// text and number are columns; wide is a text column of priority 1.
func text(name string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string"}
}

func number(name string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer"}
}

func boolean(name string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "boolean"}
}

func wide(name string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Priority: 1}
}

// since is how long ago t was, in the short form ("5m", "3d4h").
func since(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func age(o metav1.Object, now time.Time) string { return since(o.GetCreationTimestamp(), now) }

// or returns s, or what stands for nothing.
func or(s, nothing string) string {
	if s == "" {
		return nothing
	}
	return s
}

// labelText is a label set as "a=1,b=2".
func labelText(set map[string]string) string {
	if len(set) == 0 {
		return none
	}
	return labels.Set(set).String()
}

func selectorText(s *metav1.LabelSelector) string { return metav1.FormatLabelSelector(s) }

// containerCells are the names and images of containers.
func containerCells(containers []corev1.Container) (names, images string) {
	var n, i []string
	for _, c := range containers {
		n = append(n, c.Name)
		i = append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// accessModes in the short form: RWO,ROX.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	short := map[corev1.PersistentVolumeAccessMode]string{
		corev1.ReadWriteOnce: "RWO", corev1.ReadOnlyMany: "ROX", corev1.ReadWriteMany: "RWX", corev1.ReadWriteOncePod: "RWOP",
	}
	order := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOncePod}
	var out []string
	for _, mode := range order {
		for _, m := range modes {
			if m == mode {
				out = append(out, short[mode])
				break
			}
		}
	}
	return strings.Join(out, ",")
}

// listWithMore joins the first of items and says how many are left out, as "a,b + 3 more...".
func listWithMore(items []string, most int) string {
	if len(items) == 0 {
		return none
	}
	if len(items) <= most {
		return strings.Join(items, ",")
	}
	return strings.Join(items[:most], ",") + " + " + decimal(len(items)-most) + " more..."
}

package table

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubectl "k8s.io/cli-runtime/pkg/printers"
)

var update = flag.Bool("update", false, "rewrite golden files")

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

func convertor() *Convertor { return NewConvertor(func() time.Time { return now }) }

// shown is what kubectl prints; the table goes over the wire in between.
func shown(t *testing.T, wide bool, objects ...runtime.Object) string {
	t.Helper()
	var table *metav1.Table
	for _, o := range objects {
		one, err := convertor().ConvertToTable(context.Background(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		if table == nil {
			table = one
			continue
		}
		table.Rows = append(table.Rows, one.Rows...)
	}
	for i := range table.Rows {
		if len(table.Rows[i].Cells) != len(table.ColumnDefinitions) {
			t.Fatalf("%d cells for %d columns", len(table.Rows[i].Cells), len(table.ColumnDefinitions))
		}
		table.Rows[i].Object = runtime.RawExtension{}
	}
	wire, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	received := &metav1.Table{}
	if err := json.Unmarshal(wire, received); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := kubectl.NewTablePrinter(kubectl.PrintOptions{Wide: wide}).PrintObj(received, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// golden compares with testdata/NAME.txt: the short form, then the wide one.
func golden(t *testing.T, name string, objects ...runtime.Object) {
	t.Helper()
	got := "kubectl get\n" + shown(t, false, objects...) + "\nkubectl get -o wide\n" + shown(t, true, objects...)
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func object(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: ago(3*24*time.Hour + 4*time.Hour)}
}

func TestOptionsAndLists(t *testing.T) {
	list := &corev1.ConfigMapList{
		ListMeta: metav1.ListMeta{ResourceVersion: "7", Continue: "more"},
		Items:    []corev1.ConfigMap{{ObjectMeta: object("a")}, {ObjectMeta: object("b"), Data: map[string]string{"k": "v"}}},
	}
	table, err := convertor().ConvertToTable(context.Background(), list, &metav1.TableOptions{})
	if err != nil || len(table.Rows) != 2 || table.ResourceVersion != "7" || table.Continue != "more" || len(table.ColumnDefinitions) != 3 {
		t.Fatalf("%+v, %v", table, err)
	}
	if o, ok := table.Rows[1].Object.Object.(*corev1.ConfigMap); !ok || o.Name != "b" {
		t.Fatalf("the row carries %v", table.Rows[1].Object)
	}
	bare, err := convertor().ConvertToTable(context.Background(), list, &metav1.TableOptions{NoHeaders: true})
	if err != nil || bare.ColumnDefinitions != nil || len(bare.Rows) != 2 {
		t.Fatalf("without headers: %+v, %v", bare.ColumnDefinitions, err)
	}
	empty, err := convertor().ConvertToTable(context.Background(), &corev1.PodList{}, nil)
	if err != nil || len(empty.ColumnDefinitions) != 9 || empty.Rows == nil {
		t.Fatalf("an empty list has the columns of its kind: %+v, %v", empty, err)
	}
	single := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "9"}}
	if one, err := convertor().ConvertToTable(context.Background(), single, nil); err != nil || one.ResourceVersion != "9" {
		t.Fatalf("%+v, %v", one, err)
	}
}

func TestWhatIsNoObjectIsRefused(t *testing.T) {
	_, err := convertor().ConvertToTable(context.Background(), &metav1.Status{}, nil)
	if apierrors.ReasonForError(err) != metav1.StatusReasonNotAcceptable {
		t.Fatalf("got %v, want NotAcceptable", err)
	}
}

// TestEveryPrinterTakesAnEmptyObject: a client may store objects with nothing in them, and watches send them.
func TestEveryPrinterTakesAnEmptyObject(t *testing.T) {
	for kind, p := range everyPrinter() {
		cells := p.cells(kind, now)
		if len(cells) != len(p.columns) {
			t.Errorf("%T: %d cells for %d columns", kind, len(cells), len(p.columns))
		}
		for i, cell := range cells {
			switch cell.(type) {
			case string, int64, bool:
			default:
				t.Errorf("%T: cell %s is a %T, which does not survive the wire", kind, p.columns[i].Name, cell)
			}
		}
	}
}

// FuzzPod: no stored pod may break the table of its namespace.
func FuzzPod(f *testing.F) {
	f.Add([]byte(`{"spec":{"initContainers":[{"name":"a","restartPolicy":"Always"}],"containers":[{"name":"b"}]},"status":{"phase":"Running","initContainerStatuses":[{"name":"a","restartCount":1}],"containerStatuses":[{"state":{"terminated":{"signal":9}}}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		pod := &corev1.Pod{}
		if json.Unmarshal(text, pod) != nil {
			return
		}
		cells := podCells(pod, now)
		if len(cells) != 9 {
			t.Fatal(cells)
		}
		ready, total := 0, 0
		if _, err := fmt.Sscanf(cells[1].(string), "%d/%d", &ready, &total); err != nil {
			t.Fatalf("ready is %q", cells[1])
		}
		if strings.Contains(cells[2].(string), "\n") && !strings.Contains(string(text), `\n`) {
			t.Fatalf("status is %q", cells[2])
		}
	})
}

// Package table owns what "kubectl get" prints: the columns of each kind and the cells of each object, under the names and in
// the words that users know. Columns of priority 1 are shown by -o wide only; the server always sends them all.
//
// It is pure: a function of the object and the time. Kinds that are not known here get NAME and CREATED AT, as any resource
// does whose server says nothing.
//
// One file for each group of kinds; cells that need thought (a pod's status, a node's roles) have functions of their own.
package table

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Convertor turns objects and lists into tables. It is a rest.TableConvertor. Safe for concurrent use.
type Convertor struct {
	now func() time.Time
}

// NewConvertor takes the clock that ages are counted by.
func NewConvertor(now func() time.Time) *Convertor { return &Convertor{now: now} }

// printer is how one kind is shown.
type printer struct {
	columns []metav1.TableColumnDefinition
	cells   func(obj runtime.Object, now time.Time) []any
	// conditions may be nil; it marks rows, as those of completed pods.
	conditions func(obj runtime.Object) []metav1.TableRowCondition
}

// of makes a printer for T from columns and a function of the object.
func of[T runtime.Object](columns []metav1.TableColumnDefinition, cells func(obj T, now time.Time) []any) printer {
	return printer{columns: columns, cells: func(obj runtime.Object, now time.Time) []any {
		typed, ok := obj.(T)
		if !ok {
			return nil
		}
		return cells(typed, now)
	}}
}

// printers by the Go type of the object.
var printers = collect(corePrinters, workloadPrinters, networkPrinters, storagePrinters, policyPrinters, accessPrinters, metricsPrinters)

func collect(groups ...func() map[reflect.Type]printer) map[reflect.Type]printer {
	all := map[reflect.Type]printer{}
	for _, group := range groups {
		for t, p := range group() {
			all[t] = p
		}
	}
	return all
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[*T]() }

// ConvertToTable renders obj, an object or a list. options may be a *metav1.TableOptions; its NoHeaders leaves the column
// definitions out. Each row carries its object; the caller cuts that down to what IncludeObject asks for.
func (c *Convertor) ConvertToTable(_ context.Context, obj runtime.Object, options runtime.Object) (*metav1.Table, error) {
	table := &metav1.Table{}
	now := c.now()
	p := defaultPrinter
	add := func(item runtime.Object) error {
		found, ok := printers[reflect.TypeOf(item)]
		if !ok {
			found = defaultPrinter
		}
		if len(table.Rows) == 0 {
			p = found
		}
		if _, err := meta.Accessor(item); err != nil {
			return notAcceptable{kind: fmt.Sprintf("%T", item)}
		}
		row := metav1.TableRow{Cells: found.cells(item, now), Object: runtime.RawExtension{Object: item}}
		if found.conditions != nil {
			row.Conditions = found.conditions(item)
		}
		table.Rows = append(table.Rows, row)
		return nil
	}
	if meta.IsListType(obj) {
		if err := meta.EachListItem(obj, add); err != nil {
			return nil, err
		}
		if len(table.Rows) == 0 {
			p = printerOfList(obj)
			table.Rows = []metav1.TableRow{}
		}
	} else if err := add(obj); err != nil {
		return nil, err
	}
	copyListMeta(table, obj)
	if o, ok := options.(*metav1.TableOptions); !ok || !o.NoHeaders {
		table.ColumnDefinitions = p.columns
	}
	return table, nil
}

// printerOfList finds the printer of an empty list by the type of its Items.
func printerOfList(list runtime.Object) printer {
	items, err := meta.GetItemsPtr(list)
	if err != nil {
		return defaultPrinter
	}
	t := reflect.TypeOf(items).Elem().Elem()
	if t.Kind() != reflect.Pointer {
		t = reflect.PointerTo(t)
	}
	if p, ok := printers[t]; ok {
		return p
	}
	return defaultPrinter
}

func copyListMeta(table *metav1.Table, obj runtime.Object) {
	if list, err := meta.ListAccessor(obj); err == nil {
		table.ResourceVersion = list.GetResourceVersion()
		table.Continue = list.GetContinue()
		table.RemainingItemCount = list.GetRemainingItemCount()
		return
	}
	if object, err := meta.CommonAccessor(obj); err == nil {
		table.ResourceVersion = object.GetResourceVersion()
	}
}

// defaultPrinter is for kinds without columns of their own.
var defaultPrinter = printer{
	columns: columns(nameColumn, metav1.TableColumnDefinition{Name: "Created At", Type: "date", Description: describe("creationTimestamp")}),
	cells: func(obj runtime.Object, _ time.Time) []any {
		object, err := meta.Accessor(obj)
		if err != nil {
			return nil
		}
		return []any{object.GetName(), object.GetCreationTimestamp().UTC().Format(time.RFC3339)}
	},
}

// notAcceptable answers a client that wants a table of something that is no object.
type notAcceptable struct{ kind string }

func (e notAcceptable) Error() string {
	return fmt.Sprintf("the resource %s does not support being converted to a Table", e.kind)
}

// Status makes the error an answer of the API.
func (e notAcceptable) Status() metav1.Status {
	return metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable,
		Reason: metav1.StatusReasonNotAcceptable, Message: e.Error(),
	}
}

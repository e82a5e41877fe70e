// Package fill holds the few words that defaulting functions are written in: fill
// a field that is empty, and register a function for a kind and for its list.
//
// Defaults are idempotent: they run each time an object is decoded, from a client
// and from storage alike, and leave what is set alone.
package fill

import "k8s.io/apimachinery/pkg/runtime"

// Value sets a field that holds its zero value.
func Value[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Pointer sets a field that is nil to a pointer of its own.
func Pointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// Kind registers the defaults of a kind.
func Kind[T any, P interface {
	*T
	runtime.Object
}](s *runtime.Scheme, set func(P)) {
	s.AddTypeDefaultingFunc(P(new(T)), func(obj any) { set(obj.(P)) })
}

// List registers the defaults of a kind's list: those of each item.
func List[L, T any, P interface {
	*L
	runtime.Object
}](s *runtime.Scheme, items func(P) []T, set func(*T)) {
	s.AddTypeDefaultingFunc(P(new(L)), func(obj any) {
		each := items(obj.(P))
		for i := range each {
			set(&each[i])
		}
	})
}

package kind

import (
	"context"
	"fmt"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Shown is a REST whose readers are shown more than is stored: what is known at the moment of asking and would be a
// write each time if it were kept. What is stored does not change, and watches show what is stored.
type Shown[T any] struct {
	*REST
	// Items are those of a list, to be changed in place.
	Items func(list runtime.Object) []T
	// Freshen puts the present into obj, a copy that shares what it points to with the watch cache: pointers, slices
	// and maps are to be replaced, never followed.
	Freshen func(obj *T)
}

// Get implements rest.Getter.
func (s *Shown[T]) Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error) {
	obj, err := s.REST.Get(ctx, name, options)
	if err != nil {
		return nil, err
	}
	stored, ok := any(obj).(*T)
	if !ok {
		return obj, nil
	}
	shown := *stored
	s.Freshen(&shown)
	out, ok := any(&shown).(runtime.Object)
	if !ok {
		return nil, fmt.Errorf("show %s: %T is no object of the API", name, &shown)
	}
	return out, nil
}

// List implements rest.Lister.
func (s *Shown[T]) List(ctx context.Context, options *metainternalversion.ListOptions) (runtime.Object, error) {
	list, err := s.REST.List(ctx, options)
	if err != nil {
		return nil, err
	}
	items := s.Items(list)
	for i := range items {
		s.Freshen(&items[i])
	}
	return list, nil
}

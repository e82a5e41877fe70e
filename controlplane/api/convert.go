package api

import (
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/conversion"
	"k8s.io/apimachinery/pkg/runtime"
)

// addIdentity lets the scheme convert a type to itself by deep copy, for callers
// that ask for a conversion between the hub and its version object to object.
func addIdentity(s *runtime.Scheme, obj runtime.Object) error {
	copyObject := func(in, out any, _ conversion.Scope) error {
		src, ok := in.(runtime.Object)
		if !ok {
			return fmt.Errorf("convert %T: not an API object", in)
		}
		dst := reflect.ValueOf(out)
		if dst.Type() != reflect.TypeOf(in) {
			return fmt.Errorf("convert %T to %T: want the same type", in, out)
		}
		dst.Elem().Set(reflect.ValueOf(src.DeepCopyObject()).Elem())
		return nil
	}
	return s.AddConversionFunc(obj, obj, copyObject)
}

// Package expect lets the validators' tests say in one line each what must be
// wrong with an object: "Required spec.containers". It is used by tests only.
package expect

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// words are the short names of error types.
var words = map[field.ErrorType]string{
	field.ErrorTypeRequired:     "Required",
	field.ErrorTypeInvalid:      "Invalid",
	field.ErrorTypeNotSupported: "NotSupported",
	field.ErrorTypeDuplicate:    "Duplicate",
	field.ErrorTypeForbidden:    "Forbidden",
	field.ErrorTypeTooLong:      "TooLong",
	field.ErrorTypeTooMany:      "TooMany",
	field.ErrorTypeNotFound:     "NotFound",
	field.ErrorTypeTypeInvalid:  "TypeInvalid",
	field.ErrorTypeTooFew:       "TooFew",
	field.ErrorTypeTooShort:     "TooShort",
	field.ErrorTypeInternal:     "Internal",
}

// Errors fails the test unless the errors are those wanted, in any order, each
// written as its type and its field path. None wanted means a sound object.
func Errors(t *testing.T, got field.ErrorList, want ...string) {
	t.Helper()
	found := make([]string, 0, len(got))
	for _, e := range got {
		found = append(found, words[e.Type]+" "+e.Field)
	}
	slices.Sort(found)
	want = slices.Clone(want)
	slices.Sort(want)
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("errors differ (-want +got):\n%s\n%v", diff, got.ToAggregate())
	}
}

package registry

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"coracle/controlplane/registry/kind"
)

func sorted[V any](m map[schema.GroupVersion]V) []schema.GroupVersion {
	return slices.SortedFunc(maps.Keys(m), func(a, b schema.GroupVersion) int { return strings.Compare(a.String(), b.String()) })
}

func placed(_ *kind.REST, err error) error { return err }

func firstError(errs ...error) error { return errors.Join(errs...) }

package gc

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// resource is one that the server serves, in its preferred version.
type resource struct {
	gvr        schema.GroupVersionResource
	kind       string
	namespaced bool
	watched    bool // its objects can be listed, watched and deleted, so they have a place in the graph
}

// unowned are resources whose objects are never collected: there are many and they end by themselves.
var unowned = map[schema.GroupResource]bool{
	{Resource: "events"}:                         true,
	{Group: "events.k8s.io", Resource: "events"}: true,
}

// served asks the server. Groups that do not answer are left out and told in the error, with what did answer.
func served(client discovery.DiscoveryInterface) (map[schema.GroupKind]*resource, error) {
	lists, err := discovery.ServerPreferredResources(client)
	out := map[schema.GroupKind]*resource{}
	for _, list := range lists {
		gv, parseErr := schema.ParseGroupVersion(list.GroupVersion)
		if parseErr != nil {
			continue // such a kind cannot be named as an owner either
		}
		for i := range list.APIResources {
			r := &list.APIResources[i]
			if strings.Contains(r.Name, "/") {
				continue
			}
			out[schema.GroupKind{Group: gv.Group, Kind: r.Kind}] = &resource{
				gvr: gv.WithResource(r.Name), kind: r.Kind, namespaced: r.Namespaced,
				watched: all(r.Verbs, "list", "watch", "delete") && !unowned[gv.WithResource(r.Name).GroupResource()],
			}
		}
	}
	if err != nil {
		return out, fmt.Errorf("discover resources: %w", err)
	}
	return out, nil
}

func all(verbs metav1.Verbs, want ...string) bool {
	for _, v := range want {
		if !slices.Contains([]string(verbs), v) {
			return false
		}
	}
	return true
}

func groupOf(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}

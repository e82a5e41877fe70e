package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	genericapiserver "k8s.io/apiserver/pkg/server"
	metrics "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"coracle/controlplane/api"
)

// builtinPriority puts the built-in groups before those of custom resources (1000), so that a short name which both know
// means the built-in kind.
const builtinPriority = 17000

// lastPriority puts groups behind those of custom resources whose resources are called like those of others: "nodes" and
// "pods" of metrics.k8s.io are never meant by a bare name.
const lastPriority = 100

// aggregatedAccept asks for the one document of all groups with their resources.
const aggregatedAccept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// installDiscovery adds /apis. Both its forms are made from the same list, to which the extensions add the groups of custom
// resources as they come and go.
func installDiscovery(s *genericapiserver.GenericAPIServer, addresses discovery.Addresses, groups []*genericapiserver.APIGroupInfo) {
	all := s.AggregatedDiscoveryGroupManager
	for _, g := range groups {
		for i, gv := range g.PrioritizedVersions {
			group := builtinPriority
			if gv.Group == metrics.GroupName {
				group = lastPriority
			}
			all.SetGroupVersionPriority(metav1.GroupVersion(gv), group, len(g.PrioritizedVersions)-i)
		}
	}
	all.SetGroupVersionPriority(metav1.GroupVersion(apiextensionsv1.SchemeGroupVersion), builtinPriority, 1)
	plain := &groupList{all: all, addresses: addresses}
	s.Handler.GoRestfulContainer.Add(
		aggregated.WrapAggregatedDiscoveryToHandler(plain, all, nil).GenerateWebService(genericapiserver.APIGroupPrefix, metav1.APIGroupList{}))
}

// groupList answers /apis to clients that ask for the names of the groups alone.
type groupList struct {
	all       http.Handler
	addresses discovery.Addresses
}

// ServeHTTP implements http.Handler.
func (l *groupList) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	groups, err := l.groups()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	root := discovery.NewRootAPIsHandler(l.addresses, api.Codecs)
	for _, g := range groups {
		root.AddGroup(g)
	}
	root.ServeHTTP(w, r)
}

func (l *groupList) groups() ([]metav1.APIGroup, error) {
	answer := &capturedResponse{header: http.Header{}}
	l.all.ServeHTTP(answer, &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: genericapiserver.APIGroupPrefix}, Header: http.Header{"Accept": {aggregatedAccept}},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	})
	if answer.code != http.StatusOK {
		return nil, fmt.Errorf("list API groups: status %d: %s", answer.code, answer.body.String())
	}
	var list apidiscoveryv2.APIGroupDiscoveryList
	if err := json.Unmarshal(answer.body.Bytes(), &list); err != nil {
		return nil, fmt.Errorf("list API groups: %w", err)
	}
	out := make([]metav1.APIGroup, 0, len(list.Items))
	for _, item := range list.Items {
		g := metav1.APIGroup{Name: item.Name}
		for _, v := range item.Versions {
			g.Versions = append(g.Versions, metav1.GroupVersionForDiscovery{GroupVersion: item.Name + "/" + v.Version, Version: v.Version})
		}
		if len(g.Versions) == 0 {
			continue
		}
		g.PreferredVersion = g.Versions[0]
		out = append(out, g)
	}
	return out, nil
}

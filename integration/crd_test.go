package integration

import (
	"fmt"
	"strings"
	"testing"
)

// boatsDefinition defines boats in the group GROUP.
const boatsDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.GROUP}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, shortNames: [bt], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        description: Boat is made of wicker and hide.
        properties:
          spec:
            type: object
            required: [seats]
            x-kubernetes-validations:
            - {rule: self.seats <= self.limit, message: more seats than the boat carries}
            properties:
              seats: {type: integer, minimum: 0, description: How many people sit in it.}
              limit: {type: integer, default: 8}
          status: {type: object, properties: {seats: {type: integer}, afloat: {type: boolean}}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.seats, statusReplicasPath: .status.seats}
    additionalPrinterColumns:
    - {name: Seats, type: integer, jsonPath: .spec.seats}
    - {name: Limit, type: integer, jsonPath: .spec.limit, priority: 1}
`

// defineBoats makes boats known, in a group of the test's own, until the test ends. It returns the manifest of one.
func (s *space) defineBoats() (group string, boat func(name, spec string) string) {
	s.t.Helper()
	group = s.name + ".example.com"
	s.wantContains(s.apply(strings.ReplaceAll(boatsDefinition, "GROUP", group)), "created")
	s.t.Cleanup(func() {
		if _, err := s.cluster.kubectl("delete", "crd", "boats."+group, "--ignore-not-found", "--timeout=60s"); err != nil {
			s.t.Error(err)
		}
	})
	s.do("wait", "--for=condition=Established", "crd/boats."+group, "--timeout=30s")
	return group, func(name, spec string) string {
		return fmt.Sprintf("{apiVersion: %s/v1, kind: Boat, metadata: {name: %s}, spec: %s}", group, name, spec)
	}
}

func (s *space) createFails(manifest string) string {
	s.t.Helper()
	out, err := s.cluster.kubectlStdin(manifest, "-n", s.name, "create", "-f", "-")
	if err == nil {
		s.t.Fatalf("kubectl create succeeded and should not have: %s\n%s", out, manifest)
	}
	return err.Error()
}

func TestCustomResources(t *testing.T) {
	s := newSpace(t)
	group, boat := s.defineBoats()
	s.wantContains(s.do("api-resources", "--api-group="+group), "boats", "bt", group+"/v1", "true", "Boat")
	s.wantContains(s.do("explain", "boat.spec", "--api-version="+group+"/v1"), "How many people sit in it.", "limit", "-required-")

	s.wantContains(s.apply(boat("ark", "{seats: 2}"), "--server-side"), "serverside-applied")
	s.wantContains(s.apply(boat("punt", "{seats: 4}")), "created")
	s.wantContains(s.apply(boat("punt", "{seats: 4}")), "unchanged")
	s.wantContains(s.apply(boat("punt", "{seats: 5}")), "configured")
	s.wantContains(s.createFails(boat("raft", "{seats: 1, sail: true}")), `unknown field "spec.sail"`)
	s.wantContains(s.createFails(boat("raft", "{seats: 9}")), "more seats than the boat carries")
	s.wantContains(s.createFails(boat("raft", "{}")), "spec.seats: Required value")

	table := s.do("get", "bt", "-o", "wide")
	s.wantContains(table, "SEATS", "LIMIT", "ark", "punt")
	s.wantContains(s.do("get", "all"), "boat."+group+"/ark")
	s.wantContains(s.do("scale", "boat/ark", "--replicas=3"), "scaled")
	s.do("patch", "boat", "ark", "--subresource=status", "--type=merge", "-p", `{"status":{"afloat":true}}`)
	s.do("wait", "boat/ark", "--for=jsonpath={.status.afloat}=true", "--timeout=10s")
	if got := s.do("get", "boat", "ark", "-o", "jsonpath={.spec.seats} {.spec.limit} {.status.afloat}"); got != "3 8 true" {
		t.Errorf("the ark is %q", got)
	}
	s.wantContains(s.do("describe", "boat", "ark"), "Seats:", "Afloat:")

	s.wantContains(s.do("delete", "crd", "boats."+group, "--timeout=60s"), "deleted")
	s.wantContains(s.refused("get", "boats."+group), `the server doesn't have a resource type "boats"`)
	if got := s.do("api-resources", "--api-group="+group, "-o", "name"); got != "" {
		t.Errorf("still discovered: %s", got)
	}
}

// TestCustomResourcesOutliveTheControlPlane kills the control plane between two reads.
func TestCustomResourcesOutliveTheControlPlane(t *testing.T) {
	s := newSpace(t)
	group, boat := s.defineBoats()
	s.apply(boat("ark", "{seats: 2}"))
	before := s.do("get", "boat", "ark", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}")
	restart(t, s.control)
	s.waitAPI()
	// Ready means that the definitions are known: no 404 in between.
	if after := s.do("get", "boats."+group, "ark", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}"); after != before {
		t.Errorf("before the kill %q, after it %q", before, after)
	}
	s.apply(boat("punt", "{seats: 1}"))
}

// TestCreateOfKindsWithoutPatch: kubectl looks at the definitions before it validates such kinds.
func TestCreateOfKindsWithoutPatch(t *testing.T) {
	s := newSpace(t)
	create := func(manifest string) (string, error) {
		return s.cluster.kubectlStdin(manifest, "-n", s.name, "create", "-o", "yaml", "-f", "-")
	}
	out, err := create("{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {token: nobody}}")
	if err != nil {
		t.Fatal(err)
	}
	s.wantContains(out, "kind: TokenReview", "error: ")
	out, err = create("{apiVersion: authorization.k8s.io/v1, kind: SelfSubjectAccessReview, spec: {resourceAttributes: {verb: get, resource: pods}}}")
	if err != nil {
		t.Fatal(err)
	}
	s.wantContains(out, "allowed: true")
	s.wantContains(s.createFails("{apiVersion: none.example.com/v1, kind: Nothing, metadata: {name: x}}"),
		`no matches for kind "Nothing"`, "ensure CRDs are installed first")
}

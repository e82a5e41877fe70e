package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"coracle/internal/testwait"
)

// sample is one kind as the tests write it.
type sample struct {
	resource   schema.GroupVersionResource
	namespaced bool
	manifest   string
	// defaulted are dotted paths that the server fills, with the value.
	defaulted map[string]any
	// bad is a merge patch that makes the manifest invalid, and badField what the refusal names.
	bad, badField string
}

func gvr(group, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}
}

const template = `
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {containers: [{name: c, image: i}]}`

// samples has one entry for each kind that can be created and kept; TestEveryKindHasASample compares it with discovery.
var samples = []sample{
	{gvr("", "namespaces"), false, `{apiVersion: v1, kind: Namespace}`, map[string]any{"status.phase": "Active"}, `{"metadata":{"labels":{"a b":"c"}}}`, "metadata.labels"},
	{gvr("", "nodes"), false, `{apiVersion: v1, kind: Node}`, nil, `{"spec":{"taints":[{"key":"a","effect":"x"}]}}`, "spec.taints[0].effect"},
	{gvr("", "configmaps"), true, `{apiVersion: v1, kind: ConfigMap, data: {a: b}}`, nil, `{"data":{"a/b":"c"}}`, "data[a/b]"},
	{gvr("", "secrets"), true, `{apiVersion: v1, kind: Secret, stringData: {a: b}}`, map[string]any{"type": "Opaque", "data.a": "Yg=="}, `{"data":{"a/b":"YQ=="}}`, "data[a/b]"},
	{gvr("", "serviceaccounts"), true, `{apiVersion: v1, kind: ServiceAccount}`, nil, `{"metadata":{"annotations":{"a b":"c"}}}`, "metadata.annotations"},
	{
		gvr("", "pods"), true, `{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, image: i}]}}`,
		map[string]any{"spec.restartPolicy": "Always", "spec.dnsPolicy": "ClusterFirst", "status.phase": "Pending", "status.qosClass": "BestEffort", "spec.serviceAccountName": "default"},
		`{"spec":{"restartPolicy":"Sometimes"}}`, "spec.restartPolicy",
	},
	{gvr("", "podtemplates"), true, `{apiVersion: v1, kind: PodTemplate, template: {spec: {containers: [{name: c, image: i}]}}}`, map[string]any{"template.spec.restartPolicy": "Always"}, `{"template":{"spec":{"restartPolicy":"x"}}}`, "restartPolicy"},
	{gvr("", "replicationcontrollers"), true, `{apiVersion: v1, kind: ReplicationController, spec: {replicas: 0, selector: {app: x}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c, image: i}]}}}}`, map[string]any{"spec.template.spec.restartPolicy": "Always"}, `{"spec":{"replicas":-1}}`, "spec.replicas"},
	{gvr("", "services"), true, `{apiVersion: v1, kind: Service, spec: {ports: [{port: 80}], selector: {app: x}}}`, map[string]any{"spec.type": "ClusterIP", "spec.sessionAffinity": "None", "spec.ipFamilyPolicy": "SingleStack"}, `{"spec":{"ports":[{"port":70000}]}}`, "spec.ports[0].port"},
	{gvr("", "endpoints"), true, `{apiVersion: v1, kind: Endpoints, subsets: [{addresses: [{ip: 10.1.1.1}], ports: [{port: 80}]}]}`, map[string]any{}, `{"subsets":[{"addresses":[{"ip":"x"}],"ports":[{"port":80}]}]}`, "subsets[0].addresses[0].ip"},
	{gvr("", "events"), true, `{apiVersion: v1, kind: Event, reason: R, message: m, type: Normal, involvedObject: {kind: Pod, name: p, namespace: NS}}`, nil, `{"involvedObject":{"namespace":"other"}}`, "involvedObject.namespace"},
	{gvr("", "limitranges"), true, `{apiVersion: v1, kind: LimitRange, spec: {limits: [{type: Container, default: {cpu: 1}}]}}`, nil, `{"spec":{"limits":[{"type":"Container","max":{"cpu":"1"},"min":{"cpu":"2"}}]}}`, "spec.limits[0].min[cpu]"},
	{gvr("", "resourcequotas"), true, `{apiVersion: v1, kind: ResourceQuota, spec: {hard: {pods: 3}}}`, nil, `{"spec":{"hard":{"pods":"-1"}}}`, "spec.hard[pods]"},
	{gvr("", "persistentvolumes"), false, `{apiVersion: v1, kind: PersistentVolume, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}}`, map[string]any{"spec.persistentVolumeReclaimPolicy": "Retain", "status.phase": "Pending"}, `{"spec":{"accessModes":[]}}`, "spec.accessModes"},
	{gvr("", "persistentvolumeclaims"), true, `{apiVersion: v1, kind: PersistentVolumeClaim, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`, map[string]any{"spec.volumeMode": "Filesystem", "status.phase": "Pending"}, `{"spec":{"resources":{"requests":{"storage":"-1"}}}}`, "spec.resources"},
	{
		gvr("apiextensions.k8s.io", "customresourcedefinitions"), false, `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {
			group: kinds.example.org, scope: Namespaced, names: {plural: samples, kind: Sample},
			versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}}`,
		map[string]any{"spec.conversion.strategy": "None"}, `{"spec":{"scope":"Everywhere"}}`, "spec.scope",
	},
	{gvr("apps", "deployments"), true, "apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 0" + template, map[string]any{"spec.strategy.type": "RollingUpdate", "spec.revisionHistoryLimit": int64(10), "spec.progressDeadlineSeconds": int64(600)}, `{"spec":{"replicas":-1}}`, "spec.replicas"},
	{gvr("apps", "replicasets"), true, "apiVersion: apps/v1\nkind: ReplicaSet\nspec:\n  replicas: 0" + template, map[string]any{"spec.template.spec.terminationGracePeriodSeconds": int64(30)}, `{"spec":{"template":{"metadata":{"labels":{"app":"y"}}}}}`, "spec.template.metadata.labels"},
	{gvr("apps", "daemonsets"), true, "apiVersion: apps/v1\nkind: DaemonSet\nspec:" + template, map[string]any{"spec.updateStrategy.rollingUpdate.maxUnavailable": int64(1), "spec.revisionHistoryLimit": int64(10)}, `{"spec":{"updateStrategy":{"type":"Sometimes"}}}`, "spec.updateStrategy"},
	{gvr("apps", "statefulsets"), true, "apiVersion: apps/v1\nkind: StatefulSet\nspec:\n  replicas: 0" + template, map[string]any{"spec.podManagementPolicy": "OrderedReady", "spec.updateStrategy.type": "RollingUpdate"}, `{"spec":{"replicas":-1}}`, "spec.replicas"},
	{gvr("apps", "controllerrevisions"), true, `{apiVersion: apps/v1, kind: ControllerRevision, data: {a: b}, revision: 1}`, nil, `{"revision":-1}`, "revision"},
	{gvr("batch", "jobs"), true, `{apiVersion: batch/v1, kind: Job, spec: {suspend: true, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`, map[string]any{"spec.completions": int64(1), "spec.backoffLimit": int64(6), "spec.completionMode": "NonIndexed", "spec.template.metadata.labels.job-name": "sample"}, `{"spec":{"template":{"spec":{"restartPolicy":"Always"}}}}`, "spec.template.spec.restartPolicy"},
	{gvr("batch", "cronjobs"), true, `{apiVersion: batch/v1, kind: CronJob, spec: {suspend: true, schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}`, map[string]any{"spec.concurrencyPolicy": "Allow", "spec.successfulJobsHistoryLimit": int64(3)}, `{"spec":{"schedule":"never"}}`, "spec.schedule"},
	{gvr("coordination.k8s.io", "leases"), true, `{apiVersion: coordination.k8s.io/v1, kind: Lease, spec: {holderIdentity: x, leaseDurationSeconds: 5}}`, nil, `{"spec":{"leaseDurationSeconds":-1}}`, "spec.leaseDurationSeconds"},
	{gvr("discovery.k8s.io", "endpointslices"), true, `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, endpoints: [{addresses: [10.1.1.1]}], ports: [{port: 80}]}`, map[string]any{}, `{"endpoints":[{"addresses":["x"]}]}`, "endpoints[0].addresses[0]"},
	{gvr("events.k8s.io", "events"), true, `{apiVersion: events.k8s.io/v1, kind: Event, reason: R, note: m, type: Normal, action: A, reportingController: c.example/x, reportingInstance: i, eventTime: "2026-01-01T00:00:00.000000Z", regarding: {kind: Pod, name: p, namespace: NS}}`, nil, `{"reportingInstance":""}`, "reportingInstance"},
	{gvr("networking.k8s.io", "ipaddresses"), false, `{apiVersion: networking.k8s.io/v1, kind: IPAddress, spec: {parentRef: {resource: services, name: x, namespace: other}}}`, nil, `{"spec":{"parentRef":null}}`, "spec.parentRef"},
	{gvr("networking.k8s.io", "ingresses"), true, `{apiVersion: networking.k8s.io/v1, kind: Ingress, spec: {defaultBackend: {service: {name: x, port: {number: 80}}}}}`, nil, `{"spec":{"defaultBackend":{"service":{"name":""}}}}`, "spec.defaultBackend.service.name"},
	{gvr("networking.k8s.io", "ingressclasses"), false, `{apiVersion: networking.k8s.io/v1, kind: IngressClass, spec: {controller: example.com/x, parameters: {kind: Config, name: c}}}`, map[string]any{"spec.parameters.scope": "Cluster"}, `{"spec":{"controller":"x"}}`, "spec.controller"},
	{gvr("networking.k8s.io", "networkpolicies"), true, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, spec: {podSelector: {}, egress: [{ports: [{port: 53}]}]}}`, map[string]any{"spec.policyTypes": []any{"Ingress", "Egress"}}, `{"spec":{"policyTypes":["Sideways"]}}`, "spec.policyTypes[0]"},
	{gvr("networking.k8s.io", "servicecidrs"), false, `{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, spec: {cidrs: [10.250.0.0/16]}}`, nil, `{"spec":{"cidrs":["x"]}}`, "spec.cidrs[0]"},
	{gvr("policy", "poddisruptionbudgets"), true, `{apiVersion: policy/v1, kind: PodDisruptionBudget, spec: {minAvailable: 1, selector: {matchLabels: {app: x}}}}`, nil, `{"spec":{"maxUnavailable":1}}`, "spec"},
	{gvr("node.k8s.io", "runtimeclasses"), false, `{apiVersion: node.k8s.io/v1, kind: RuntimeClass, handler: runc}`, nil, `{"handler":"A_B"}`, "handler"},
	{gvr("rbac.authorization.k8s.io", "roles"), true, `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}`, nil, `{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":[]}]}`, "rules[0].verbs"},
	{gvr("rbac.authorization.k8s.io", "clusterroles"), false, `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]}`, nil, `{"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":[]}]}`, "rules[0].verbs"},
	{gvr("rbac.authorization.k8s.io", "rolebindings"), true, `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: User, name: a}]}`, map[string]any{}, `{"subjects":[{"kind":"Robot","name":"a"}]}`, "subjects[0].kind"},
	{gvr("rbac.authorization.k8s.io", "clusterrolebindings"), false, `{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}, subjects: [{kind: User, name: a}]}`, nil, `{"subjects":[{"kind":"Robot","name":"a"}]}`, "subjects[0].kind"},
	{gvr("scheduling.k8s.io", "priorityclasses"), false, `{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, value: 5}`, map[string]any{"preemptionPolicy": "PreemptLowerPriority"}, `{"value":2000000001}`, "value"},
}

func (s sample) object(t *testing.T, ns, name string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(s.manifest, "NS", ns)), &u.Object); err != nil {
		t.Fatalf("%s: %v", s.resource.Resource, err)
	}
	u.SetName(name)
	u.SetLabels(map[string]string{"sample": name})
	if s.namespaced {
		u.SetNamespace(ns)
	}
	return u
}

func (s sample) name() string {
	switch s.resource.Resource {
	case "ipaddresses":
		return "192.0.2.7"
	case "customresourcedefinitions":
		return "samples.kinds.example.org"
	}
	return "sample"
}

func (s sample) client(c *cluster, ns string) dynamic.ResourceInterface {
	if s.namespaced {
		return c.dynamic.Resource(s.resource).Namespace(ns)
	}
	return c.dynamic.Resource(s.resource)
}

func TestEveryKindHasASample(t *testing.T) {
	c, _ := use(t)
	_, lists, err := c.client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, s := range samples {
		have[s.resource.GroupVersion().String()+" "+s.resource.Resource] = true
	}
	for _, list := range lists {
		for _, r := range list.APIResources {
			kept := slices.Contains(r.Verbs, "create") && slices.Contains(r.Verbs, "list")
			if strings.Contains(list.GroupVersion, ".example.") {
				continue // a custom resource of another test
			}
			if kept && !have[list.GroupVersion+" "+r.Name] {
				t.Errorf("%s %s is served and has no sample", list.GroupVersion, r.Name)
			}
			if kept && r.SingularName == "" {
				t.Errorf("%s %s: discovery lacks the singular name", list.GroupVersion, r.Name)
			}
		}
	}
}

// TestEveryKind takes each kind through its whole life.
func TestEveryKind(t *testing.T) {
	c, ns := use(t)
	for _, s := range samples {
		t.Run(s.resource.Resource+"."+s.resource.Group, func(t *testing.T) {
			api, name := s.client(c, ns), s.name()
			ctx, cancel := context.WithTimeout(t.Context(), 2*testwait.Patience)
			defer cancel()
			w, err := api.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			s.refuseBad(ctx, t, api, ns, name)
			created := s.create(ctx, t, api, ns, name)
			expect(t, w, watch.Added, name)
			s.readBack(ctx, t, api, created)
			s.change(ctx, t, api, created)
			expect(t, w, watch.Modified, name)
			s.apply(ctx, t, api, ns, name)
			if err := api.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
				t.Fatalf("delete: %v", err)
			}
			gone(ctx, t, api, name)
		})
	}
}

func (s sample) refuseBad(ctx context.Context, t *testing.T, api dynamic.ResourceInterface, ns, name string) {
	t.Helper()
	bad := s.object(t, ns, name)
	var patch map[string]any
	if err := json.Unmarshal([]byte(s.bad), &patch); err != nil {
		t.Fatal(err)
	}
	merge(bad.Object, patch)
	_, err := api.Create(ctx, bad, metav1.CreateOptions{})
	wantStatus(t, err, 422, s.badField)
}

func (s sample) create(ctx context.Context, t *testing.T, api dynamic.ResourceInterface, ns, name string) *unstructured.Unstructured {
	t.Helper()
	dry, err := api.Create(ctx, s.object(t, ns, name), metav1.CreateOptions{DryRun: []string{"All"}})
	if err != nil || dry.GetUID() == "" {
		t.Fatalf("dry run: %v", err)
	}
	if _, err := api.Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("a dry run stored something: %v", err)
	}
	created, err := api.Create(ctx, s.object(t, ns, name), metav1.CreateOptions{FieldValidation: "Strict"})
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	for path, want := range s.defaulted {
		got, _, err := unstructured.NestedFieldNoCopy(created.Object, strings.Split(path, ".")...)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("default of %s: got %v, want %v (%v)", path, got, want, err)
		}
	}
	_, err = api.Create(ctx, s.object(t, ns, name), metav1.CreateOptions{})
	wantStatus(t, err, 409, "already exists")
	return created
}

func (s sample) readBack(ctx context.Context, t *testing.T, api dynamic.ResourceInterface, created *unstructured.Unstructured) {
	t.Helper()
	list, err := api.List(ctx, metav1.ListOptions{LabelSelector: "sample=" + created.GetName()})
	if err != nil || len(list.Items) != 1 || list.Items[0].GetUID() != created.GetUID() {
		t.Fatalf("list by label: %v %v", list, err)
	}
	// Controllers may have written status and annotations meanwhile; what the client wrote comes back as it was.
	got, err := api.Get(ctx, created.GetName(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"spec", "data", "rules", "subsets", "endpoints", "template", "value", "handler", "roleRef", "subjects"} {
		a, b := asJSON(t, created.Object[key]), asJSON(t, got.Object[key])
		if a != b && s.resource.Resource != "namespaces" && s.resource.Resource != "nodes" {
			t.Errorf("%s came back changed:\n%s\n%s", key, a, b)
		}
	}
}

// change goes through each way of writing: update, JSON patch, merge patch, strategic merge patch.
func (s sample) change(ctx context.Context, t *testing.T, api dynamic.ResourceInterface, created *unstructured.Unstructured) {
	t.Helper()
	name := created.GetName()
	stale := created.DeepCopy()
	stale.SetResourceVersion("1")
	_, err := api.Update(ctx, stale, metav1.UpdateOptions{})
	wantStatus(t, err, 409, "the object has been modified")
	eventually(t, "update", func() error {
		now, err := api.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.SetAnnotations(map[string]string{"updated": "yes"})
		_, err = api.Update(ctx, now, metav1.UpdateOptions{})
		return err
	})
	for kind, body := range map[types.PatchType]string{
		types.JSONPatchType:           `[{"op":"add","path":"/metadata/labels/json","value":"yes"}]`,
		types.MergePatchType:          `{"metadata":{"labels":{"merge":"yes"}}}`,
		types.StrategicMergePatchType: `{"metadata":{"labels":{"strategic":"yes"}}}`,
	} {
		if _, err := api.Patch(ctx, name, kind, []byte(body), metav1.PatchOptions{}); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	got, err := api.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, label := range []string{"json", "merge", "strategic"} {
		if got.GetLabels()[label] != "yes" {
			t.Errorf("label %s is missing: %v", label, got.GetLabels())
		}
	}
	if got.GetAnnotations()["updated"] != "yes" || got.GetUID() != created.GetUID() {
		t.Errorf("after update: %v", got.Object["metadata"])
	}
}

func (s sample) apply(ctx context.Context, t *testing.T, api dynamic.ResourceInterface, ns, name string) {
	t.Helper()
	mine := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": s.object(t, ns, name).GetAPIVersion(), "kind": s.object(t, ns, name).GetKind(),
		"metadata": map[string]any{"name": name, "labels": map[string]any{"applied": "yes"}},
	}}
	got, err := api.Apply(ctx, name, mine, metav1.ApplyOptions{FieldManager: "one"})
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	if got.GetLabels()["applied"] != "yes" || got.GetLabels()["json"] != "yes" {
		t.Errorf("apply lost or missed labels: %v", got.GetLabels())
	}
	if !slices.ContainsFunc(got.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == "one" && e.Operation == metav1.ManagedFieldsOperationApply
	}) {
		t.Errorf("managed fields do not name the applier: %v", got.GetManagedFields())
	}
	mine.SetLabels(map[string]string{"applied": "other"})
	_, err = api.Apply(ctx, name, mine, metav1.ApplyOptions{FieldManager: "two"})
	wantStatus(t, err, 409, `conflict with "one"`)
}

func expect(t *testing.T, w watch.Interface, kind watch.EventType, name string) {
	t.Helper()
	timeout := time.After(testwait.Patience)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok {
				t.Fatalf("watch ended before %s of %s", kind, name)
			}
			if u, isObject := e.Object.(*unstructured.Unstructured); e.Type == kind && isObject && u.GetName() == name {
				return
			}
		case <-timeout:
			t.Fatalf("no %s of %s", kind, name)
		}
	}
}

func gone(ctx context.Context, t *testing.T, api dynamic.ResourceInterface, name string) {
	t.Helper()
	eventually(t, "deletion", func() error {
		_, err := api.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there (%w)", err)
	})
}

func merge(into, patch map[string]any) {
	for k, v := range patch {
		if v == nil {
			delete(into, k)
			continue
		}
		if child, ok := v.(map[string]any); ok {
			if have, ok := into[k].(map[string]any); ok {
				merge(have, child)
				continue
			}
		}
		into[k] = v
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

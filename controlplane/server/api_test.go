package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"coracle/controlplane/apiserver"
	"coracle/internal/testwait"
)

func TestVersionHealthAndDocuments(t *testing.T) {
	c, _ := use(t)
	v, err := c.client.Discovery().ServerVersion()
	if err != nil || v.GitVersion != apiserver.KubernetesVersion || v.Minor != "37" {
		t.Fatalf("version: %v %v", v, err)
	}
	get := func(path string) string {
		t.Helper()
		out, err := c.client.Discovery().RESTClient().Get().AbsPath(path).DoRaw(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return string(out)
	}
	for path, want := range map[string]string{
		"/healthz": "ok", "/livez": "ok", "/readyz": "ok", "/metrics": "apiserver_request_total",
		"/openapi/v2": `"io.k8s.api.core.v1.Pod"`, "/openapi/v3": `"apis/apps/v1"`, "/openapi/v3/api/v1": "io.k8s.api.core.v1.Pod",
		"/.well-known/openid-configuration": "jwks_uri", "/openid/v1/jwks": "keys",
	} {
		if got := get(path); !strings.Contains(got, want) {
			t.Errorf("%s: no %q in %.200s", path, want, got)
		}
	}
	if strings.Contains(get("/openapi/v3/api/v1"), "__internal") {
		t.Error("the published documents name the hub version")
	}
}

func TestDocumentsAreCachedByHash(t *testing.T) {
	c, _ := use(t)
	client, err := rest.HTTPClientFor(c.rest)
	if err != nil {
		t.Fatal(err)
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	get := func(path string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.rest.Host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string } `json:"paths"`
	}
	if err := json.NewDecoder(get("/openapi/v3").Body).Decode(&index); err != nil {
		t.Fatal(err)
	}
	url := index.Paths["apis/apps/v1"].ServerRelativeURL
	res := get(url)
	if res.StatusCode != 200 || !strings.Contains(res.Header.Get("Cache-Control"), "immutable") {
		t.Fatalf("%s: %s %v", url, res.Status, res.Header)
	}
	if res := get(url, "If-None-Match", res.Header.Get("Etag")); res.StatusCode != http.StatusNotModified {
		t.Errorf("with the etag: %s", res.Status)
	}
	if res := get("/openapi/v3/apis/apps/v1?hash=old"); res.StatusCode != http.StatusMovedPermanently || res.Header.Get("Location") != url {
		t.Errorf("with a stale hash: %s to %s, want %s", res.Status, res.Header.Get("Location"), url)
	}
	if res := get("/openapi/v3/apis/none/v1"); res.StatusCode != http.StatusNotFound {
		t.Errorf("of no group: %s", res.Status)
	}
	proto := "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	if res := get("/openapi/v2", "Accept", proto); res.StatusCode != 200 || !strings.Contains(res.Header.Get("Content-Type"), "protobuf") {
		t.Errorf("protobuf: %s %v", res.Status, res.Header)
	}
}

func TestProtobufAndTables(t *testing.T) {
	c, ns := use(t)
	pc := rest.CopyConfig(c.rest)
	pc.ContentType = runtime.ContentTypeProtobuf
	client, err := kubernetes.NewForConfig(pc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Pods(ns).Create(t.Context(), newPod(ns, "p"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	raw, err := client.CoreV1().RESTClient().Get().Namespace(ns).Resource("pods").Name("p").SetHeader("Accept", runtime.ContentTypeProtobuf).DoRaw(t.Context())
	if err != nil || !bytes.HasPrefix(raw, []byte("k8s\x00")) {
		t.Errorf("protobuf: %q %v", raw[:min(8, len(raw))], err)
	}
	raw, err = client.CoreV1().RESTClient().Get().Namespace(ns).Resource("pods").SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	var table metav1.Table
	if err == nil {
		err = json.Unmarshal(raw, &table)
	}
	if err != nil || len(table.Rows) != 1 || table.ColumnDefinitions[2].Name != "Status" {
		t.Errorf("table: %v %v", table.ColumnDefinitions, err)
	}
}

func TestStrictDecodingAndSize(t *testing.T) {
	c, ns := use(t)
	post := func(query, body string) error {
		return c.client.CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/"+ns+"/configmaps").
			Param("fieldValidation", query).SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(t.Context()).Error()
	}
	unknown := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","colour":"blue"},"dta":{}}`
	wantStatus(t, post("Strict", unknown), 400, `unknown field "metadata.colour", unknown field "dta"`)
	wantStatus(t, post("Strict", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"1","a":"2"}}`), 400, `duplicate field "data.a"`)
	if err := post("Ignore", unknown); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, post("Strict", `{"apiVersion":"v1","kind":"ConfigMap"`), 400, "")
	wantStatus(t, post("Strict", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}`), 400, "cannot be handled as a ConfigMap")
	wantStatus(t, post("Strict", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"other"}}`), 400, "does not match the namespace")
	big := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"big"},"data":{"a":%q}}`, strings.Repeat("x", 4<<20))
	wantStatus(t, post("Ignore", big), http.StatusRequestEntityTooLarge, "limit is 3145728")
	wantStatus(t, post("Ignore", fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"big"},"data":{"a":%q}}`, strings.Repeat("x", 2<<20))), 422, "Too long")
}

func TestScale(t *testing.T) {
	c, ns := use(t)
	ctx := t.Context()
	deployments := c.client.AppsV1().Deployments(ns)
	labels := map[string]string{"app": "x"}
	_, err := deployments.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "d"},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](0), Selector: &metav1.LabelSelector{MatchLabels: labels}, Paused: true,
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: newPod(ns, "").Spec},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := deployments.GetScale(ctx, "d", metav1.GetOptions{})
	if err != nil || s.Spec.Replicas != 0 || s.Status.Selector != "app=x" {
		t.Fatalf("get scale: %v %v", s, err)
	}
	eventually(t, "update scale", func() error {
		s, err := deployments.GetScale(ctx, "d", metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Spec.Replicas = 2
		s, err = deployments.UpdateScale(ctx, "d", s, metav1.UpdateOptions{})
		if err == nil && s.Spec.Replicas != 2 {
			return fmt.Errorf("got %d replicas", s.Spec.Replicas)
		}
		return err
	})
	s.Spec.Replicas, s.ResourceVersion = -1, ""
	_, err = deployments.UpdateScale(ctx, "d", s, metav1.UpdateOptions{})
	wantStatus(t, err, 422, "spec.replicas")
	if _, err := deployments.Patch(ctx, "d", types.MergePatchType, []byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{}, "scale"); err != nil {
		t.Fatalf("patch scale: %v", err)
	}
	raw, err := c.client.AppsV1().RESTClient().Patch(types.ApplyPatchType).Namespace(ns).Resource("deployments").Name("d").SubResource("scale").
		Param("fieldManager", "hpa").Param("force", "true").
		Body([]byte(`{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"d"},"spec":{"replicas":3}}`)).DoRaw(ctx)
	var applied autoscalingv1.Scale
	if err == nil {
		err = json.Unmarshal(raw, &applied)
	}
	if err != nil || applied.Spec.Replicas != 3 {
		t.Fatalf("apply scale: %s %v", raw, err)
	}
	d, err := deployments.Get(ctx, "d", metav1.GetOptions{})
	if err != nil || *d.Spec.Replicas != 3 {
		t.Fatalf("deployment: %v %v", d, err)
	}
	owned := false
	for _, e := range d.ManagedFields {
		owned = owned || e.Manager == "hpa" && e.APIVersion == "apps/v1" && strings.Contains(string(e.FieldsV1.Raw), "f:replicas")
	}
	if !owned {
		t.Errorf("the applier of the scale does not own replicas: %v", d.ManagedFields)
	}
}

func TestFinalizersHoldDeletionBack(t *testing.T) {
	c, ns := use(t)
	maps := c.client.CoreV1().ConfigMaps(ns)
	_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m", Finalizers: []string{"x.example/y"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(t.Context(), "m", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if m, err := maps.Get(t.Context(), "m", metav1.GetOptions{}); err != nil || m.DeletionTimestamp == nil {
		t.Fatalf("held: %v %v", m, err)
	}
	if _, err := maps.Patch(t.Context(), "m", types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(t.Context(), "m", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("still there: %v", err)
	}
}

func TestNamespaceDeletionEmptiesIt(t *testing.T) {
	c, ns := use(t)
	ctx := t.Context()
	c.pod(t, ns, "p")
	if _, err := c.client.CoreV1().Services(ns).Create(ctx, newService("s"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := c.client.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) && !apierrors.IsNotFound(err) {
		t.Errorf("creation in a namespace that is going: %v", err)
	}
	eventually(t, "the namespace goes", func() error {
		_, err := c.client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("still there (%w)", err)
	})
}

func TestWhatIsStored(t *testing.T) {
	c, ns := use(t)
	ctx := t.Context()
	store := c.etcd(t)
	value := func(key string) *clientv3.GetResponse {
		t.Helper()
		r, err := store.Get(ctx, key)
		if err != nil || len(r.Kvs) != 1 {
			t.Fatalf("%s: %v %v", key, r, err)
		}
		return r
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"a": []byte("very-secret-words")}}
	if _, err := c.client.CoreV1().Secrets(ns).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	sealed := value("/registry/secrets/" + ns + "/s").Kvs[0].Value
	if bytes.Contains(sealed, []byte("very-secret-words")) || !bytes.HasPrefix(sealed, []byte("k8s:enc:secretbox:v1:")) {
		t.Errorf("the secret is stored as %q", sealed[:40])
	}
	c.pod(t, ns, "p")
	if pod := value("/registry/pods/" + ns + "/p").Kvs[0]; !bytes.HasPrefix(pod.Value, []byte("k8s\x00")) || pod.Lease != 0 {
		t.Errorf("the pod is stored as %q", pod.Value[:8])
	}
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e"}, Reason: "R", Type: "Normal",
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: "p"},
	}
	if _, err := c.client.CoreV1().Events(ns).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ttl, err := store.TimeToLive(ctx, clientv3.LeaseID(value("/registry/events/" + ns + "/e").Kvs[0].Lease))
	if err != nil || ttl.GrantedTTL < 3600 || ttl.GrantedTTL > 4000 {
		t.Errorf("events live for %v s (%v), want an hour", ttl, err)
	}
	other, err := c.client.EventsV1().Events(ns).Get(ctx, "e", metav1.GetOptions{})
	if err != nil || other.Regarding.Name != "p" {
		t.Errorf("the event in its other group: %v %v", other, err)
	}
	list, err := c.client.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=p,reason=R"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("events by object: %v %v", list, err)
	}
}

func TestNobodyGrantsMoreThanTheyHold(t *testing.T) {
	c, ns := use(t)
	ctx := t.Context()
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "granter"},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"rbac.authorization.k8s.io"}, Resources: []string{"roles", "rolebindings"}, Verbs: []string{"*"}},
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}},
		},
	}
	// The verb "*" would include escalate and bind; name the others.
	role.Rules[0].Verbs = []string{"create", "update", "get", "patch"}
	if _, err := c.client.RbacV1().Roles(ns).Create(ctx, role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := c.client.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "granter"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "granter"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rc := rest.CopyConfig(c.rest)
	rc.Impersonate.UserName = "alice"
	alice, err := kubernetes.NewForConfig(rc)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "alice may create roles", func() error {
		own := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Rules: role.Rules[1:]}
		_, err := alice.RbacV1().Roles(ns).Create(ctx, own, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	more := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "more"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}}}}
	_, err = alice.RbacV1().Roles(ns).Create(ctx, more, metav1.CreateOptions{})
	wantStatus(t, err, 403, "attempting to grant RBAC permissions not currently held")
	_, err = alice.RbacV1().Roles(ns).Patch(ctx, "own", types.MergePatchType, []byte(`{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}`), metav1.PatchOptions{})
	wantStatus(t, err, 403, "not currently held")
	_, err = alice.RbacV1().RoleBindings(ns).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "admin"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "alice"}},
	}, metav1.CreateOptions{})
	wantStatus(t, err, 403, "not currently held")
	_, err = alice.CoreV1().Secrets(ns).List(ctx, metav1.ListOptions{})
	wantStatus(t, err, 403, `User "alice" cannot list resource "secrets"`)
}

func TestWatchResumesAndBookmarks(t *testing.T) {
	c, ns := use(t)
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Patience)
	defer cancel()
	maps := c.client.CoreV1().ConfigMaps(ns)
	list, err := maps.List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("m%d", i)}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for i := 0; i < 3; {
		e, open := <-w.ResultChan()
		if !open {
			t.Fatal("the watch ended before it told of all objects")
		}
		if m, ok := e.Object.(*corev1.ConfigMap); ok && m.Name == fmt.Sprintf("m%d", i) {
			i++
		}
	}
	initial, err := maps.Watch(ctx, metav1.ListOptions{
		SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer initial.Stop()
	for e := range initial.ResultChan() {
		if m, ok := e.Object.(*corev1.ConfigMap); ok && e.Type == "BOOKMARK" && m.Annotations[metav1.InitialEventsAnnotationKey] == "true" {
			return
		}
	}
	t.Error("no bookmark at the end of the initial events")
}

package admission

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite golden files")

// chain is the whole chain over a fake API with these objects.
func chain(t *testing.T, objects ...runtime.Object) admission.Interface {
	t.Helper()
	client := fake.NewClientset(append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "leaving"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-node-lease"}})...)
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := New(Config{Client: client, Informers: factory})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	return c
}

// request is what the API asks admission about.
type request struct {
	op         admission.Operation
	resource   schema.GroupVersionResource
	sub        string
	obj, old   runtime.Object
	user       user.Info
	name, kind string
	namespace  string
}

func (r request) attributes() admission.Attributes {
	name, namespace := r.name, r.namespace
	if o, ok := r.obj.(metav1.Object); ok {
		if name == "" {
			name = o.GetName()
		}
		if namespace == "" {
			namespace = o.GetNamespace()
		}
	}
	if r.user == nil {
		r.user = &user.DefaultInfo{Name: "jane"}
	}
	return admission.NewAttributesRecord(r.obj, r.old, schema.GroupVersionKind{Version: "v1", Kind: r.kind}, namespace, name, r.resource, r.sub, r.op, nil, false, r.user)
}

func admit(t *testing.T, c admission.Interface, r request) error {
	t.Helper()
	a := r.attributes()
	if m, ok := c.(admission.MutationInterface); ok && m.Handles(r.op) {
		if err := m.Admit(context.Background(), a, nil); err != nil {
			return err
		}
	}
	if v, ok := c.(admission.ValidationInterface); ok && v.Handles(r.op) {
		return v.Validate(context.Background(), a, nil)
	}
	return nil
}

var pods = corev1.SchemeGroupVersion.WithResource("pods")

func account(name string, change func(*corev1.ServiceAccount)) *corev1.ServiceAccount {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	if change != nil {
		change(sa)
	}
	return sa
}

func newPod(change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "setup", Image: "a"}},
			Containers:     []corev1.Container{{Name: "web", Image: "b"}},
		},
	}
	if change != nil {
		change(p)
	}
	return p
}

// TestPodGolden shows what the chain makes of a plain pod.
func TestPodGolden(t *testing.T) {
	c := chain(t, account("default", func(sa *corev1.ServiceAccount) {
		sa.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
	}))
	pod := newPod(nil)
	if err := admit(t, c, request{op: admission.Create, resource: pods, obj: pod, kind: "Pod"}); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	volume := pod.Spec.Volumes[0].Name
	if !strings.HasPrefix(volume, "kube-api-access-") || len(volume) != len("kube-api-access-")+5 {
		t.Errorf("the volume is called %q", volume)
	}
	got := strings.ReplaceAll(string(text), volume, "kube-api-access-xxxxx")
	golden := filepath.Join("testdata", "pod.yaml")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

func TestServiceAccounts(t *testing.T) {
	c := chain(t,
		account("default", nil),
		account("closed", func(sa *corev1.ServiceAccount) { sa.AutomountServiceAccountToken = ptr.To(false) }),
		account("strict", func(sa *corev1.ServiceAccount) {
			sa.Annotations = map[string]string{enforceAnnotation: "true"}
			sa.Secrets = []corev1.ObjectReference{{Name: "mine"}}
			sa.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
		}))
	secretVolume := func(name string) corev1.Volume {
		return corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}
	}
	mirror := func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }
	for name, c2 := range map[string]struct {
		change func(*corev1.Pod)
		bad    string
		mounts int // of the token
	}{
		"default":         {mounts: 2},
		"pod says no":     {change: func(p *corev1.Pod) { p.Spec.AutomountServiceAccountToken = ptr.To(false) }},
		"account says no": {change: func(p *corev1.Pod) { p.Spec.ServiceAccountName = "closed" }},
		"pod before account": {change: func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "closed"
			p.Spec.AutomountServiceAccountToken = ptr.To(true)
		}, mounts: 2},
		"no such account": {change: func(p *corev1.Pod) { p.Spec.ServiceAccountName = "nobody" }, bad: `error looking up service account ns/nobody: serviceaccounts "nobody" not found`},
		"own mount": {change: func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: tokenMountPath}}
		}, mounts: 1},
		"strict, listed": {change: func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "strict"
			p.Spec.Volumes = []corev1.Volume{secretVolume("mine")}
		}, mounts: 2},
		"strict, other": {change: func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "strict"
			p.Spec.Volumes = []corev1.Volume{secretVolume("other")}
		}, bad: `does not reference that secret`},
		"strict, env": {change: func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "strict"
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "other"}}}}
		}, bad: "does not reference"},
		"strict, other pull": {change: func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "strict"
			p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "other"}}
		}, bad: "imagePullSecret"},
		"mirror":              {change: mirror},
		"mirror with account": {change: func(p *corev1.Pod) { mirror(p); p.Spec.ServiceAccountName = "default" }, bad: "mirror pod may not reference service accounts"},
		"mirror with secret":  {change: func(p *corev1.Pod) { mirror(p); p.Spec.Volumes = []corev1.Volume{secretVolume("x")} }, bad: "mirror pod may not reference secrets"},
		"mirror with token":   {change: func(p *corev1.Pod) { mirror(p); p.Spec.Volumes = []corev1.Volume{tokenVolume("x")} }, bad: "ServiceAccountToken"},
		"namespace leaving":   {change: func(p *corev1.Pod) { p.Namespace = "leaving" }, bad: "being terminated"},
		"namespace not there": {change: func(p *corev1.Pod) { p.Namespace = "nowhere" }, bad: "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(c2.change)
			err := admit(t, c, request{op: admission.Create, resource: pods, obj: pod, kind: "Pod"})
			if c2.bad != "" {
				if err == nil || !strings.Contains(err.Error(), c2.bad) {
					t.Fatalf("got %v, want it to say %q", err, c2.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			mounts := 0
			for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
				for _, container := range list {
					for _, m := range container.VolumeMounts {
						if strings.HasPrefix(m.Name, tokenVolumePrefix) {
							mounts++
						}
					}
				}
			}
			if mounts != c2.mounts {
				t.Fatalf("%d mounts of the token, want %d", mounts, c2.mounts)
			}
		})
	}
}

// TestApplyServiceAccountTwice: what server-side apply sends a second time is not changed again.
func TestApplyServiceAccountTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pod := newPod(nil)
		for range rapid.IntRange(0, 3).Draw(t, "more") {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "c"})
		}
		if rapid.Bool().Draw(t, "taken") {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "taken"})
		}
		draws := []string{"taken", "kube-api-access-1", "kube-api-access-2"}
		name := func(string) string {
			next := draws[0]
			draws = draws[1:]
			return next
		}
		sa := account("default", func(sa *corev1.ServiceAccount) { sa.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "r"}} })
		ApplyServiceAccount(pod, sa, name)
		AddDefaultTolerations(pod)
		once, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		ApplyServiceAccount(pod, sa, name)
		AddDefaultTolerations(pod)
		twice, err := json.Marshal(pod)
		if err != nil || string(once) != string(twice) {
			t.Fatalf("%s\n%s\n%v", once, twice, err)
		}
	})
}

func TestTolerations(t *testing.T) {
	forever := corev1.Toleration{Operator: corev1.TolerationOpExists}
	short := corev1.Toleration{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](5)}
	for name, c := range map[string]struct {
		have []corev1.Toleration
		want int
	}{
		"none": {nil, 2}, "everything": {[]corev1.Toleration{forever}, 1}, "one of the two": {[]corev1.Toleration{short}, 2},
		"another effect": {[]corev1.Toleration{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}, 3},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: c.have}}
		AddDefaultTolerations(pod)
		if len(pod.Spec.Tolerations) != c.want {
			t.Errorf("%s: %v", name, pod.Spec.Tolerations)
		}
	}
}

func TestPriority(t *testing.T) {
	never := corev1.PreemptNever
	c := chain(t, account("default", nil),
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "high"}, Value: 1000, PreemptionPolicy: &never},
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "base"}, Value: 7, GlobalDefault: true})
	for name, c2 := range map[string]struct {
		change func(*corev1.Pod)
		value  int32
		class  string
		bad    string
	}{
		"default class":  {value: 7, class: "base"},
		"named":          {change: func(p *corev1.Pod) { p.Spec.PriorityClassName = "high" }, value: 1000, class: "high"},
		"built in":       {change: func(p *corev1.Pod) { p.Spec.PriorityClassName = "system-node-critical" }, value: 2000001000, class: "system-node-critical"},
		"unknown":        {change: func(p *corev1.Pod) { p.Spec.PriorityClassName = "x" }, bad: "no PriorityClass with name x was found"},
		"number agrees":  {change: func(p *corev1.Pod) { p.Spec.PriorityClassName = "high"; p.Spec.Priority = ptr.To[int32](1000) }, value: 1000, class: "high"},
		"number differs": {change: func(p *corev1.Pod) { p.Spec.Priority = ptr.To[int32](99) }, bad: "must not be provided"},
	} {
		pod := newPod(c2.change)
		err := admit(t, c, request{op: admission.Create, resource: pods, obj: pod, kind: "Pod"})
		switch {
		case c2.bad != "":
			if err == nil || !strings.Contains(err.Error(), c2.bad) {
				t.Errorf("%s: got %v, want it to say %q", name, err, c2.bad)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case *pod.Spec.Priority != c2.value || pod.Spec.PriorityClassName != c2.class:
			t.Errorf("%s: %d %q", name, *pod.Spec.Priority, pod.Spec.PriorityClassName)
		}
	}
	old := newPod(func(p *corev1.Pod) {
		p.Spec.Priority = ptr.To[int32](7)
		p.Spec.PreemptionPolicy = &never
		p.Spec.ServiceAccountName = "default"
	})
	changed := newPod(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "default" })
	if err := admit(t, c, request{op: admission.Update, resource: pods, obj: changed, old: old, kind: "Pod"}); err != nil || *changed.Spec.Priority != 7 {
		t.Errorf("an update that leaves the priority out: %v, %v", changed.Spec.Priority, err)
	}
}

func TestNewNodesAreTainted(t *testing.T) {
	c := chain(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	for range 2 {
		if err := admit(t, c, request{op: admission.Create, resource: corev1.SchemeGroupVersion.WithResource("nodes"), obj: node, kind: "Node"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(node.Spec.Taints) != 1 || node.Spec.Taints[0].Key != "node.kubernetes.io/not-ready" || node.Spec.Taints[0].Effect != corev1.TaintEffectNoSchedule {
		t.Fatalf("%v", node.Spec.Taints)
	}
}

func TestNodeRestriction(t *testing.T) {
	mine := newPod(func(p *corev1.Pod) { p.Name, p.UID, p.Spec.NodeName = "mine", "mine-uid", "n1" })
	theirs := newPod(func(p *corev1.Pod) { p.Name, p.UID, p.Spec.NodeName = "theirs", "theirs-uid", "n2" })
	c := chain(t, mine, theirs, account("default", nil))
	n1 := &user.DefaultInfo{Name: "system:node:n1", Groups: []string{"system:nodes"}}
	nodes := corev1.SchemeGroupVersion.WithResource("nodes")
	leases := coordinationv1.SchemeGroupVersion.WithResource("leases")
	accounts := corev1.SchemeGroupVersion.WithResource("serviceaccounts")
	node := func(name string, labels map[string]string, taints ...corev1.Taint) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.NodeSpec{Taints: taints}}
	}
	mirror := func(change func(*corev1.Pod)) *corev1.Pod {
		return newPod(func(p *corev1.Pod) {
			p.Annotations, p.Spec.NodeName = map[string]string{corev1.MirrorPodAnnotationKey: "x"}, "n1"
			p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", Controller: ptr.To(true)}}
			if change != nil {
				change(p)
			}
		})
	}
	token := func(ref *authenticationv1.BoundObjectReference) *authenticationv1.TokenRequest {
		return &authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default"}, Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: ref}}
	}
	lease := func(namespace, name string) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	relabelled := mine.DeepCopy()
	relabelled.Labels = map[string]string{"app": "x"}
	for name, c2 := range map[string]struct {
		r   request
		bad string
	}{
		"mirror pod":            {request{op: admission.Create, resource: pods, obj: mirror(nil), kind: "Pod"}, ""},
		"ordinary pod":          {request{op: admission.Create, resource: pods, obj: newPod(func(p *corev1.Pod) { p.Spec.NodeName = "n1" }), kind: "Pod"}, "can only create mirror pods"},
		"mirror elsewhere":      {request{op: admission.Create, resource: pods, obj: mirror(func(p *corev1.Pod) { p.Spec.NodeName = "n2" }), kind: "Pod"}, "spec.nodeName set to itself"},
		"mirror of other owner": {request{op: admission.Create, resource: pods, obj: mirror(func(p *corev1.Pod) { p.OwnerReferences[0].Name = "n2" }), kind: "Pod"}, "owner reference set to itself"},
		"status of mine":        {request{op: admission.Update, resource: pods, sub: "status", obj: mine.DeepCopy(), old: mine, kind: "Pod"}, ""},
		"status of theirs":      {request{op: admission.Update, resource: pods, sub: "status", obj: theirs.DeepCopy(), old: theirs, kind: "Pod"}, "spec.nodeName set to itself"},
		"labels by status":      {request{op: admission.Update, resource: pods, sub: "status", obj: relabelled, old: mine, kind: "Pod"}, "cannot update labels"},
		"spec of mine":          {request{op: admission.Update, resource: pods, obj: mine.DeepCopy(), old: mine, kind: "Pod"}, "unexpected operation"},
		"delete mine":           {request{op: admission.Delete, resource: pods, name: "mine", namespace: "ns", kind: "Pod"}, ""},
		"delete theirs":         {request{op: admission.Delete, resource: pods, name: "theirs", namespace: "ns", kind: "Pod"}, "can only delete pods"},
		"exec":                  {request{op: admission.Create, resource: pods, sub: "exec", name: "mine", namespace: "ns", kind: "Pod"}, "unexpected pod subresource"},
		"own node":              {request{op: admission.Create, resource: nodes, obj: node("n1", map[string]string{"kubernetes.io/hostname": "n1", "rack": "1"}), kind: "Node"}, ""},
		"other node":            {request{op: admission.Create, resource: nodes, obj: node("n2", nil), kind: "Node"}, "not allowed to modify node"},
		"role label":            {request{op: admission.Create, resource: nodes, obj: node("n1", map[string]string{"node-role.kubernetes.io/control-plane": ""}), kind: "Node"}, "node-role.kubernetes.io/control-plane"},
		"restricted label":      {request{op: admission.Update, resource: nodes, obj: node("n1", map[string]string{"x.node-restriction.kubernetes.io/a": ""}), old: node("n1", nil), kind: "Node"}, "not allowed to modify labels"},
		"restricted label kept": {request{op: admission.Update, resource: nodes, obj: node("n1", map[string]string{"node-restriction.kubernetes.io/a": ""}), old: node("n1", map[string]string{"node-restriction.kubernetes.io/a": ""}), kind: "Node"}, ""},
		"restricted label gone": {request{op: admission.Update, resource: nodes, obj: node("n1", nil), old: node("n1", map[string]string{"node-restriction.kubernetes.io/a": ""}), kind: "Node"}, "not allowed to modify labels"},
		"taint off":             {request{op: admission.Update, resource: nodes, obj: node("n1", nil), old: node("n1", nil, corev1.Taint{Key: "x"}), kind: "Node"}, "not allowed to modify taints"},
		"delete own node":       {request{op: admission.Delete, resource: nodes, name: "n1", kind: "Node"}, "not allowed to delete itself"},
		"own lease":             {request{op: admission.Create, resource: leases, obj: lease("kube-node-lease", "n1"), kind: "Lease"}, ""},
		"other lease":           {request{op: admission.Create, resource: leases, obj: lease("kube-node-lease", "n2"), kind: "Lease"}, "same name"},
		"lease elsewhere":       {request{op: admission.Create, resource: leases, obj: lease("ns", "n1"), kind: "Lease"}, "in namespace"},
		"token for mine":        {request{op: admission.Create, resource: accounts, sub: "token", obj: token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine", UID: "mine-uid"}), kind: "TokenRequest"}, ""},
		"token for theirs":      {request{op: admission.Create, resource: accounts, sub: "token", obj: token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "theirs", UID: "theirs-uid"}), kind: "TokenRequest"}, "different node"},
		"token of other uid":    {request{op: admission.Create, resource: accounts, sub: "token", obj: token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine", UID: "x"}), kind: "TokenRequest"}, "does not match"},
		"token without uid":     {request{op: admission.Create, resource: accounts, sub: "token", obj: token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "mine"}), kind: "TokenRequest"}, "without a uid"},
		"token for nothing":     {request{op: admission.Create, resource: accounts, sub: "token", obj: token(nil), kind: "TokenRequest"}, "not bound to a pod"},
		"token for a secret":    {request{op: admission.Create, resource: accounts, sub: "token", obj: token(&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: "x"}), kind: "TokenRequest"}, "only pods"},
	} {
		t.Run(name, func(t *testing.T) {
			c2.r.user = n1
			err := admit(t, c, c2.r)
			switch {
			case c2.bad == "" && err != nil:
				t.Fatal(err)
			case c2.bad != "" && (err == nil || !strings.Contains(err.Error(), c2.bad)):
				t.Fatalf("got %v, want it to say %q", err, c2.bad)
			case c2.bad != "" && !apierrors.IsForbidden(err):
				t.Fatalf("%v is not Forbidden", err)
			}
		})
	}
	nameless := request{op: admission.Delete, resource: pods, name: "mine", namespace: "ns", kind: "Pod", user: &user.DefaultInfo{Name: "x", Groups: []string{"system:nodes"}}}
	if err := admit(t, c, nameless); err == nil || !strings.Contains(err.Error(), "could not determine node") {
		t.Fatalf("a node without a name: %v", err)
	}
}

func TestBuiltInNamespacesStay(t *testing.T) {
	c := chain(t)
	namespaces := corev1.SchemeGroupVersion.WithResource("namespaces")
	for name, may := range map[string]bool{"kube-system": false, "default": false, "kube-public": false, "ns": true} {
		err := admit(t, c, request{op: admission.Delete, resource: namespaces, name: name, kind: "Namespace"})
		if (err == nil) != may {
			t.Errorf("delete namespace %s: %v", name, err)
		}
	}
}

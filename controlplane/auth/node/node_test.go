package node

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/tools/cache"
	"pgregory.net/rapid"
)

func pod(name, node string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{NodeName: node, ServiceAccountName: name + "-account"}}
	if change != nil {
		change(p)
	}
	return p
}

// needy names one object in each place a pod can.
func needy(p *corev1.Pod) {
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	env := func(kind string) []corev1.EnvVar {
		return []corev1.EnvVar{
			{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref(kind + "-env")}}},
			{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref(kind + "-env")}}},
		}
	}
	p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{ref("pull")}
	p.Spec.InitContainers = []corev1.Container{{Env: env("init")}}
	p.Spec.Containers = []corev1.Container{{Env: env("main"), EnvFrom: []corev1.EnvFromSource{
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("from")}},
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("from")}},
	}}}
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Env: env("debug")}}}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "a", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "volume"}}},
		{Name: "b", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("volume")}}},
		{Name: "c", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
		{Name: "d", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{Secret: &corev1.SecretProjection{LocalObjectReference: ref("projected")}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("projected")}},
		}}}},
		{Name: "e", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{Name: "csi"}}}},
	}
}

func index(t *testing.T, pods ...*corev1.Pod) *Authorizer {
	t.Helper()
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, Indexers())
	for _, p := range pods {
		if err := store.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	return &Authorizer{Pods: store}
}

func TestAuthorize(t *testing.T) {
	z := index(t, pod("web", "n1", needy), pod("other", "n2", nil), pod("mirror", "n1", func(p *corev1.Pod) {
		p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "stolen"}}}}
	}))
	for _, c := range []struct {
		what string // verb group/resource/subresource namespace/name selector
		want bool
	}{
		{"get /secrets ns/volume", true}, {"get /secrets ns/pull", true}, {"get /secrets ns/main-env", true}, {"get /secrets ns/init-env", true},
		{"get /secrets ns/debug-env", true}, {"get /secrets ns/from", true}, {"get /secrets ns/projected", true}, {"get /secrets ns/csi", true},
		{"watch /secrets ns/volume", true}, {"list /secrets ns/volume", true},
		{"list /secrets ns/", false}, {"get /secrets ns/elsewhere", false}, {"get /secrets other/volume", false}, {"update /secrets ns/volume", false},
		{"get /secrets ns/stolen", false}, {"delete /secrets ns/volume", false},
		{"get /configmaps ns/volume", true}, {"get /configmaps ns/from", true}, {"get /configmaps ns/projected", true}, {"get /configmaps ns/main-env", true},
		{"get /configmaps ns/pull", false}, {"list /configmaps ns/", false},
		{"get /persistentvolumeclaims ns/claim", true}, {"get /persistentvolumeclaims ns/web-scratch", true}, {"list /persistentvolumeclaims ns/claim", false},
		{"update /persistentvolumeclaims/status ns/claim", true}, {"update /persistentvolumeclaims ns/claim", false}, {"patch /persistentvolumeclaims/status ns/x", false},
		{"create /serviceaccounts/token ns/web-account", true}, {"create /serviceaccounts/token ns/other-account", false}, {"get /serviceaccounts ns/web-account", false},
		{"get /nodes /n1", true}, {"get /nodes /n2", false}, {"list /nodes /", false}, {"list /nodes / metadata.name=n1", true}, {"list /nodes / metadata.name=n2", false},
		{"list /nodes / metadata.name!=n1", false}, {"create /nodes /", true}, {"patch /nodes/status /n1", true}, {"delete /nodes /n1", false},
		{"get /pods ns/web", true}, {"get /pods ns/other", false}, {"list /pods /", false}, {"list /pods / spec.nodeName=n1", true}, {"list /pods / spec.nodeName=n2", false},
		{"patch /pods/status ns/web", true}, {"delete /pods ns/web", true}, {"create /pods/exec ns/web", false}, {"create /pods/eviction ns/web", true},
		{"get coordination.k8s.io/leases kube-node-lease/n1", true}, {"update coordination.k8s.io/leases kube-node-lease/n1", true},
		{"get coordination.k8s.io/leases kube-node-lease/n2", false}, {"get coordination.k8s.io/leases kube-system/n1", false},
		{"create coordination.k8s.io/leases kube-node-lease/", true}, {"list coordination.k8s.io/leases kube-node-lease/", false},
		{"get storage.k8s.io/csinodes /n1", true}, {"get storage.k8s.io/csinodes /n2", false},
		{"list /services /", true}, {"create /events ns/", true}, {"list apps/deployments /", false}, {"create rbac.authorization.k8s.io/clusterroles /", false},
	} {
		a := parse(t, c.what)
		a.User = &user.DefaultInfo{Name: "system:node:n1", Groups: []string{"system:nodes"}}
		decision, reason, err := z.Authorize(t.Context(), a)
		if err != nil || (decision == authorizer.DecisionAllow) != c.want || decision == authorizer.DecisionDeny {
			t.Errorf("%s: %v %q %v, want allowed %v", c.what, decision, reason, err, c.want)
		}
	}
}

func parse(t *testing.T, text string) authorizer.AttributesRecord {
	t.Helper()
	words := strings.Fields(text)
	group, rest, _ := strings.Cut(words[1], "/")
	resource, sub, _ := strings.Cut(rest, "/")
	namespace, name, _ := strings.Cut(words[2], "/")
	a := authorizer.AttributesRecord{Verb: words[0], APIGroup: group, Resource: resource, Subresource: sub, Namespace: namespace, Name: name, ResourceRequest: true}
	if len(words) > 3 {
		selector, err := fields.ParseSelector(words[3])
		if err != nil {
			t.Fatal(err)
		}
		a.FieldSelectorRequirements = selector.Requirements()
	}
	return a
}

func TestOthersAreNotItsAffair(t *testing.T) {
	z := index(t)
	for _, u := range []user.Info{
		&user.DefaultInfo{Name: "system:node:n1"},
		&user.DefaultInfo{Name: "jane", Groups: []string{"dev"}},
		&user.DefaultInfo{Name: "jane", Groups: []string{"system:nodes"}},
		&user.DefaultInfo{Name: "system:node:", Groups: []string{"system:nodes"}},
	} {
		decision, _, err := z.Authorize(t.Context(), authorizer.AttributesRecord{User: u, Verb: "get", Resource: "services", ResourceRequest: true})
		if err != nil || decision != authorizer.DecisionNoOpinion {
			t.Errorf("%v: %v, %v", u, decision, err)
		}
	}
}

// TestANodeReadsOnlyWhatItsPodsName: whatever pods there are, a secret is readable just if a pod of that node in that namespace
// names it.
func TestANodeReadsOnlyWhatItsPodsName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all, mine []*corev1.Pod
		named := map[string]bool{}
		for i := range rapid.IntRange(0, 8).Draw(t, "pods") {
			node := rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node")
			namespace := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace")
			secret := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "secret")
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprint("p", i)}, Spec: corev1.PodSpec{
				NodeName: node, ImagePullSecrets: []corev1.LocalObjectReference{{Name: secret}},
			}}
			all = append(all, p)
			if node == "n1" {
				mine = append(mine, p)
				named[namespace+"/"+secret] = true
			}
		}
		for _, namespace := range []string{"a", "b"} {
			for _, secret := range []string{"x", "y", "z", ""} {
				a := authorizer.AttributesRecord{Verb: "get", Resource: "secrets", Namespace: namespace, Name: secret, ResourceRequest: true}
				decision, _ := Decide("n1", a, func() Refs { return RefsOf(mine) })
				if (decision == authorizer.DecisionAllow) != named[namespace+"/"+secret] {
					t.Fatalf("%s/%s: %v with pods %v", namespace, secret, decision, all)
				}
			}
		}
	})
}

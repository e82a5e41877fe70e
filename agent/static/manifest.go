package static

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"coracle/agent/pod"
)

// Kubernetes' annotations of pods that do not come from the API.
const (
	hashAnnotation = "kubernetes.io/config.hash"
	seenAnnotation = "kubernetes.io/config.seen"
)

// Parse reads one pod from YAML or JSON, as it is to run on the node: named after it, with a
// uid of its own and the defaults that the API would have filled in. path and seen, the file's
// time, are noted on it. PURE.
func Parse(data []byte, path, node string, seen time.Time) (*v1.Pod, error) {
	p := &v1.Pod{}
	if err := yaml.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("parse pod: %w", err)
	}
	if p.Kind != "Pod" || p.APIVersion != "v1" {
		return nil, fmt.Errorf("it describes kind %q of apiVersion %q; a file of this folder describes one Pod of v1", p.Kind, p.APIVersion)
	}
	if p.Name == "" {
		p.Name = p.GenerateName
	}
	name := strings.TrimSuffix(p.Name, "-") + "-" + strings.ToLower(node)
	*p = v1.Pod{
		TypeMeta: p.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: p.Namespace, UID: p.UID, Labels: p.Labels, Annotations: p.Annotations,
		},
		Spec:   p.Spec,
		Status: v1.PodStatus{Phase: v1.PodPending},
	}
	if p.Namespace == "" {
		p.Namespace = metav1.NamespaceDefault
	}
	p.Spec.NodeName = node
	if err := check(p); err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	fillIn(p)
	uid, err := uidOf(p, path)
	if err != nil {
		return nil, err
	}
	if p.UID == "" {
		p.UID = uid
	}
	p.ResourceVersion = string(uid)
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[pod.SourceAnnotation] = "file"
	p.Annotations[hashAnnotation] = string(p.UID)
	p.Annotations[seenAnnotation] = seen.UTC().Format(time.RFC3339Nano)
	p.CreationTimestamp = metav1.Time{Time: seen.Truncate(time.Second)}
	// No taint ends it: nobody but the file's owner does.
	p.Spec.Tolerations = append(p.Spec.Tolerations, v1.Toleration{Operator: v1.TolerationOpExists, Effect: v1.TaintEffectNoExecute})
	return p, nil
}

// uidOf makes a uid of the form that others have, from everything that makes the pod what it is.
func uidOf(p *v1.Pod, path string) (types.UID, error) {
	data, err := p.Marshal()
	if err != nil {
		return "", fmt.Errorf("encode pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "node:%s file:%s ", p.Spec.NodeName, path)
	h.Write(data)
	s := h.Sum(nil)
	return types.UID(fmt.Sprintf("%x-%x-%x-%x-%x", s[:4], s[4:6], s[6:8], s[8:10], s[10:16])), nil
}

// check refuses what cannot run: the API's validation does not see such pods before they do.
func check(p *v1.Pod) error {
	var errs []error
	for _, problem := range validation.IsDNS1123Subdomain(p.Name) {
		errs = append(errs, fmt.Errorf("metadata.name %q: %s", p.Name, problem))
	}
	for _, problem := range validation.IsDNS1123Label(p.Namespace) {
		errs = append(errs, fmt.Errorf("metadata.namespace %q: %s", p.Namespace, problem))
	}
	if len(p.Spec.Containers) == 0 {
		errs = append(errs, errors.New("spec.containers: there is none"))
	}
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, errors.New("spec.ephemeralContainers: a pod begins without any"))
	}
	seen := map[string]bool{}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			for _, problem := range validation.IsDNS1123Label(c.Name) {
				errs = append(errs, fmt.Errorf("container %q: name: %s", c.Name, problem))
			}
			if seen[c.Name] {
				errs = append(errs, fmt.Errorf("container %q: there are two of that name", c.Name))
			}
			seen[c.Name] = true
			if strings.TrimSpace(c.Image) == "" {
				errs = append(errs, fmt.Errorf("container %q: image is missing", c.Name))
			}
		}
	}
	return errors.Join(append(errs, checkReferences(p)...)...)
}

// checkReferences refuses references to objects of the API: the node has none but those of its
// assigned pods, and may not ask for others.
func checkReferences(p *v1.Pod) []error {
	var errs []error
	refuse := func(what string) {
		errs = append(errs, fmt.Errorf("%s: a pod from a file may not refer to objects of the API", what))
	}
	if p.Spec.ServiceAccountName != "" || p.Spec.DeprecatedServiceAccount != "" {
		refuse("spec.serviceAccountName")
	}
	if len(p.Spec.ImagePullSecrets) > 0 {
		refuse("spec.imagePullSecrets")
	}
	if len(p.Spec.ResourceClaims) > 0 {
		refuse("spec.resourceClaims")
	}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range list {
			for _, from := range c.EnvFrom {
				if from.ConfigMapRef != nil || from.SecretRef != nil {
					refuse("envFrom of container " + c.Name)
				}
			}
			for _, e := range c.Env {
				if f := e.ValueFrom; f != nil && (f.ConfigMapKeyRef != nil || f.SecretKeyRef != nil) {
					refuse("env " + e.Name + " of container " + c.Name)
				}
			}
		}
	}
	for _, v := range p.Spec.Volumes {
		s := v.VolumeSource
		if s.ConfigMap != nil || s.Secret != nil || s.PersistentVolumeClaim != nil || s.Ephemeral != nil ||
			s.CSI != nil && s.CSI.NodePublishSecretRef != nil || projectsObjects(s.Projected) {
			refuse("volume " + v.Name)
		}
	}
	return errs
}

func projectsObjects(p *v1.ProjectedVolumeSource) bool {
	if p == nil {
		return false
	}
	for _, s := range p.Sources {
		if s.ConfigMap != nil || s.Secret != nil || s.ServiceAccountToken != nil || s.ClusterTrustBundle != nil || s.PodCertificate != nil {
			return true
		}
	}
	return false
}

package volume

import (
	"errors"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// tokenFile is where a projected volume wants a service-account token.
type tokenFile struct {
	path    string
	mode    int32
	request TokenRequest
}

// content is all that a volume shows: files whose bytes are known, and tokens that are
// still to be asked for.
type content struct {
	files  Payload
	tokens []tokenFile
}

// ErrNotFound is behind the SetupError about a ConfigMap or Secret that the node does not have.
var ErrNotFound = errors.New("not found")

type missing struct{ kind, name string }

func (m missing) Error() string { return fmt.Sprintf("%s %q not found", m.kind, m.name) }
func (m missing) Unwrap() error { return ErrNotFound }

// contentOf decides what a volume of one of the four kinds shows.
func contentOf(r Request, vol *v1.Volume) (content, error) {
	c := content{files: Payload{}}
	var err error
	switch {
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		err = c.addConfigMap(r, s.Name, s.Items, mode(s.DefaultMode), isTrue(s.Optional))
	case vol.Secret != nil:
		s := vol.Secret
		err = c.addSecret(r, s.SecretName, s.Items, mode(s.DefaultMode), isTrue(s.Optional))
	case vol.DownwardAPI != nil:
		err = c.addDownward(r, vol.DownwardAPI.Items, mode(vol.DownwardAPI.DefaultMode))
	case vol.Projected != nil:
		err = c.addProjected(r, vol.Projected)
	}
	if err != nil {
		return content{}, err
	}
	if fsGroup(r.Pod) != nil {
		c.files.shareWithGroup()
	}
	return c, nil
}

func (c *content) addConfigMap(r Request, name string, items []v1.KeyToPath, m int32, optional bool) error {
	cm, ok := r.ConfigMap(r.Pod.Namespace, name)
	if !ok {
		if optional {
			return nil
		}
		return missing{"configmap", name}
	}
	p, err := configMapPayload(cm, items, m, optional)
	return c.add(p, err)
}

func (c *content) addSecret(r Request, name string, items []v1.KeyToPath, m int32, optional bool) error {
	s, ok := r.Secret(r.Pod.Namespace, name)
	if !ok {
		if optional {
			return nil
		}
		return missing{"secret", name}
	}
	p, err := secretPayload(s, items, m, optional)
	return c.add(p, err)
}

func (c *content) addDownward(r Request, items []v1.DownwardAPIVolumeFile, m int32) error {
	p, err := downwardPayload(r.Pod, items, m, r.Allocatable)
	return c.add(p, err)
}

// add lays files over those of earlier sources: the last one wins, as the API documents.
func (c *content) add(p Payload, err error) error {
	if err != nil {
		return err
	}
	for name, f := range p {
		c.files[name] = f
	}
	return nil
}

// addProjected joins the sources and tells of every one that cannot be had.
func (c *content) addProjected(r Request, src *v1.ProjectedVolumeSource) error {
	m := mode(src.DefaultMode)
	var errs []error
	for _, s := range src.Sources {
		var err error
		switch {
		case s.ConfigMap != nil:
			err = c.addConfigMap(r, s.ConfigMap.Name, s.ConfigMap.Items, m, isTrue(s.ConfigMap.Optional))
		case s.Secret != nil:
			err = c.addSecret(r, s.Secret.Name, s.Secret.Items, m, isTrue(s.Secret.Optional))
		case s.DownwardAPI != nil:
			err = c.addDownward(r, s.DownwardAPI.Items, m)
		case s.ServiceAccountToken != nil:
			err = c.addToken(r, s.ServiceAccountToken, m)
		case s.ClusterTrustBundle != nil:
			err = c.addTrustBundle(s.ClusterTrustBundle, m)
		case s.PodCertificate != nil:
			err = fmt.Errorf("%w: podCertificate (this control plane issues none)", ErrUnsupported)
		default:
			err = errors.New("a projected source names none of its kinds")
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	return severalErrors(errs)
}

// severalErrors are told in one line, as in an event.
type severalErrors []error

func (s severalErrors) Error() string {
	texts := make([]string, len(s))
	for i, err := range s {
		texts[i] = err.Error()
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func (s severalErrors) Unwrap() []error { return s }

// addTrustBundle shows an optional bundle as an empty file: a node is given no ClusterTrustBundles.
func (c *content) addTrustBundle(src *v1.ClusterTrustBundleProjection, m int32) error {
	if isTrue(src.Optional) {
		return c.files.put(src.Path, File{Mode: m})
	}
	which := "signer"
	if src.Name != nil {
		which = *src.Name
	} else if src.SignerName != nil {
		which = *src.SignerName
	}
	return fmt.Errorf("%w: clusterTrustBundle %q (this control plane serves none)", ErrUnsupported, which)
}

const (
	// defaultTokenSeconds is the API's default life of a projected token.
	defaultTokenSeconds = 3600
	tokenMode           = 0o600
)

func (c *content) addToken(r Request, src *v1.ServiceAccountTokenProjection, m int32) error {
	probe := Payload{}
	if err := probe.put(src.Path, File{}); err != nil {
		return err
	}
	var clean string
	for clean = range probe {
	}
	t := tokenFile{path: clean, mode: m, request: TokenRequest{
		Namespace: r.Pod.Namespace, ServiceAccount: r.Pod.Spec.ServiceAccountName,
		PodName: r.Pod.Name, PodUID: r.Pod.UID, ExpirationSeconds: defaultTokenSeconds,
	}}
	if t.request.ServiceAccount == "" {
		t.request.ServiceAccount = "default"
	}
	if src.Audience != "" {
		t.request.Audiences = []string{src.Audience}
	}
	if src.ExpirationSeconds != nil {
		t.request.ExpirationSeconds = *src.ExpirationSeconds
	}
	// A token is narrower than the volume's mode where it is known who reads it.
	if fsGroup(r.Pod) != nil || onlyUser(r.Pod) != nil {
		t.mode = tokenMode
	}
	c.tokens = append(c.tokens, t)
	return nil
}

// file is the token as a file of the volume.
func (t tokenFile) file(pod *v1.Pod, token string) File {
	f := File{Data: []byte(token), Mode: t.mode}
	if fsGroup(pod) != nil {
		f.Mode |= 0o440
	} else {
		f.UID = onlyUser(pod)
	}
	return f
}

func fsGroup(pod *v1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

// onlyUser is the user that every container runs as, when that is one and the same.
func onlyUser(pod *v1.Pod) *int64 {
	var podUser *int64
	if pod.Spec.SecurityContext != nil {
		podUser = pod.Spec.SecurityContext.RunAsUser
	}
	var only *int64
	same := true
	note := func(sc *v1.SecurityContext) {
		user := podUser
		if sc != nil && sc.RunAsUser != nil {
			user = sc.RunAsUser
		}
		if user == nil || (only != nil && *only != *user) {
			same = false
			return
		}
		only = user
	}
	for i := range pod.Spec.InitContainers {
		note(pod.Spec.InitContainers[i].SecurityContext)
	}
	for i := range pod.Spec.Containers {
		note(pod.Spec.Containers[i].SecurityContext)
	}
	for i := range pod.Spec.EphemeralContainers {
		note(pod.Spec.EphemeralContainers[i].SecurityContext)
	}
	if !same {
		return nil
	}
	return only
}

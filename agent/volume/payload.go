package volume

import (
	"fmt"
	"path"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// File is one file to be shown in a volume.
type File struct {
	Data []byte
	Mode int32 // permission bits
	// UID owns the file; nil: root.
	UID *int64
}

// Payload is the whole content of a volume: relative, clean path → file.
type Payload map[string]File

// The permission bits of files where the source does not say.
const defaultMode int32 = 0o644

// configMapPayload is the content that a ConfigMap gives. items nil means every key.
func configMapPayload(cm *v1.ConfigMap, items []v1.KeyToPath, mode int32, optional bool) (Payload, error) {
	all := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, s := range cm.Data {
		all[k] = []byte(s)
	}
	for k, b := range cm.BinaryData {
		all[k] = b
	}
	return keys(all, items, mode, optional, "configmap references non-existent config key: %s")
}

// secretPayload is the content that a Secret gives.
func secretPayload(s *v1.Secret, items []v1.KeyToPath, mode int32, optional bool) (Payload, error) {
	return keys(s.Data, items, mode, optional, "references non-existent secret key: %s")
}

func keys(all map[string][]byte, items []v1.KeyToPath, mode int32, optional bool, missing string) (Payload, error) {
	out := Payload{}
	if len(items) == 0 {
		for k, data := range all {
			if err := out.put(k, File{Data: data, Mode: mode}); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	for _, item := range items {
		data, ok := all[item.Key]
		if !ok {
			if optional {
				continue
			}
			return nil, fmt.Errorf(missing, item.Key)
		}
		m := mode
		if item.Mode != nil {
			m = *item.Mode
		}
		if err := out.put(item.Path, File{Data: data, Mode: m}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// put refuses paths that lead out of the volume or into the names that the swap uses. The API
// refuses them too; here it is what keeps a node safe from an API that did not.
func (p Payload) put(name string, f File) error {
	clean := path.Clean(name)
	switch {
	case name == "" || clean == ".":
		return fmt.Errorf("path %q of a volume's file is empty", name)
	case path.IsAbs(name):
		return fmt.Errorf("path %q of a volume's file is absolute", name)
	case len(name) > 4096:
		return fmt.Errorf("path of a volume's file is longer than 4096 bytes")
	case strings.HasPrefix(clean, ".."):
		return fmt.Errorf("path %q of a volume's file starts with two dots", name)
	}
	for _, part := range strings.Split(clean, "/") {
		if len(part) > 255 || strings.ContainsRune(part, 0) {
			return fmt.Errorf("path %q of a volume's file is not one", name)
		}
	}
	f.Mode &= 0o7777
	p[clean] = f
	return nil
}

// shareWithGroup lets the pod's fsGroup read what root may read.
func (p Payload) shareWithGroup() {
	for name, f := range p {
		f.Mode |= 0o440
		p[name] = f
	}
}

// conflict finds a file that would have to be a folder too.
func (p Payload) conflict() error {
	for name := range p {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := p[dir]; ok {
				return fmt.Errorf("%q would have to be a file and a folder, because of %q", dir, name)
			}
		}
	}
	return nil
}

func mode(m *int32) int32 {
	if m == nil {
		return defaultMode
	}
	return *m
}

func isTrue(b *bool) bool { return b != nil && *b }

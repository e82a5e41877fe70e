package image

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"coracle/internal/fault"
)

// providerFile is a CredentialProviderConfig, the file that kubelet takes with --image-credential-provider-config.
type providerFile struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Providers  []providerSpec `json:"providers"`
}

type providerSpec struct {
	Name                 string           `json:"name"` // of the program
	MatchImages          []string         `json:"matchImages"`
	DefaultCacheDuration *metav1.Duration `json:"defaultCacheDuration"`
	APIVersion           string           `json:"apiVersion"`
	Args                 []string         `json:"args,omitempty"`
	Env                  []providerEnv    `json:"env,omitempty"`
	TokenAttributes      map[string]any   `json:"tokenAttributes,omitempty"`
}

type providerEnv struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

var (
	providerFileVersions = []string{"kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"}
	providerVersions     = []string{"credentialprovider.kubelet.k8s.io/v1", "credentialprovider.kubelet.k8s.io/v1beta1", "credentialprovider.kubelet.k8s.io/v1alpha1"}
)

// readProviders reads one file, or all files of a folder in the order of their names. Every error is of class Invalid and
// names the file.
func readProviders(at string) ([]providerSpec, error) {
	files := []string{at}
	if info, err := os.Stat(at); err == nil && info.IsDir() {
		files = nil
		entries, err := os.ReadDir(at)
		if err != nil {
			return nil, fmt.Errorf("read credential providers: %w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
				files = append(files, filepath.Join(at, e.Name()))
			}
		}
	}
	var out []providerSpec
	seen := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read credential providers: %w", err)
		}
		list, err := parseProviders(data)
		if err != nil {
			return nil, fault.As(fault.ErrInvalid, fmt.Errorf("credential providers in %s: %w", file, err))
		}
		for _, p := range list {
			if other := seen[p.Name]; other != "" {
				return nil, fault.Invalid(fmt.Sprintf("credential provider %s is in %s and in %s", p.Name, other, file))
			}
			seen[p.Name] = file
		}
		out = append(out, list...)
	}
	if len(out) == 0 {
		return nil, fault.Invalid(fmt.Sprintf("%s names no credential provider", at))
	}
	return out, nil
}

// parseProviders reads and checks one file.
func parseProviders(data []byte) ([]providerSpec, error) {
	var file providerFile
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return nil, err
	}
	if file.Kind != "CredentialProviderConfig" || !slices.Contains(providerFileVersions, file.APIVersion) {
		return nil, fmt.Errorf("is a %q of %q, want a CredentialProviderConfig of %s", file.Kind, file.APIVersion, providerFileVersions[0])
	}
	var errs []error
	for i := range file.Providers {
		p := &file.Providers[i]
		if err := p.check(); err != nil {
			errs = append(errs, fmt.Errorf("provider %q: %w", p.Name, err))
		}
		if slices.ContainsFunc(file.Providers[:i], func(other providerSpec) bool { return other.Name == p.Name }) {
			errs = append(errs, fmt.Errorf("provider %q is there twice", p.Name))
		}
	}
	return file.Providers, errors.Join(errs...)
}

func (p *providerSpec) check() error {
	var errs []error
	if p.Name == "" || p.Name == "." || p.Name == ".." || strings.ContainsAny(p.Name, "/ ") {
		errs = append(errs, errors.New("name must be that of a program, without slash or space"))
	}
	if !slices.Contains(providerVersions, p.APIVersion) {
		errs = append(errs, fmt.Errorf("apiVersion must be one of %s, not %q", strings.Join(providerVersions, ", "), p.APIVersion))
	}
	if p.DefaultCacheDuration == nil || p.DefaultCacheDuration.Duration < 0 {
		errs = append(errs, errors.New("defaultCacheDuration must be given, and not be negative"))
	}
	if len(p.MatchImages) == 0 {
		errs = append(errs, errors.New("matchImages must name at least one pattern"))
	}
	for _, m := range p.MatchImages {
		if err := checkPattern(m); err != nil {
			errs = append(errs, fmt.Errorf("matchImages %q: %w", m, err))
		}
	}
	if p.TokenAttributes != nil {
		errs = append(errs, errors.New("tokenAttributes are not supported: this agent gives service-account tokens to pods alone"))
	}
	return errors.Join(errs...)
}

func checkPattern(pattern string) error {
	if strings.Contains(pattern, "://") {
		return errors.New("must not begin with a scheme")
	}
	u, err := url.Parse("https://" + pattern)
	if err != nil {
		return err
	}
	if u.Hostname() == "" {
		return errors.New("has no host")
	}
	_, err = path.Match(u.Hostname(), "")
	return err
}

// programOf is the path of a provider's program, which must be there.
func programOf(dir, name string) (string, error) {
	file := filepath.Join(dir, name)
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fault.Invalid(fmt.Sprintf("credential provider %s: there is no program %s; install it or take the provider out of the configuration", name, file))
	case err != nil:
		return "", fmt.Errorf("credential provider %s: %w", name, err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return "", fault.Invalid(fmt.Sprintf("credential provider %s: %s is not a program", name, file))
	}
	return file, nil
}

func (p *providerSpec) defaultCache() time.Duration { return p.DefaultCacheDuration.Duration }

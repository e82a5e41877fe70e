package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"coracle/internal/fault"
)

// Credential is one entry of a pull secret.
type Credential struct {
	Registry      string // pattern as written: "registry.example:5000/team", "*.example.org", "https://index.docker.io/v1/"
	Username      string
	Password      string
	Auth          string // base64 of "user:password", where the two are not given
	IdentityToken string
}

type dockerConfigEntry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// ParseDockerConfig reads a secret of type kubernetes.io/dockerconfigjson or
// kubernetes.io/dockercfg. Entries come sorted by registry. Errors are of class Invalid and
// never hold the secret's content.
func ParseDockerConfig(secret *v1.Secret) ([]Credential, error) {
	switch secret.Type {
	case v1.SecretTypeDockerConfigJson:
		return parseDockerConfig(secret.Data[v1.DockerConfigJsonKey], true)
	case v1.SecretTypeDockercfg:
		return parseDockerConfig(secret.Data[v1.DockerConfigKey], false)
	}
	return nil, fault.As(fault.ErrInvalid, fmt.Errorf("secret %s/%s has type %q, want %s or %s",
		secret.Namespace, secret.Name, secret.Type, v1.SecretTypeDockerConfigJson, v1.SecretTypeDockercfg))
}

func parseDockerConfig(data []byte, nested bool) ([]Credential, error) {
	var entries map[string]dockerConfigEntry
	var err error
	if nested {
		var doc struct {
			Auths map[string]dockerConfigEntry `json:"auths"`
		}
		err = json.Unmarshal(data, &doc)
		entries = doc.Auths
	} else {
		err = json.Unmarshal(data, &entries)
	}
	if err != nil {
		// The decoder's own words may quote what it read.
		return nil, fault.Invalid("docker configuration is not the JSON object it should be")
	}
	var out []Credential
	for registry, e := range entries {
		c := Credential{Registry: registry, Username: e.Username, Password: e.Password, Auth: e.Auth, IdentityToken: e.IdentityToken}
		if _, _, err := c.login(); err != nil {
			return nil, fault.As(fault.ErrInvalid, fmt.Errorf("docker configuration: entry %q: %w", registry, err))
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Credential) int { return strings.Compare(a.Registry, b.Registry) })
	return out, nil
}

// readLoginFile reads a docker config.json of the machine; none where there is no such file.
func readLoginFile(file string) ([]Credential, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's credentials: %w", err)
	}
	list, err := parseDockerConfig(data, true)
	if err != nil {
		return nil, fmt.Errorf("read the node's credentials in %s: %w", file, err)
	}
	return list, nil
}

// login gives what containerd's authorizer takes: an identity token has no user name.
func (c Credential) login() (user, secret string, err error) {
	if c.IdentityToken != "" {
		return "", c.IdentityToken, nil
	}
	if c.Username != "" || c.Password != "" {
		return c.Username, c.Password, nil
	}
	if c.Auth == "" {
		return "", "", nil
	}
	// Some tools write the padding, some do not.
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(c.Auth), "="))
	if err != nil {
		return "", "", errors.New("auth is not base64")
	}
	user, secret, ok := strings.Cut(string(raw), ":")
	if !ok {
		return "", "", errors.New("auth does not hold user:password")
	}
	return user, strings.TrimRight(secret, "\x00"), nil
}

// matching picks the credentials for a normalised image name: the most specific pattern first,
// as Kubernetes documents it for image pull secrets.
func matching(all []Credential, name string) []Credential {
	var out []Credential
	for _, c := range all {
		if matches(c.Registry, name) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b Credential) int {
		return strings.Compare(canonical(b.Registry), canonical(a.Registry))
	})
	return out
}

// canonical is the pattern without scheme and without the API path of old docker logins.
func canonical(registry string) string {
	p := registry
	if _, rest, ok := strings.Cut(p, "://"); ok {
		p = rest
	}
	host, rest, _ := strings.Cut(p, "/")
	rest = strings.TrimSuffix(rest, "/")
	switch rest {
	case "v1", "v2":
		rest = ""
	default:
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "v1/"), "v2/")
	}
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = "docker.io"
	}
	if rest == "" {
		return host
	}
	return host + "/" + rest
}

// matches reports whether a pattern covers an image. Host names match label by label, a label
// may hold wildcards; ports must be equal; a path must be a prefix of the image's.
func matches(registry, name string) bool {
	if registry == "" {
		return false
	}
	pattern, err := url.Parse("https://" + canonical(registry))
	if err != nil {
		return false
	}
	target, err := url.Parse("https://" + name)
	if err != nil {
		return false
	}
	pHost, pPort := splitPort(pattern.Host)
	tHost, tPort := splitPort(target.Host)
	if pPort != tPort || !strings.HasPrefix(target.Path, pattern.Path) {
		return false
	}
	pLabels, tLabels := strings.Split(pHost, "."), strings.Split(tHost, ".")
	if len(pLabels) != len(tLabels) {
		return false
	}
	for i, label := range pLabels {
		if ok, err := path.Match(label, tLabels[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

func splitPort(hostport string) (host, port string) {
	if h, p, err := net.SplitHostPort(hostport); err == nil {
		return h, p
	}
	return hostport, ""
}

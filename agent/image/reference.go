package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"

	"coracle/internal/fault"
)

// Normalize turns the name in a pod spec into the full one that containerd stores:
// "nginx" is "docker.io/library/nginx:latest". Where a name has both tag and digest the tag is
// left out, as the digest decides. The error is of class Invalid and has reason InvalidImageName.
func Normalize(ref string) (string, error) {
	named, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", &Error{
			Ref: ref, Reason: ReasonInvalidName,
			Err: fault.As(fault.ErrInvalid, fmt.Errorf("couldn't parse image name %q: %w", ref, err)),
		}
	}
	return named.String(), nil
}

// repoDigest is the name under which kubectl shows what exactly runs.
func repoDigest(name, digest string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	return named.Name() + "@" + digest
}

// registryHost is the host part of a normalised name.
func registryHost(name string) string {
	host, _, _ := strings.Cut(name, "/")
	return host
}

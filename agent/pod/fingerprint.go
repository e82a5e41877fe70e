package pod

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// fingerprintVersion names the fields that go into a fingerprint. A container with another
// version was made by another release of the agent and is left running, whatever it says.
const fingerprintVersion = "v1:"

// Fingerprint covers those fields of a container that may change in a running pod and
// need a new attempt when they do: its name and its image.
func Fingerprint(c *v1.Container) string {
	h := sha256.New()
	for _, s := range []string{"name", c.Name, "image", c.Image} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return fingerprintVersion + hex.EncodeToString(h.Sum(nil)[:8])
}

// changed says that c was made from another definition than the present one.
func changed(u *unit, c *Container) bool {
	return strings.HasPrefix(c.Fingerprint, fingerprintVersion) && c.Fingerprint != Fingerprint(u.spec)
}

// sortSteps orders steps on containers by name and attempt, so that a plan does not depend
// on the order in which containers were observed.
func sortSteps(steps []Step) {
	key := func(s Step) (string, int) {
		switch s := s.(type) {
		case RemoveContainer:
			return s.Name, s.Attempt
		case SignalContainer:
			return s.Name + "\x00" + s.ID, 0
		}
		return "", 0
	}
	slices.SortStableFunc(steps, func(a, b Step) int {
		an, aa := key(a)
		bn, ba := key(b)
		return cmp.Or(cmp.Compare(an, bn), cmp.Compare(aa, ba))
	})
}

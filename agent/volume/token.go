package volume

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"time"
)

// placedToken is a token that is in a volume. How long it lives is read from the token itself,
// so that an agent that was just started knows when it is due.
type placedToken struct {
	text            string
	issued, expires time.Time
}

// maxTokenAge renews tokens with a long life too, so that a key that was rotated is out of use in a day.
const maxTokenAge = 24 * time.Hour

// due is when the token is to be replaced. ok is false when that cannot be told.
func (t placedToken) due() (at time.Time, ok bool) {
	if t.text == "" || t.issued.IsZero() || !t.expires.After(t.issued) {
		return time.Time{}, false
	}
	return refreshAt(t.issued, t.expires.Sub(t.issued)), true
}

// refreshAt is 80 % into a life.
func refreshAt(issued time.Time, life time.Duration) time.Time {
	return issued.Add(min(life*8/10, maxTokenAge))
}

func readToken(path string) placedToken {
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return placedToken{}
	}
	t := parseToken(string(data))
	t.text = string(data)
	return t
}

// parseToken reads the times from a JWT's claims. It checks no signature: who accepts the token does.
func parseToken(text string) placedToken {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return placedToken{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return placedToken{}
	}
	var claims struct {
		IssuedAt float64 `json:"iat"`
		Expires  float64 `json:"exp"`
	}
	const lastSecond = 1 << 40 // of a time that can be computed with
	if json.Unmarshal(raw, &claims) != nil || claims.IssuedAt <= 0 || claims.Expires <= 0 || claims.Expires > lastSecond {
		return placedToken{}
	}
	return placedToken{text: text, issued: time.Unix(int64(claims.IssuedAt), 0), expires: time.Unix(int64(claims.Expires), 0)}
}

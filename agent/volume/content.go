package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
)

// tokenRetry is how long after a failure a token is asked for again. The one in place is
// good for a fifth of its life more.
const tokenRetry = time.Minute

// ensureContent shows objects and fields as files.
func (v *Volumes) ensureContent(ctx context.Context, r Request, vol *v1.Volume, result *Result) (string, error) {
	var dir string
	var memory bool
	switch {
	case vol.ConfigMap != nil:
		dir = v.volumeDir(r.Pod.UID, "configmap", vol.Name)
	case vol.Secret != nil:
		dir, memory = v.volumeDir(r.Pod.UID, "secret", vol.Name), true
	case vol.DownwardAPI != nil:
		dir, memory = v.volumeDir(r.Pod.UID, "downward-api", vol.Name), true
	default:
		dir, memory = v.volumeDir(r.Pod.UID, "projected", vol.Name), true
	}
	c, err := contentOf(r, vol)
	if err == nil {
		err = v.addTokens(ctx, r, dir, &c, result)
	}
	if err == nil {
		err = c.files.conflict()
	}
	if err != nil {
		if written(dir) {
			result.Warnings = append(result.Warnings, &SetupError{Volume: vol.Name, Err: err})
			return dir, nil
		}
		return "", err
	}
	if memory {
		err = ensureTmpfs(dir, 0)
	} else {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return "", err
	}
	group := fsGroup(r.Pod)
	perm := os.FileMode(0o777)
	if group != nil {
		perm |= os.ModeSetgid
	}
	if err := own(dir, perm, group); err != nil {
		return "", err
	}
	if err := swap(dir, c.files, group, v.now()); err != nil {
		return "", fmt.Errorf("write files: %w", err)
	}
	return dir, nil
}

// written says whether the volume has shown content before.
func written(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, dataName))
	return err == nil
}

// addTokens keeps the tokens that are in place and asks for those that are due.
func (v *Volumes) addTokens(ctx context.Context, r Request, dir string, c *content, result *Result) error {
	for _, t := range c.tokens {
		now := v.now()
		have := readToken(filepath.Join(dir, dataName, t.path))
		due, ok := have.due()
		if !ok || !now.Before(due) {
			got, err := r.Token(ctx, t.request)
			switch {
			case err == nil:
				have = parseToken(got.Token)
				have.text = got.Token
				due = refreshAt(now, got.Expires.Sub(now))
				if at, ok := have.due(); ok && at.After(now) {
					due = at
				}
			case have.text == "":
				return fmt.Errorf("fetch token for service account %s/%s: %w", t.request.Namespace, t.request.ServiceAccount, err)
			default:
				result.Warnings = append(result.Warnings, fmt.Errorf("renew token for service account %s/%s: %w", t.request.Namespace, t.request.ServiceAccount, err))
				due = now.Add(tokenRetry)
			}
		}
		if !due.After(now) {
			due = now.Add(tokenRetry) // a clock that is far off must not make a busy loop
		}
		if result.RefreshAt.IsZero() || due.Before(result.RefreshAt) {
			result.RefreshAt = due
		}
		c.files[t.path] = t.file(r.Pod, have.text)
	}
	return nil
}

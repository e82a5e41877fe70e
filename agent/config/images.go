package config

import (
	"path/filepath"
	"time"
)

// ImageTimes are the durations of Images.
type ImageTimes struct{ MinAge, MaxAge, Period time.Duration }

// Times parses the durations; an empty one is 0.
func (i *Images) Times() (t ImageTimes, field string, err error) {
	for _, f := range []struct {
		name, text string
		to         *time.Duration
	}{
		{"images.minimumGCAge", i.MinimumGCAge, &t.MinAge},
		{"images.maximumGCAge", i.MaximumGCAge, &t.MaxAge},
		{"images.gcPeriod", i.GCPeriod, &t.Period},
	} {
		if f.text == "" || f.text == "0" {
			continue
		}
		if *f.to, err = time.ParseDuration(f.text); err != nil {
			return t, f.name, err
		}
	}
	return t, "", nil
}

func (c *Config) validateImages(fail func(string, string, ...any)) {
	i := c.Images
	if i.MaxParallelPulls < 1 {
		fail("images.maxParallelPulls", "must be at least 1, not %d", i.MaxParallelPulls)
	}
	if i.GCHighThresholdPercent < 1 || i.GCHighThresholdPercent > 100 {
		fail("images.gcHighThresholdPercent", "must be between 1 and 100, not %d", i.GCHighThresholdPercent)
	}
	if i.GCLowThresholdPercent < 0 || i.GCLowThresholdPercent >= i.GCHighThresholdPercent {
		fail("images.gcLowThresholdPercent", "must be at least 0 and below gcHighThresholdPercent, %d, not %d", i.GCHighThresholdPercent, i.GCLowThresholdPercent)
	}
	t, field, err := i.Times()
	switch {
	case err != nil:
		fail(field, "must be a duration such as 2m: %s", err)
	case t.MinAge < 0 || t.MaxAge < 0:
		fail("images", "ages must not be negative, and are %s and %s", i.MinimumGCAge, i.MaximumGCAge)
	case t.MaxAge > 0 && t.MaxAge <= t.MinAge:
		fail("images.maximumGCAge", "must be longer than minimumGCAge, %s, not %s", i.MinimumGCAge, i.MaximumGCAge)
	case t.Period < time.Second:
		fail("images.gcPeriod", "must be at least 1s, not %q", i.GCPeriod)
	}
	if (i.CredentialProviderConfig == "") != (i.CredentialProviderBinDir == "") {
		fail("images", "credentialProviderConfig and credentialProviderBinDir go together: one is %q, the other %q", i.CredentialProviderConfig, i.CredentialProviderBinDir)
	}
	for field, p := range map[string]string{
		"images.credentialProviderConfig": i.CredentialProviderConfig, "images.credentialProviderBinDir": i.CredentialProviderBinDir,
	} {
		if p != "" && !filepath.IsAbs(p) {
			fail(field, "must be an absolute path, not %q", p)
		}
	}
}

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/sync/singleflight"
)

const (
	// providerTimeout bounds one run of a provider, as kubelet does.
	providerTimeout = time.Minute
	// providerHang is how long a provider's own children may keep its output open after its end.
	providerHang = 5 * time.Second
	// maxAnswer bounds what a provider may say, in bytes.
	maxAnswer = 1 << 20
)

// Providers ask programs on the machine for registries' credentials, by kubelet's protocol for credential provider plugins.
// Answers are kept in memory for as long as they say. Safe for concurrent use; nil gives none.
type Providers struct {
	list    []*provider
	log     *slog.Logger
	now     func() time.Time
	timeout time.Duration
	running singleflight.Group // one run of a program for an image at a time

	mu    sync.Mutex
	cache map[string]cachedAnswer
	told  map[string]string // the error of each program that was logged last
}

type provider struct {
	providerSpec
	program string
}

type cachedAnswer struct {
	credentials []Credential
	until       time.Time
}

// LoadProviders reads a CredentialProviderConfig file, or a folder of them, whose programs are in dir. Errors are of class
// Invalid where the files are wrong.
func LoadProviders(config, dir string, log *slog.Logger) (*Providers, error) {
	specs, err := readProviders(config)
	if err != nil {
		return nil, err
	}
	p := &Providers{log: log, now: time.Now, timeout: providerTimeout, cache: map[string]cachedAnswer{}, told: map[string]string{}}
	for _, spec := range specs {
		program, err := programOf(dir, spec.Name)
		if err != nil {
			return nil, err
		}
		p.list = append(p.list, &provider{providerSpec: spec, program: program})
	}
	return p, nil
}

// credentials are those of all providers that are asked for an image of this normalised name, in the order of the
// configuration. What could be had is returned beside the error.
func (p *Providers) credentials(ctx context.Context, name string) ([]Credential, error) {
	if p == nil {
		return nil, nil
	}
	repository := repositoryOf(name)
	var out []Credential
	var errs []error
	for _, one := range p.list {
		if !slices.ContainsFunc(one.MatchImages, func(pattern string) bool { return matches(pattern, repository) }) {
			continue
		}
		creds, err := p.ask(ctx, one, repository)
		p.tell(one.Name, err)
		if err != nil {
			errs = append(errs, fmt.Errorf("credential provider %s: %w", one.Name, err))
			continue
		}
		out = append(out, matching(creds, repository)...)
	}
	return out, errors.Join(errs...)
}

// repositoryOf is a normalised name without tag and digest.
func repositoryOf(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return named.Name()
}

// tell logs each change of a provider's error.
func (p *Providers) tell(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || errors.Is(err, context.Canceled) {
		delete(p.told, name)
		return
	}
	if text := err.Error(); p.told[name] != text {
		p.told[name] = text
		p.log.Warn("credential provider gives nothing", "provider", name, "err", err)
	}
}

func (p *Providers) ask(ctx context.Context, one *provider, repository string) ([]Credential, error) {
	if creds, ok := p.cached(one.Name, repository); ok {
		return creds, nil
	}
	// Whoever waits with others must not lose the answer because the first of them gave up.
	run := p.running.DoChan(one.Name+" "+repository, func() (any, error) {
		answer, err := p.run(context.WithoutCancel(ctx), one, repository)
		if err != nil {
			return nil, err
		}
		p.keep(one, repository, answer)
		return answer.credentials, nil
	})
	select {
	case r := <-run:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]Credential), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cacheKeys are where an answer may be found, the closest first.
func cacheKeys(program, repository string) map[string]string {
	return map[string]string{
		scopeImage: program + " image " + repository, scopeRegistry: program + " registry " + registryHost(repository), scopeGlobal: program + " global",
	}
}

func (p *Providers) cached(program, repository string) ([]Credential, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	keys := cacheKeys(program, repository)
	for _, scope := range []string{scopeImage, scopeRegistry, scopeGlobal} {
		if c, ok := p.cache[keys[scope]]; ok && now.Before(c.until) {
			return c.credentials, true
		}
	}
	return nil, false
}

func (p *Providers) keep(one *provider, repository string, a providerAnswer) {
	d := one.defaultCache()
	if a.cache != nil {
		d = *a.cache
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	maps.DeleteFunc(p.cache, func(_ string, c cachedAnswer) bool { return !now.Before(c.until) })
	if d > 0 {
		p.cache[cacheKeys(one.Name, repository)[a.scope]] = cachedAnswer{credentials: a.credentials, until: now.Add(d)}
	}
}

// run asks the program once. Its standard error goes into the error, its output never does.
func (p *Providers) run(ctx context.Context, one *provider, repository string) (providerAnswer, error) {
	request, err := providerRequest(one.APIVersion, repository)
	if err != nil {
		return providerAnswer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, one.program, one.Args...)
	cmd.WaitDelay = providerHang
	cmd.Env = os.Environ()
	for _, e := range one.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	said, complained := &bounded{limit: maxAnswer}, &bounded{limit: 1024}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), said, complained
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return providerAnswer{}, fmt.Errorf("%s gave no answer for %s within %s", one.program, repository, p.timeout)
	case err != nil:
		text := strings.TrimSpace(string(complained.kept))
		if text != "" {
			text = ": " + text
		}
		return providerAnswer{}, fmt.Errorf("run %s for %s: %w%s", one.program, repository, err, text)
	case said.over:
		return providerAnswer{}, fmt.Errorf("%s answered with more than %d bytes for %s", one.program, maxAnswer, repository)
	}
	answer, err := parseAnswer(said.kept, one.APIVersion)
	if err != nil {
		return providerAnswer{}, fmt.Errorf("run %s for %s: %w", one.program, repository, err)
	}
	return answer, nil
}

// bounded keeps the first bytes of what is written, and takes all.
type bounded struct {
	kept  []byte
	limit int
	over  bool
}

func (b *bounded) Write(data []byte) (int, error) {
	room := b.limit - len(b.kept)
	b.over = b.over || len(data) > room
	b.kept = append(b.kept, data[:min(len(data), room)]...)
	return len(data), nil
}

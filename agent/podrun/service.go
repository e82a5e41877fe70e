package podrun

import (
	"sync"

	v1 "k8s.io/api/core/v1"
)

// serviceCache keeps the decoded services between container starts, until one changes.
type serviceCache struct {
	mu    sync.Mutex
	valid bool
	list  []*v1.Service
}

func (c *serviceCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.valid, c.list = false, nil
}

// of returns the services that variables are made of for a pod in this namespace.
func (c *serviceCache) of(s Store) []*v1.Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.valid {
		c.list, c.valid = s.Services(), true
	}
	return c.list
}

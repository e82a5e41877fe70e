package podrun

import (
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	nodeapi "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"coracle/agent/pod"
	"coracle/agent/store"
)

type memStore struct {
	mu         sync.Mutex
	pods       map[types.UID]*v1.Pod
	unreadable []types.UID // held, but cannot be decoded
	configMaps map[string]*v1.ConfigMap
	classes    map[string]*nodeapi.RuntimeClass
	complete   bool
	// filesUnread: the pods of the node's own files are not all known.
	filesUnread bool
	facts       map[string][]byte
	puts        int
	putFails    error
	watchers    map[<-chan store.Change]chan store.Change
}

func (s *memStore) Pods() []*v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.pods))
}

func (s *memStore) Pod(uid types.UID) (*v1.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pods[uid]
	return p.DeepCopy(), ok
}

func (s *memStore) Objects(string) []store.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []store.Object
	for uid, p := range s.pods {
		out = append(out, store.Object{Kind: store.KindPod, Namespace: p.Namespace, Name: p.Name, UID: string(uid), Local: pod.Static(p) && !isMirror(p)})
	}
	for _, uid := range s.unreadable {
		out = append(out, store.Object{Kind: store.KindPod, UID: string(uid)})
	}
	return out
}

func (s *memStore) ConfigMap(_, name string) (*v1.ConfigMap, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cm, ok := s.configMaps[name]
	return cm, ok
}
func (s *memStore) Secret(_, _ string) (*v1.Secret, bool) { return nil, false }
func (s *memStore) RuntimeClass(name string) (*nodeapi.RuntimeClass, bool) {
	c, ok := s.classes[name]
	return c, ok
}
func (s *memStore) Services() []*v1.Service { return nil }
func (s *memStore) Complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}

func (s *memStore) LocalWhole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.filesUnread
}

func (s *memStore) Watch() <-chan store.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan store.Change, 1024)
	s.watchers[c] = c
	return c
}

func (s *memStore) Unwatch(c <-chan store.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, c)
}

func (s *memStore) change(c store.Change, apply func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	apply()
	for _, w := range s.watchers {
		w <- c
	}
}

func (s *memStore) assign(p *v1.Pod) {
	s.change(store.Change{Kind: store.KindPod, Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)}, func() { s.pods[p.UID] = p })
}

func (s *memStore) remove(uid types.UID) {
	s.change(store.Change{Kind: store.KindPod, UID: string(uid), Removed: true}, func() { delete(s.pods, uid) })
}

func (s *memStore) setComplete() {
	s.change(store.Change{Completed: true}, func() { s.complete = true })
}

// userDeletes marks the pod as the API server does.
func (s *memStore) userDeletes(uid types.UID, grace int64) {
	p := s.pods[uid].DeepCopy()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Now().Add(time.Duration(grace) * time.Second)}, &grace
	p.ResourceVersion += "d"
	s.assign(p)
}

func (s *memStore) PutFact(_, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putFails != nil {
		return s.putFails
	}
	s.puts++
	s.facts[key] = slices.Clone(value)
	return nil
}

func (s *memStore) Fact(_, key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.facts[key]
	return v, ok
}

func (s *memStore) Facts(string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.facts)
}

func (s *memStore) DeleteFact(_ string, keys ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.facts, k)
	}
	return nil
}

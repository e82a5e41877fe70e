// Package static brings the pods to the node that its own files describe: each file of a folder
// is one pod, run without a control plane and whatever that says.
//
// It owns reading and watching the folder, what such a pod is called, its uid, and which
// pods are refused. It does not run them (agent/podrun does, which finds them in agent/store
// beside the assigned ones) and it does not make mirror pods (the gateway does, from what
// agent/status is told here).
//
// Invariants:
//   - The uid follows from the node's name, the file and what it says: a changed file is another
//     pod, the same file after a restart is the same.
//   - A file that cannot be read or understood leaves the pod that it was before; where it was
//     none yet, the set is not whole, and nothing is removed for being absent from it.
package static

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"coracle/agent/store"
)

// Store is where the pods go. *store.Store is one.
type Store interface {
	SetLocal(objects []store.Object, whole bool)
	// Mirrors are the mirror pods that the control plane has shown the node.
	Mirrors() []*v1.Pod
}

// Mirrors is told which pods there are. *status.Outbox is one.
type Mirrors interface {
	SetMirrors(pods []*v1.Pod)
}

// Config is what a Source needs. All is required but Dir.
type Config struct {
	// Dir is the folder. Empty: there are no such pods. It need not exist.
	Dir     string
	Node    string
	Store   Store
	Mirrors Mirrors
	Log     *slog.Logger
}

// Source is the folder's pods. Its methods are for one goroutine.
type Source struct {
	cfg      Config
	good     map[string]*v1.Pod // by file name: the last that was understood
	said     map[string]string  // by file name: the error last logged
	read     map[string]mark    // by file name: the state in which it was last understood
	looked   bool
	mirrored bool
}

// mark tells one state of a file from another without reading it.
type mark struct {
	size     int64
	modified time.Time
	inode    fs.FileInfo
}

// New makes a Source. Read it once before pods are run, so that none is taken for removed.
func New(cfg Config) *Source {
	return &Source{cfg: cfg, good: map[string]*v1.Pod{}, said: map[string]string{}, read: map[string]mark{}}
}

const (
	// quiet is how long the folder must be at rest before it is read: editors and copies write in several steps.
	quiet = 200 * time.Millisecond
	// lookEvery covers what cannot be watched: a folder that does not exist yet, one on a network.
	lookEvery = 20 * time.Second
)

// Run reads the folder whenever it changes, until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	if s.cfg.Dir == "" {
		<-ctx.Done()
		return nil
	}
	w := newWatch(s.cfg.Dir)
	defer w.close()
	for {
		changed := w.changes(s.cfg.Log)
		s.Read() // after the watch began, so that nothing falls between
		if err := settle(ctx, changed); err != nil {
			return nil //nolint:nilerr // ctx ended
		}
	}
}

// settle returns when the folder has changed and come to rest, or when it is time to look anyway.
func settle(ctx context.Context, changed <-chan struct{}) error {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-changed:
			timer.Reset(quiet)
		}
	}
}

// Read reads the folder once and hands over what it says.
func (s *Source) Read() {
	whole := true
	if s.cfg.Dir != "" {
		whole = s.readAll()
	}
	pods := make([]*v1.Pod, 0, len(s.good))
	objects := make([]store.Object, 0, len(s.good))
	named := map[string]string{}
	for _, file := range slices.Sorted(maps.Keys(s.good)) {
		p := s.good[file]
		full := p.Namespace + "/" + p.Name
		if other := named[full]; other != "" {
			s.complain(file, fmt.Errorf("pod %s is already described by %s", full, other))
			continue
		}
		named[full] = file
		data, err := p.Marshal()
		if err != nil {
			s.complain(file, fmt.Errorf("encode pod: %w", err))
			continue
		}
		pods = append(pods, p)
		objects = append(objects, store.Object{
			Kind: store.KindPod, UID: string(p.UID), Namespace: p.Namespace, Name: p.Name, ResourceVersion: p.ResourceVersion, Data: data,
		})
	}
	s.cfg.Store.SetLocal(objects, whole)
	// A node that never had such pods says nothing of them.
	if s.mirrored = s.mirrored || len(pods) > 0 || s.leftover(); s.mirrored {
		s.cfg.Mirrors.SetMirrors(pods)
	}
}

// leftover says, once, whether the control plane showed mirror pods of this node when it was last heard.
func (s *Source) leftover() bool {
	if s.looked {
		return false
	}
	s.looked = true
	return len(s.cfg.Store.Mirrors()) > 0
}

// readAll brings good up to date. It reports whether everything in the folder is known.
func (s *Source) readAll() (whole bool) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err = nil, nil
	}
	if err != nil {
		s.complain("", fmt.Errorf("read %s: %w", s.cfg.Dir, err))
		return false
	}
	s.contented("")
	whole = true
	present := map[string]bool{}
	for _, e := range entries {
		file := e.Name()
		if strings.HasPrefix(file, ".") || strings.HasSuffix(file, "~") {
			continue
		}
		p, err := s.readFile(file)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotAFile):
			continue
		case err != nil:
			s.complain(file, err)
			present[file] = true
			whole = whole && s.good[file] != nil
		default:
			s.contented(file)
			present[file] = true
			if old := s.good[file]; old == nil || old.UID != p.UID {
				s.good[file] = p
				s.cfg.Log.Info("pod from a file", "file", file, "pod", p.Namespace+"/"+p.Name, "uid", p.UID)
			}
		}
	}
	for file, p := range s.good {
		if !present[file] {
			s.cfg.Log.Info("pod's file is gone", "file", file, "pod", p.Namespace+"/"+p.Name, "uid", p.UID)
			delete(s.good, file)
			delete(s.said, file)
			delete(s.read, file)
		}
	}
	return whole
}

// maxFile is far more than any pod needs.
const maxFile = 1 << 20

var errNotAFile = errors.New("not a regular file")

func (s *Source) readFile(file string) (*v1.Pod, error) {
	path := filepath.Join(s.cfg.Dir, file)
	info, err := os.Stat(path) // through links, as a folder filled from elsewhere has them
	switch {
	case err != nil:
		return nil, fmt.Errorf("read pod's file: %w", err)
	case !info.Mode().IsRegular():
		return nil, errNotAFile
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes; a pod's file may have %d", path, info.Size(), maxFile)
	}
	// What was written within the last moment may change again within the clock's grain.
	if m, ok := s.read[file]; ok && m.size == info.Size() && m.modified.Equal(info.ModTime()) && os.SameFile(m.inode, info) &&
		time.Since(m.modified) > grain {
		return s.good[file], nil
	}
	delete(s.read, file)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read pod's file: %w", err)
	}
	p, err := Parse(data, path, s.cfg.Node, info.ModTime())
	if err == nil {
		s.read[file] = mark{size: info.Size(), modified: info.ModTime(), inode: info}
	}
	return p, err
}

// grain is coarser than any file system's times.
const grain = 3 * time.Second

// complain logs each change of error once.
func (s *Source) complain(file string, err error) {
	if s.said[file] == err.Error() {
		return
	}
	s.said[file] = err.Error()
	if s.good[file] != nil {
		s.cfg.Log.Warn("pod's file not understood, the pod stays as it was", "file", file, "err", err)
		return
	}
	s.cfg.Log.Warn("pod's file not understood", "file", file, "err", err)
}

func (s *Source) contented(file string) { delete(s.said, file) }

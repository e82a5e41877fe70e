// Package testimage builds small container images from files of this machine and pushes them to a registry,
// for the demo and for the tests. It is no part of the shipped programs.
package testimage

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Spec says what goes into an image of one layer.
type Spec struct {
	// Files maps absolute paths in the image to what is there.
	Files map[string]File
	// Entrypoint, Cmd, Env, User and WorkingDir go into the image's configuration as they are.
	Entrypoint, Cmd, Env []string
	User, WorkingDir     string
}

// File is one file of an image; exactly one of its sources is set.
type File struct {
	Source  string // a file of this machine
	Content string
	Link    string // a symbolic link to this
	Dir     bool
	Mode    int64 // 0: 0755 for Source and Dir, 0644 for Content
	Size    int64 // with Content: padded with pseudo-random bytes to this many, so that it does not compress
}

// Busybox is an image whose whole userland is the busybox binary at source, with a link for each applet named.
func Busybox(source string, applets []string) Spec {
	files := map[string]File{
		"/bin/busybox": {Source: source},
		"/tmp":         {Dir: true, Mode: 0o1777},
		"/root":        {Dir: true, Mode: 0o700},
		"/etc/passwd":  {Content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nweb:x:1000:1000:web:/:/bin/sh\n"},
		"/etc/group":   {Content: "root:x:0:\nnobody:x:65534:\nweb:x:1000:\nextra:x:2000:web\n"},
	}
	for _, a := range applets {
		files["/bin/"+a] = File{Link: "/bin/busybox"}
	}
	return Spec{Files: files, Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}
}

// Build makes the image. The same spec gives the same digest.
func Build(spec Spec) (v1.Image, error) {
	content, err := layer(spec.Files)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, fmt.Errorf("append layer: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read image configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint, config.Config.Cmd, config.Config.Env = spec.Entrypoint, spec.Cmd, spec.Env
	config.Config.User, config.Config.WorkingDir = spec.User, spec.WorkingDir
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("set image configuration: %w", err)
	}
	return img, nil
}

// Push builds the image and sends it to ref, over plain HTTP where the registry is on loopback.
func Push(ctx context.Context, ref string, spec Spec, options ...remote.Option) error {
	img, err := Build(spec)
	if err != nil {
		return fmt.Errorf("build %s: %w", ref, err)
	}
	target, err := name.ParseReference(ref)
	if err != nil {
		return fmt.Errorf("parse image reference %q: %w", ref, err)
	}
	if err := remote.Write(target, img, append([]remote.Option{remote.WithContext(ctx)}, options...)...); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}

func layer(files map[string]File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	dirs := map[string]bool{"/": true}
	paths := make([]string, 0, len(files))
	for p := range files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		if err := addParents(w, dirs, files, path.Dir(p)); err != nil {
			return nil, err
		}
		if err := addFile(w, p, files[p]); err != nil {
			return nil, fmt.Errorf("add %s to the layer: %w", p, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("finish layer: %w", err)
	}
	return buf.Bytes(), nil
}

func addParents(w *tar.Writer, done map[string]bool, files map[string]File, dir string) error {
	if _, own := files[dir]; done[dir] || own {
		return nil
	}
	if err := addParents(w, done, files, path.Dir(dir)); err != nil {
		return err
	}
	done[dir] = true
	return addFile(w, dir, File{Dir: true})
}

func addFile(w *tar.Writer, p string, f File) error {
	h := &tar.Header{Name: strings.TrimPrefix(p, "/"), Mode: f.Mode, ModTime: time.Unix(0, 0)}
	var content []byte
	switch {
	case f.Link != "":
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
	case f.Dir:
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		if h.Mode == 0 {
			h.Mode = 0o755
		}
	case f.Source != "":
		var err error
		if content, err = os.ReadFile(f.Source); err != nil {
			return err
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
	default:
		content = pad([]byte(f.Content), f.Size)
		if h.Mode == 0 {
			h.Mode = 0o644
		}
	}
	h.Size = int64(len(content))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// pad lengthens b to size with bytes of a xorshift generator: the same each time, and incompressible.
func pad(b []byte, size int64) []byte {
	x := uint64(88172645463325252)
	for int64(len(b)) < size {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = append(b, byte(x))
	}
	return b
}

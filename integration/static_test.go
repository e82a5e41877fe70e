package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestStaticPods: a pod of the node's own files is shown by a mirror pod, runs without the control plane,
// and follows its file.
func TestStaticPods(t *testing.T) {
	s := newSpace(t)
	dir := s.staticPodDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "own.yaml")
	t.Cleanup(func() {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	write := func(says string) {
		t.Helper()
		manifest := s.busybox("own", "echo "+says+"; "+sleeper) + "\n"
		manifest = strings.Replace(manifest, "metadata: {name: own,", "metadata: {name: own, namespace: "+s.name+",", 1)
		if err := os.WriteFile(file+"~", []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+"~", file); err != nil {
			t.Fatal(err)
		}
	}
	name := "own-" + s.node
	logs := func(text string) {
		t.Helper()
		s.eventually(60*time.Second, func() error {
			out, err := s.kubectl("logs", name)
			if err == nil && !strings.Contains(out, text) {
				err = fmt.Errorf("the log says %q, want %q", out, text)
			}
			return err
		})
	}

	write("one")
	s.waitPod(name, 60*time.Second, func(p *pod) error {
		if ready(p).Status != corev1.ConditionTrue {
			return fmt.Errorf("not ready: %+v", p.Status)
		}
		return nil
	})
	p := s.pod(name)
	if p.Annotations["kubernetes.io/config.source"] != "file" || p.Annotations[corev1.MirrorPodAnnotationKey] == "" ||
		p.Annotations[corev1.MirrorPodAnnotationKey] != p.Annotations["kubernetes.io/config.hash"] || len(p.OwnerReferences) != 1 {
		t.Errorf("mirror pod: annotations %v, owners %v", p.Annotations, p.OwnerReferences)
	}
	logs("one")
	if out := s.do("exec", name, "--", "hostname"); strings.TrimSpace(out) != name {
		t.Errorf("exec in a pod from a file: %q", out)
	}
	s.says([]string{"describe", "pod", name}, "Container started")
	pid := s.containerPID(p, "main")

	// The user deletes the mirror pod: it comes back, and what it shows never stopped.
	s.do("delete", "pod", name, "--timeout=60s")
	s.waitPod(name, 60*time.Second, func(now *pod) error {
		if now.UID == p.UID || ready(now).Status != corev1.ConditionTrue {
			return fmt.Errorf("uid %s, %+v", now.UID, ready(now))
		}
		return nil
	})
	if again := s.containerPID(s.pod(name), "main"); again != pid {
		t.Errorf("the container has PID %s, had %s before its mirror pod was deleted", again, pid)
	}
	write("two")
	logs("two")

	// Without a control plane: the agent starts, runs a changed file, and takes a removed one down.
	s.control.kill()
	t.Cleanup(func() {
		if s.control.exited() {
			if err := s.control.start(); err != nil {
				t.Error(err)
			}
			s.waitAPI()
		}
	})
	write("three")
	restart(t, s.agent)
	s.eventually(60*time.Second, func() error {
		found, err := filepath.Glob(filepath.Join(s.dir, "log", s.name+"_"+name+"_*", "main", "0.log"))
		for _, path := range found {
			if strings.Contains(readFile(t, path), "three") {
				return nil
			}
		}
		return fmt.Errorf("nothing runs without the control plane: %v %w", found, err)
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.eventually(60*time.Second, func() error {
		found, err := filepath.Glob(filepath.Join(s.dir, "log", s.name+"_"+name+"_*"))
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("left of a pod whose file is gone: %v", found)
		}
		return err
	})
	if err := s.control.start(); err != nil {
		t.Fatal(err)
	}
	s.waitAPI()
	if err := s.waitNodeReady(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.eventually(60*time.Second, func() error {
		out, err := s.kubectl("get", "pods", "-o", "name")
		if err == nil && strings.Contains(out, name) {
			err = errors.New("the mirror pod of a file that is gone is still shown")
		}
		return err
	})
}

package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// chaosEnv is how long the chaos test goes on before it looks at what came of it.
	chaosEnv = "CORACLE_CHAOS"
	// chaosSeedEnv repeats the sequence of an earlier run.
	chaosSeedEnv = "CORACLE_CHAOS_SEED"
	// The short form, part of every run of the suite, repeats one sequence, so that a change is judged by what it changed.
	chaosShort     = 60 * time.Second
	chaosShortSeed = 5
)

// chaos is one run of the chaos test.
type chaos struct {
	*space
	api     kubernetes.Interface
	down    map[string]bool
	expects map[string]chaosKind // what is there by the plan, by the pod's name
	ever    map[string]string    // container id → the PID it runs with: it never gets another
	runs    map[string]string    // uid and container that run on, as in the ids → the pod's name
	first   map[string]string    // the same → container id that was first seen running
}

// TestChaos makes, changes and deletes pods of every kind while the agent, containerd, the log writer and the control plane
// are killed. Throughout, what should run on keeps its process and nothing runs twice; in the end every status is what
// containerd and the kernel say, and of what is deleted nothing is left.
func TestChaos(t *testing.T) {
	length, seed := chaosShort, uint64(chaosShortSeed)
	if text := os.Getenv(chaosEnv); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s: %v", chaosEnv, err)
		}
		length, seed = d, rand.Uint64()
	}
	if text := os.Getenv(chaosSeedEnv); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", chaosSeedEnv, err)
		}
		seed = n
	}
	t.Logf("%s=%d repeats this sequence", chaosSeedEnv, seed)
	c := &chaos{space: newSpace(t), down: map[string]bool{}, expects: map[string]chaosKind{}, ever: map[string]string{}, runs: map[string]string{}, first: map[string]string{}}
	c.api = c.client(t)
	t.Cleanup(c.restore)
	c.do("create", "configmap", "chaos", "--from-literal=key=value")
	c.do("create", "secret", "generic", "chaos", "--from-literal=key=value")
	if err := os.MkdirAll(c.staticPodDir(), 0o700); err != nil {
		t.Fatal(err)
	}

	plan, counts := newChaosPlan(seed), map[string]int{}
	for end := time.Now().Add(length); time.Now().Before(end); {
		act := plan.next()
		t.Logf("%s %v", time.Now().Format("15:04:05.0"), act)
		c.act(act)
		counts[act.verb]++
		if act.verb == "kill" {
			counts["kill "+act.name]++
		}
		c.watch()
		<-time.After(act.pause) // the plan's pace, not a wait for something
	}
	t.Logf("%d acts: %v", plan.count, counts)
	for _, name := range chaosProcesses {
		if c.down[name] {
			c.act(chaosAct{verb: "start", name: name})
		}
	}
	if err := c.waitNodeReady(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	c.eventually(90*time.Second, c.settled)
	c.watch()
	c.clear()
}

// restore leaves the cluster to the tests that follow, whatever has happened.
func (c *chaos) restore() {
	files, _ := filepath.Glob(filepath.Join(c.staticPodDir(), "static-*"))
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			c.t.Error(err)
		}
	}
	for _, name := range chaosProcesses {
		if p := c.process(name); p.exited() {
			if err := p.start(); err != nil {
				c.t.Error(err)
			}
		}
	}
	if err := c.waitAnswer(); err != nil {
		c.t.Error(err)
	}
}

func (c *chaos) process(name string) *process {
	return map[string]*process{"agent": c.agent, "containerd": c.containerd, "log-writer": c.logs, "controlplane": c.control}[name]
}

// act does one act of the plan, and where the API is asked repeats it until it is done.
func (c *chaos) act(a chaosAct) {
	c.t.Helper()
	switch a.verb {
	case "kill":
		if c.process(a.name).exited() {
			c.t.Fatalf("%s ended by itself:\n%s", a.name, c.process(a.name).tail(30))
		}
		c.process(a.name).kill()
		c.down[a.name] = true
		return
	case "start":
		if err := c.process(a.name).start(); err != nil {
			c.t.Fatal(err)
		}
		c.down[a.name] = false
		return
	case "static", "unstatic":
		if err := c.file(a); err != nil {
			c.t.Fatal(err)
		}
		return
	case "delete", "force":
		c.forget(a.name)
	case "undeploy":
		delete(c.expects, a.name)
	}
	err := eventually(60*time.Second, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		err := c.ask(ctx, a)
		if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err) {
			c.t.Fatalf("%v: %v", a, err)
		}
		return err
	})
	if err != nil {
		c.t.Fatalf("%v: %v", a, err)
	}
}

// forget takes note that a pod is about to go: its containers need not run on.
func (c *chaos) forget(pod string) {
	delete(c.expects, pod)
	for key, name := range c.runs {
		if name == pod {
			delete(c.runs, key)
		}
	}
}

// ask does what is done through the API. It may have been done before, by a request whose answer was lost.
func (c *chaos) ask(ctx context.Context, a chaosAct) error {
	pods, deployments := c.api.CoreV1().Pods(c.name), c.api.AppsV1().Deployments(c.name)
	patch := func(body string, subresources ...string) error {
		_, err := pods.Patch(ctx, a.name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, subresources...)
		return err
	}
	switch a.verb {
	case "create":
		return c.create(ctx, a)
	case "delete":
		return gone(pods.Delete(ctx, a.name, metav1.DeleteOptions{}))
	case "force":
		return gone(pods.Delete(ctx, a.name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}))
	case "label":
		return gone(patch(fmt.Sprintf(`{"metadata":{"labels":{"turn":"%d"},"annotations":{"turn":"%d"}}}`, a.n, a.n)))
	case "image":
		image := c.image
		if a.n%2 == 0 { // the same by another name
			image = strings.Replace(image, "127.0.0.1", "localhost", 1)
		}
		return patch(fmt.Sprintf(`{"spec":{"containers":[{"name":"main","image":%q}]}}`, image))
	case "resize":
		return patch(fmt.Sprintf(`{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"%dm"},"limits":{"cpu":"%[1]d0m","memory":"%dMi"}}}]}}`, 10+a.n%50, 32+a.n%64), "resize")
	case "debug":
		command := []string{sleeper, "sleep 2"}[a.n%2]
		return patch(fmt.Sprintf(`{"spec":{"ephemeralContainers":[{"name":"debug-%d","image":%q,"command":["sh","-c",%q]}]}}`, a.n, c.image, command), "ephemeralcontainers")
	case "deploy":
		return c.deploy(ctx, a)
	case "scale":
		_, err := deployments.Patch(ctx, a.name, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, a.n), metav1.PatchOptions{})
		return err
	case "undeploy":
		background := metav1.DeletePropagationBackground
		return gone(deployments.Delete(ctx, a.name, metav1.DeleteOptions{PropagationPolicy: &background}))
	}
	return fmt.Errorf("the chaos test has no act %q", a.verb)
}

// gone takes what is not there for deleted.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *chaos) create(ctx context.Context, a chaosAct) error {
	kind := chaosKindOf(a.kind)
	spec, err := kind.podSpec(c.cluster)
	if err != nil {
		return err
	}
	pods := c.api.CoreV1().Pods(c.name)
	p, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: a.name, Labels: map[string]string{"kind": a.kind}}, Spec: spec}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		p, err = pods.Get(ctx, a.name, metav1.GetOptions{})
	}
	if err != nil {
		return err
	}
	c.expects[a.name] = kind
	for _, container := range kind.runs {
		c.runs[string(p.UID)[:8]+"-"+container] = a.name
	}
	return nil
}

func (c *chaos) deploy(ctx context.Context, a chaosAct) error {
	spec, err := chaosKindOf(a.kind).podSpec(c.cluster)
	if err != nil {
		return err
	}
	replicas, labels := int32(a.n), map[string]string{"app": a.name}
	_, err = c.api.AppsV1().Deployments(c.name).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: a.name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// file writes or removes the file of a static pod.
func (c *chaos) file(a chaosAct) error {
	file := filepath.Join(c.staticPodDir(), a.name+".yaml")
	if a.verb == "unstatic" {
		delete(c.expects, a.name+"-"+c.node)
		return os.Remove(file)
	}
	manifest := strings.Replace(c.busybox(a.name, fmt.Sprintf("echo %d; %s", a.n, sleeper)), "metadata: {", "metadata: {namespace: "+c.name+", ", 1)
	if err := os.WriteFile(file+"~", []byte(manifest), 0o600); err != nil {
		return err
	}
	c.expects[a.name+"-"+c.node] = chaosKindOf(a.kind)
	return os.Rename(file+"~", file)
}

// clear deletes everything and wants nothing of it to be left.
func (c *chaos) clear() {
	c.t.Helper()
	for name := range c.expects {
		c.forget(name)
	}
	clear(c.runs)
	files, err := filepath.Glob(filepath.Join(c.staticPodDir(), "static-*"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	c.do("delete", "deployments,pods", "--all", "--timeout=120s")
	c.eventually(60*time.Second, func() error {
		if left := append(c.leftovers(), c.traces()...); len(left) > 0 {
			return fmt.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
		return nil
	})
}

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// task is a container's process as containerd tells of it.
type task struct{ pid, status string }

func (c *cluster) tasks() (map[string]task, error) {
	out, err := output(nil, "", "ctr", "--timeout", "30s", "--address", c.containerdSocket(), "--namespace", "coracle", "tasks", "list")
	if err != nil {
		return nil, err
	}
	found := map[string]task{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "TASK" {
			found[f[0]] = task{pid: f[1], status: f[2]}
		}
	}
	return found, nil
}

// unit is a container's id without its attempt: two of one unit must never run at once.
func unit(id string) string {
	if i := strings.LastIndex(id, "-"); i > 0 {
		return id[:i]
	}
	return id
}

// watch checks what must hold at any time; it needs containerd.
func (c *chaos) watch() {
	c.t.Helper()
	if c.down["containerd"] {
		return
	}
	var broken []error // what no waiting mends
	c.eventually(20*time.Second, func() error {
		tasks, err := c.tasks()
		if err != nil {
			return err
		}
		running := map[string]string{} // unit → id
		for id, task := range tasks {
			if task.status != "RUNNING" {
				continue
			}
			if other, twice := running[unit(id)]; twice {
				broken = append(broken, fmt.Errorf("%s and %s run at once", id, other))
			}
			running[unit(id)] = id
			if pid, known := c.ever[id]; known && pid != task.pid {
				broken = append(broken, fmt.Errorf("container %s runs with PID %s, before with %s", id, task.pid, pid))
			}
			c.ever[id] = task.pid
		}
		if len(broken) > 0 {
			return nil
		}
		return c.runOn(tasks, running)
	})
	if len(broken) > 0 {
		c.t.Fatal(errors.Join(broken...))
	}
}

// runOn wants each container that should run on to be the one that was first seen to run.
func (c *chaos) runOn(tasks map[string]task, running map[string]string) error {
	var errs []error
	for key, pod := range c.runs {
		id, first := running[key], c.first[key]
		switch {
		case first == "" && id != "":
			c.first[key] = id
		case first != id:
			errs = append(errs, fmt.Errorf("of pod %s %q runs, and %s should run on (containerd: %+v)", pod, id, first, tasks[first]))
		}
	}
	return errors.Join(errs...)
}

// settled compares every pod's status with containerd and the kernel.
func (c *chaos) settled() error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	list, err := c.api.CoreV1().Pods(c.name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	tasks, err := c.tasks()
	if err != nil {
		return err
	}
	var errs []error
	told, addresses, there := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range list.Items {
		p := &list.Items[i]
		there[p.Name] = true
		for _, ip := range p.Status.PodIPs {
			addresses[ip.IP] = true
		}
		if err := c.podSettled(p, tasks, told); err != nil {
			errs = append(errs, fmt.Errorf("pod %s: %w", p.Name, err))
		}
	}
	for name := range c.expects {
		if !there[name] {
			errs = append(errs, fmt.Errorf("pod %s is not there", name))
		}
	}
	for id, task := range tasks {
		if task.status == "RUNNING" && !told[id] && !strings.HasSuffix(id, ".init") {
			errs = append(errs, fmt.Errorf("container %s runs and no status tells of it", id))
		}
	}
	for _, ip := range c.leased() {
		if !addresses[ip] {
			errs = append(errs, fmt.Errorf("address %s is leased and no pod has it", ip))
		}
	}
	err = errors.Join(append(errs, c.deploymentsSettled(ctx, list.Items))...)
	if err == nil {
		c.t.Logf("settled: %d pods by the plan, %d in all, %d containers run, %d ran in the whole, %d were held to run on", len(c.expects), len(list.Items), len(told), len(c.ever), len(c.first))
	}
	return err
}

func (c *chaos) podSettled(p *pod, tasks map[string]task, told map[string]bool) error {
	if p.DeletionTimestamp != nil {
		return errors.New("still being deleted")
	}
	errs := []error{c.expected(p)}
	kind := c.expects[p.Name]
	for _, cs := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses) {
		id := strings.TrimPrefix(cs.ContainerID, "containerd://")
		task, there := tasks[id]
		alive := there && task.status == "RUNNING"
		if id != "" && id != unit(id)+"-"+strconv.Itoa(int(cs.RestartCount)) && cs.State.Waiting == nil {
			errs = append(errs, fmt.Errorf("container %s has restartCount %d and is %s", cs.Name, cs.RestartCount, id))
		}
		if once := kind.once() || slices.Contains(kind.runs, cs.Name); once && cs.RestartCount != 0 {
			errs = append(errs, fmt.Errorf("container %s should have been started once and has restartCount %d", cs.Name, cs.RestartCount))
		}
		switch {
		case cs.State.Running != nil:
			told[id] = true
			if !alive {
				errs = append(errs, fmt.Errorf("container %s is said to run; containerd says of %s: %+v", cs.Name, id, task))
			} else if err := kernelSays(task.pid, p); err != nil {
				errs = append(errs, fmt.Errorf("container %s: %w", cs.Name, err))
			}
		case alive:
			errs = append(errs, fmt.Errorf("container %s runs as %s and is said to be %+v", cs.Name, id, cs.State))
		}
	}
	return errors.Join(errs...)
}

// kernelSays looks for the process and for the pod's address in the process's network.
func kernelSays(pid string, p *pod) error {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return err
	}
	if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "Z") {
		return fmt.Errorf("process %s is a zombie", pid)
	}
	if p.Spec.HostNetwork {
		return nil
	}
	if p.Status.PodIP == "" {
		return errors.New("the pod has no address")
	}
	routes, err := os.ReadFile("/proc/" + pid + "/net/fib_trie")
	if err == nil && !strings.Contains(string(routes), "-- "+p.Status.PodIP+"\n") {
		err = fmt.Errorf("process %s has not the pod's address %s in its network", pid, p.Status.PodIP)
	}
	return err
}

// expected wants the pod to have come to where its kind comes to.
func (c *chaos) expected(p *pod) error {
	kind, planned := c.expects[p.Name]
	if !planned {
		if p.Labels["app"] == "" || strings.HasPrefix(p.Name, "static-") {
			return errors.New("it was deleted and is still there")
		}
		kind = chaosKindOf("plain") // of a deployment
	}
	switch {
	case kind.ends != "" && p.Status.Phase != kind.ends:
		return fmt.Errorf("it is %s, and should come to %s: %+v", p.Status.Phase, kind.ends, p.Status.ContainerStatuses)
	case kind.ready() && ready(p).Status != corev1.ConditionTrue:
		return fmt.Errorf("it is not ready: %s: %+v", ready(p).Message, p.Status.ContainerStatuses)
	case len(kind.waits) > 0:
		for _, cs := range p.Status.ContainerStatuses {
			if cs.State.Waiting == nil || !slices.Contains(kind.waits, cs.State.Waiting.Reason) {
				return fmt.Errorf("it should wait for %v: %+v", kind.waits, cs.State)
			}
		}
	case kind.name == "limited":
		want, got := p.Spec.Containers[0].Resources.Limits, p.Status.ContainerStatuses[0].Resources
		if got == nil || !got.Limits.Memory().Equal(*want.Memory()) || !got.Limits.Cpu().Equal(*want.Cpu()) {
			return fmt.Errorf("its resources are %v, and should be %v", got, want)
		}
		return c.groups().want(p, "main", map[string]string{"memory": strconv.FormatInt(want.Memory().Value(), 10), "quota": strconv.FormatInt(want.Cpu().MilliValue()*100, 10)})
	}
	return nil
}

func (c *chaos) deploymentsSettled(ctx context.Context, pods []pod) error {
	list, err := c.api.AppsV1().Deployments(c.name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range list.Items {
		owned := 0
		for _, p := range pods {
			if p.Labels["app"] == d.Name {
				owned++
			}
		}
		if want := *d.Spec.Replicas; d.Status.ReadyReplicas != want || d.Status.Replicas != want || owned != int(want) {
			errs = append(errs, fmt.Errorf("deployment %s has %d pods and is %+v, and should have %d replicas", d.Name, owned, d.Status, want))
		}
	}
	return errors.Join(errs...)
}

// leased are the addresses that are given out on the node.
func (c *cluster) leased() []string {
	var found []string
	files, _ := filepath.Glob(filepath.Join(c.sockets, "a", "cni", "*", c.podNet+".*")) // the pattern is well formed
	for _, file := range files {
		found = append(found, filepath.Base(file))
	}
	return found
}

// traces are what pods must not leave in the agent's own folders, in containerd and in the log writer.
func (c *cluster) traces() []string {
	var left []string
	for _, ip := range c.leased() {
		left = append(left, "address "+ip)
	}
	for _, dir := range []string{
		filepath.Join(c.sockets, "a", "pods"), filepath.Join(c.sockets, "a", "io"), filepath.Join(c.sockets, "a", "exec"), filepath.Join(c.sockets, "a", "oci", "coracle"),
		filepath.Join(c.dir, "agent", "cni", "attachments"), filepath.Join(c.dir, "agent", "cni", "results"), filepath.Join(c.dir, "kubelet", "pods"), filepath.Join(c.dir, "log"),
	} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			left = append(left, err.Error())
		}
		for _, e := range entries {
			left = append(left, "in the folder "+filepath.Join(dir, e.Name()))
		}
	}
	fds := fmt.Sprintf("/proc/%d/fd", c.logs.pid())
	open, err := os.ReadDir(fds)
	if err != nil {
		left = append(left, err.Error())
	}
	for _, fd := range open {
		if target, err := os.Readlink(filepath.Join(fds, fd.Name())); err == nil && strings.HasPrefix(target, filepath.Join(c.sockets, "a", "io")+"/") {
			left = append(left, "open in the log writer: "+target)
		}
	}
	out, err := output(nil, "", "ctr", "--address", c.containerdSocket(), "--namespace", "coracle", "snapshots", "list")
	if err != nil {
		left = append(left, err.Error())
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == "Active" {
			left = append(left, "snapshot "+strings.TrimSpace(line))
		}
	}
	return left
}

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// groups reads control groups of a node's pods, whichever version and driver the machine has.
type groups struct {
	c                *cluster
	unified, systemd bool
}

func (c *cluster) groups() groups {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return groups{c: c, unified: err == nil, systemd: os.Getenv(driverEnv) == "systemd"}
}

// dir is a pod's group below each hierarchy, or with container that container's.
func (g groups) dir(p *pod, container string) string {
	class := map[corev1.PodQOSClass]string{corev1.PodQOSBurstable: "burstable", corev1.PodQOSBestEffort: "besteffort"}[p.Status.QOSClass]
	id := ""
	for _, cs := range p.Status.ContainerStatuses {
		if cs.Name == container {
			id = strings.TrimPrefix(cs.ContainerID, "containerd://")
		}
	}
	if !g.systemd {
		return filepath.Join("/coracle-it-"+g.c.id, "coracle", class, "pod"+string(p.UID), id)
	}
	dir, name := "coracle.slice", "coracle"
	for _, part := range []string{class, "pod" + strings.ReplaceAll(string(p.UID), "-", "_")} {
		if part != "" {
			name += "-" + part
			dir = filepath.Join(dir, name+".slice")
		}
	}
	if id != "" {
		dir = filepath.Join(dir, "coracle-"+id+".scope")
	}
	return dir
}

// value reads one limit: quota in µs for each 100 ms, memory in bytes, pids; -1 is none.
func (g groups) value(dir, what string) (string, error) {
	paths := map[string]string{
		"quota": "cpu/" + dir + "/cpu.cfs_quota_us", "memory": "memory/" + dir + "/memory.limit_in_bytes", "pids": "pids/" + dir + "/pids.max",
		"shares": "cpu/" + dir + "/cpu.shares",
	}
	if g.unified {
		paths = map[string]string{
			"quota": dir + "/cpu.max", "memory": dir + "/memory.max", "pids": dir + "/pids.max", "shares": dir + "/cpu.weight",
			"low": dir + "/memory.low", "high": dir + "/memory.high", "swap": dir + "/memory.swap.max",
		}
	}
	data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", paths[what]))
	if err != nil {
		return "", err
	}
	text, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if n, err := strconv.ParseInt(text, 10, 64); text == "max" || err == nil && n >= 1<<62 {
		text = "-1"
	}
	return text, nil
}

// want compares limits of a pod's group, or with container of that container's.
func (g groups) want(p *pod, container string, want map[string]string) error {
	for what, value := range want {
		if what == "shares" && g.unified {
			continue // weights follow a curve that differs between OCI runtimes
		}
		got, err := g.value(g.dir(p, container), what)
		if err != nil {
			return err
		}
		// Below a systemd scope crun has a group of its own, which holds some of the limits.
		if inner, err := g.value(g.dir(p, container)+"/container", what); err == nil && got == "-1" && container != "" {
			got = inner
		}
		if got != value {
			return fmt.Errorf("%s of %s/%s is %s, want %s", what, p.Name, container, got, value)
		}
	}
	return nil
}

func (s *space) sized(name, resources string, more ...string) string {
	return s.busybox(name, sleeper, append([]string{"resources: " + resources}, more...)...)
}

// podWith is a busybox that sleeps, with a line more in the pod's spec.
func (s *space) podWith(name, line string, more ...string) string {
	return s.withLine(s.busybox(name, sleeper, more...), line)
}

// withLine adds a line to the spec of a pod's manifest.
func (s *space) withLine(manifest, line string) string {
	return strings.Replace(manifest, "spec:\n", "spec:\n  "+line+"\n", 1)
}

// Pods and containers have what they ask for in their cgroups; the pod's holds its overhead and its number of processes too.
func TestResources(t *testing.T) {
	s := newSpace(t)
	g := s.groups()
	s.apply("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: " + s.name + "}\nhandler: runc\noverhead: {podFixed: {cpu: 250m, memory: 16Mi}}\n")
	t.Cleanup(func() { _, _ = s.kubectl("delete", "runtimeclass", s.name, s.name+"-unknown") })
	s.apply("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: " + s.name + "-unknown}\nhandler: unheard-of\n")
	s.apply(s.sized("limited", "{requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}"))
	s.apply(s.podWith("heavy", "runtimeClassName: "+s.name, "resources: {limits: {cpu: 250m, memory: 32Mi}}"))
	s.apply(s.podWith("whole", "resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 300m, memory: 48Mi}}"))
	s.apply(s.busybox("plain", sleeper))
	s.apply(s.podWith("strange", "runtimeClassName: "+s.name+"-unknown"))
	s.waitReady("limited", "heavy", "whole", "plain")

	for _, test := range []struct {
		pod, container string
		want           map[string]string
	}{
		{"limited", "", map[string]string{"shares": "102", "quota": "20000", "memory": "67108864", "pids": "2000"}},
		{"limited", "main", map[string]string{"shares": "102", "quota": "20000", "memory": "67108864", "pids": "-1"}},
		{"heavy", "", map[string]string{"shares": "512", "quota": "50000", "memory": "50331648"}},
		{"heavy", "main", map[string]string{"shares": "256", "quota": "25000", "memory": "33554432"}},
		{"whole", "", map[string]string{"shares": "102", "quota": "30000", "memory": "50331648"}},
		{"whole", "main", map[string]string{"quota": "-1", "memory": "-1"}},
		{"plain", "", map[string]string{"shares": "2", "quota": "-1", "memory": "-1", "pids": "2000"}},
	} {
		if err := g.want(s.pod(test.pod), test.container, test.want); err != nil {
			t.Error(err)
		}
	}
	s.memoryPolicy(g)
	s.eventually(30*time.Second, func() error {
		events, err := s.kubectl("get", "events", "--field-selector", "involvedObject.name=strange,reason=FailedCreatePodSandBox")
		if err != nil || !strings.Contains(events, `no runtime for "unheard-of" is configured`) {
			return fmt.Errorf("events of a pod with an unknown handler: %s, %w", events, err)
		}
		return nil
	})
	s.waitPod("strange", 20*time.Second, waitingReason("ContainerCreating"))
	var node corev1.Node
	s.cluster.get(t, &node, "node", s.node)
	handlers := fmt.Sprint(node.Status.RuntimeHandlers)
	if !strings.Contains(handlers, "runc") {
		t.Errorf("the node's handlers: %s", handlers)
	}
	if !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == "LimitsEnforced" && c.Message != "" }) {
		t.Errorf("no condition says what the node can hold pods to: %+v", node.Status.Conditions)
	}
}

// memoryPolicy checks what cgroup v2 alone can do, as far as the agent is configured to.
func (s *space) memoryPolicy(g groups) {
	s.t.Helper()
	if !g.unified || g.systemd {
		return
	}
	limited, container := s.pod("limited"), map[string]string{"low": "0", "high": "-1", "swap": "0"}
	if config := os.Getenv(agentEnv); strings.Contains(config, "tiered") { // and throttling 0.9 of what lies between 32Mi and 64Mi
		container["low"], container["high"] = "33554432", "63750144"
		if err := g.want(limited, "", map[string]string{"low": "33554432"}); err != nil {
			s.t.Error(err)
		}
	} else if strings.Contains(config, "LimitedSwap") {
		delete(container, "swap")
		if swap, err := g.value(g.dir(limited, "main"), "swap"); err != nil || swap == "0" || swap == "-1" {
			s.t.Errorf("a burstable pod may swap %s, %v", swap, err)
		}
		if err := g.want(s.pod("plain"), "main", map[string]string{"swap": "0"}); err != nil {
			s.t.Error(err)
		}
	}
	if err := g.want(limited, "main", container); err != nil {
		s.t.Error(err)
	}
}

// resize patches the resize subresource and waits until the node has done what it asks for.
func (s *space) resize(name, resources string) *pod {
	s.t.Helper()
	s.do("patch", "pod", name, "--subresource", "resize", "-p", `{"spec":{"containers":[{"name":"main","resources":`+resources+`}]}}`)
	return s.waitPod(name, 60*time.Second, func(p *pod) error {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodResizeInProgress || c.Type == corev1.PodResizePending {
				return fmt.Errorf("%s: %s %s", c.Type, c.Reason, c.Message)
			}
		}
		want, got := p.Spec.Containers[0].Resources, p.Status.ContainerStatuses[0].Resources
		if p.Status.ObservedGeneration != p.Generation || got == nil || !got.Limits.Cpu().Equal(*want.Limits.Cpu()) || !got.Limits.Memory().Equal(*want.Limits.Memory()) {
			return fmt.Errorf("resources are %v, want %v", got, want)
		}
		return nil
	})
}

func condition(p *pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// A running container is given other resources in place, or anew where its policy says so; what the node does not have waits.
func TestResize(t *testing.T) {
	s := newSpace(t)
	g := s.groups()
	s.apply(s.sized("web", "{requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}",
		"resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: RestartContainer}]"))
	s.apply(s.sized("inplace", "{requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}"))
	s.waitReady("web", "inplace")
	pid := s.containerPID(s.pod("web"), "main")

	p := s.resize("web", `{"requests":{"cpu":"150m"},"limits":{"cpu":"300m"}}`)
	for _, container := range []string{"", "main"} {
		if err := g.want(p, container, map[string]string{"shares": "153", "quota": "30000", "memory": "67108864"}); err != nil {
			t.Error(err)
		}
	}
	if cs := p.Status.ContainerStatuses[0]; cs.RestartCount != 0 || s.containerPID(p, "main") != pid || cs.AllocatedResources.Cpu().MilliValue() != 150 {
		t.Errorf("after a change of CPU: %+v", cs)
	}
	// Up and down again, in place.
	for _, memory := range []string{"96Mi", "48Mi"} {
		p = s.resize("inplace", `{"requests":{"memory":"`+memory+`"},"limits":{"memory":"`+memory+`"}}`)
		bytes := fmt.Sprint(p.Spec.Containers[0].Resources.Limits.Memory().Value())
		for _, container := range []string{"", "main"} {
			if err := g.want(p, container, map[string]string{"memory": bytes, "quota": "20000"}); err != nil {
				t.Error(err)
			}
		}
		if p.Status.ContainerStatuses[0].RestartCount != 0 {
			t.Errorf("restarted for %s", memory)
		}
	}
	p = s.resize("web", `{"requests":{"memory":"80Mi"},"limits":{"memory":"80Mi"}}`)
	if err := g.want(p, "main", map[string]string{"memory": "83886080"}); err != nil {
		t.Error(err)
	}
	if cs := p.Status.ContainerStatuses[0]; cs.RestartCount != 1 {
		t.Errorf("after a change of memory: %+v", cs)
	}
	s.wantContains(s.do("get", "events", "--field-selector", "involvedObject.name=web"), "ResizeStarted", "ResizeCompleted", "Container main resize requires restart")

	s.do("patch", "pod", "web", "--subresource", "resize", "-p", `{"spec":{"containers":[{"name":"main","resources":{"requests":{"cpu":"1000"},"limits":{"cpu":"2000"}}}]}}`)
	p = s.waitPod("web", 30*time.Second, func(p *pod) error {
		if c := condition(p, corev1.PodResizePending); c.Reason != corev1.PodReasonInfeasible || c.ObservedGeneration != p.Generation {
			return fmt.Errorf("condition is %+v", c)
		}
		return nil
	})
	s.wantContains(condition(p, corev1.PodResizePending).Message, "Node didn't have enough capacity: cpu, requested: 1000000")
	if err := g.want(p, "main", map[string]string{"quota": "30000"}); err != nil {
		t.Error(err)
	}
	if cs := p.Status.ContainerStatuses[0]; cs.AllocatedResources.Cpu().MilliValue() != 150 || cs.Resources.Limits.Cpu().MilliValue() != 300 {
		t.Errorf("while a resize is infeasible: %+v", cs)
	}
	// Memory in use is not taken away: the resize goes on, and says why it does not get further.
	s.do("exec", "inplace", "--", "sh", "-c", "dd if=/dev/zero of=/dev/shm/fill bs=1M count=20 2>/dev/null")
	s.do("patch", "pod", "inplace", "--subresource", "resize", "-p", `{"spec":{"containers":[{"name":"main","resources":{"requests":{"memory":"8Mi"},"limits":{"memory":"8Mi"}}}]}}`)
	p = s.waitPod("inplace", 30*time.Second, func(p *pod) error {
		if c := condition(p, corev1.PodResizeInProgress); c.Reason != corev1.PodReasonError {
			return fmt.Errorf("condition is %+v", c)
		}
		return nil
	})
	s.wantContains(condition(p, corev1.PodResizeInProgress).Message, "below current usage")
	s.do("exec", "inplace", "--", "rm", "/dev/shm/fill")
	s.waitPod("inplace", 90*time.Second, func(p *pod) error { return g.want(p, "main", map[string]string{"memory": "8388608"}) })
}

// Pods that write more than they may to the disk are evicted, with the reason that Kubernetes gives.
func TestStorageLimits(t *testing.T) {
	s := newSpace(t)
	fill := "dd if=/dev/zero of=/data/fill bs=1M count=8; sleep 1000"
	mounts := "volumeMounts: [{name: data, mountPath: /data}]"
	s.apply(s.withLine(s.busybox("volume", fill, mounts), "volumes: [{name: data, emptyDir: {sizeLimit: 2Mi}}]"))
	s.apply(s.withLine(s.busybox("whole", fill, mounts, "resources: {limits: {ephemeral-storage: 4Mi}}"), "volumes: [{name: data, emptyDir: {}}]"))
	s.apply(s.busybox("layer", "dd if=/dev/zero of=/fill bs=1M count=8; sleep 1000", "resources: {limits: {ephemeral-storage: 4Mi}}"))
	s.apply(s.busybox("modest", "dd if=/dev/zero of=/fill bs=1M count=2; "+sleeper, "resources: {limits: {ephemeral-storage: 16Mi}}"))
	for name, message := range map[string]string{
		"volume": `Usage of EmptyDir volume "data" exceeds the limit "2Mi". `,
		"whole":  "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
		"layer":  "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ",
	} {
		p := s.waitPod(name, 90*time.Second, phase(corev1.PodFailed))
		if c := condition(p, corev1.DisruptionTarget); p.Status.Reason != "Evicted" || p.Status.Message != message || c.Reason != corev1.PodReasonTerminationByKubelet {
			t.Errorf("pod %s: %s: %s, condition %+v", name, p.Status.Reason, p.Status.Message, c)
		}
		s.says([]string{"get", "events", "--field-selector", "involvedObject.name=" + name}, "Evicted")
	}
	if p := s.pod("modest"); p.Status.Phase != corev1.PodRunning {
		t.Errorf("a pod within its limit is %s: %s", p.Status.Phase, p.Status.Message)
	}
}

// The agent is killed before and after each step of a resize. The next start goes on with it, and restarts nothing.
func TestKillAtEachStepOfAResize(t *testing.T) {
	s := newSpace(t)
	g := s.groups()
	s.apply(s.sized("web", "{requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}"))
	s.waitReady("web")
	milli := 100
	for _, step := range []string{"LoosenCgroup", "UpdateContainer", "SettleCgroup"} {
		for _, when := range []string{"before", "after"} {
			milli += 10
			resources := fmt.Sprintf(`{"requests":{"cpu":"%dm"},"limits":{"cpu":"%dm"}}`, milli, 2*milli)
			s.killAt(when+" "+step, func() {
				s.do("patch", "pod", "web", "--subresource", "resize", "-p", `{"spec":{"containers":[{"name":"main","resources":`+resources+`}]}}`)
			})
			p := s.waitPod("web", 60*time.Second, func(p *pod) error {
				if c := condition(p, corev1.PodResizeInProgress); c.Status != "" || p.Status.ObservedGeneration != p.Generation {
					return fmt.Errorf("killed %s %s: %+v", when, step, c)
				}
				for _, container := range []string{"", "main"} {
					if err := g.want(p, container, map[string]string{"quota": fmt.Sprint(2 * milli * 100)}); err != nil && (!g.systemd || container != "") { // systemd rounds
						return err
					}
				}
				return nil
			})
			if count := p.Status.ContainerStatuses[0].RestartCount; count != 0 {
				t.Errorf("killed %s %s: restartCount is %d", when, step, count)
			}
		}
	}
}

// A pod goes on with the handler that it began with, whatever becomes of its RuntimeClass.
func TestRuntimeClassGoes(t *testing.T) {
	s := newSpace(t)
	s.apply("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: " + s.name + "}\nhandler: runc\n")
	s.apply(s.podWith("web", "runtimeClassName: "+s.name))
	s.waitReady("web")
	s.do("delete", "runtimeclass", s.name)
	s.do("exec", "web", "--", "sh", "-c", "kill 1")
	s.waitPod("web", 60*time.Second, func(p *pod) error {
		if cs := p.Status.ContainerStatuses; len(cs) != 1 || cs[0].RestartCount != 1 || cs[0].State.Running == nil {
			return fmt.Errorf("containers: %+v", cs)
		}
		return nil
	})
}

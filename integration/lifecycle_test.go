package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestSidecarsAndRestartRules: sidecars beside main containers that end, and restarts that containers ask for by their exit codes.
func TestSidecarsAndRestartRules(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: job}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 20
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - name: side
    image: %[1]s
    restartPolicy: Always
    command: [sh, -c, "trap 'echo side >> /shared/log; exit 0' TERM; touch /shared/up; while :; do sleep 0.2; done"]
    startupProbe: {exec: {command: [cat, /shared/up]}, periodSeconds: 1}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - {name: setup, image: %[1]s, command: [cat, /shared/up], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - {name: main, image: %[1]s, command: [sh, -c, "sleep 2; echo main >> /shared/log"], volumeMounts: [{name: shared, mountPath: /shared}]}
---
apiVersion: v1
kind: Pod
metadata: {name: retried}
spec:
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: main
    image: %[1]s
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]
    command: [sh, -c, "echo run >> /shared/runs; [ $(wc -l < /shared/runs) -ge 2 ] || exit 42"]
    volumeMounts: [{name: shared, mountPath: /shared}]
---
apiVersion: v1
kind: Pod
metadata: {name: renewed}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 600
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: setup, image: %[1]s, command: [sh, -c, "echo setup >> /shared/log"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    image: %[1]s
    restartPolicy: Never
    restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [88]}}]
    command: [sh, -c, "sleep 1; [ $(wc -l < /shared/log) -ge 2 ] || exit 88"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: stubborn
    image: %[1]s
    command: [sh, -c, "trap '' TERM; [ $(wc -l < /shared/log) -ge 2 ] && exit 0; while :; do sleep 1; done"]
    volumeMounts: [{name: shared, mountPath: /shared}]
`, s.image))
	job := s.waitPod("job", 90*time.Second, phase(corev1.PodSucceeded))
	side, main := job.Status.InitContainerStatuses[0].State.Terminated, job.Status.ContainerStatuses[0].State.Terminated
	if side == nil || main == nil || side.FinishedAt.Before(&main.FinishedAt) || side.ExitCode != 0 {
		t.Errorf("the sidecar ended as %+v, the main container as %+v", side, main)
	}
	if n := s.waitPod("retried", 60*time.Second, phase(corev1.PodSucceeded)).Status.ContainerStatuses[0].RestartCount; n != 1 {
		t.Errorf("the container that asked for a restart has restartCount %d, want 1", n)
	}
	renewed := s.waitPod("renewed", 90*time.Second, phase(corev1.PodSucceeded))
	counts := []int32{renewed.Status.InitContainerStatuses[0].RestartCount, renewed.Status.ContainerStatuses[0].RestartCount, renewed.Status.ContainerStatuses[1].RestartCount}
	if fmt.Sprint(counts) != "[1 1 1]" {
		t.Errorf("after the restart of all containers their restartCounts are %v", counts)
	}
	if c := podCondition(renewed, corev1.AllContainersRestarting); c.Status != corev1.ConditionFalse {
		t.Errorf("condition AllContainersRestarting: %+v", c)
	}
}

func podCondition(p *pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// TestProbesOfRealContainers: each kind of handler and of probe, and what follows from them.
func TestProbesOfRealContainers(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: web
    image: %[1]s
    command: [sh, -c, "mkdir /www; echo ok > /www/index.html; sleep 2; touch /started; exec httpd -f -h /www -p 8080"]
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {exec: {command: [cat, /started]}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {httpGet: {port: http, path: /ready.html}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: dying}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - name: main
    image: %[1]s
    command: [sh, -c, "trap '' TERM; touch /alive; while :; do sleep 1; done"]
    livenessProbe: {exec: {command: [cat, /alive]}, periodSeconds: 1, failureThreshold: 1, initialDelaySeconds: 1, terminationGracePeriodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: main
    image: %[1]s
    command: [sh, -c, "while :; do printf 'HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n' | nc -l -p 8080 >/dev/null; done"]
    readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1, failureThreshold: 100}
`, s.image))
	// Started once its startup probe has passed, ready only with the page that the readiness probe asks for.
	p := s.waitPod("probed", 60*time.Second, func(p *pod) error {
		if cs := p.Status.ContainerStatuses; len(cs) != 1 || cs[0].Started == nil || !*cs[0].Started {
			return fmt.Errorf("not started: %+v", cs)
		}
		return nil
	})
	if ready(p).Status == corev1.ConditionTrue {
		t.Error("ready, though the readiness probe cannot have passed")
	}
	s.says([]string{"get", "events"}, "Startup probe failed", "Readiness probe failed: HTTP probe failed with statuscode: 404")
	s.do("exec", "probed", "--", "touch", "/www/ready.html")
	s.waitReady("probed")
	s.do("exec", "probed", "--", "rm", "/www/ready.html")
	s.do("wait", "--for=condition=Ready=false", "pod/probed", "--timeout=60s")
	if n := s.pod("probed").Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("restartCount is %d, though only the readiness probe failed", n)
	}

	// Its own grace of one second counts, not the pod's of ten minutes.
	s.waitReady("dying")
	s.do("exec", "dying", "--", "rm", "/alive")
	s.waitPod("dying", 60*time.Second, func(p *pod) error {
		cs := p.Status.ContainerStatuses[0]
		if end := cs.LastTerminationState.Terminated; cs.RestartCount < 1 || end == nil || end.ExitCode != 137 {
			return fmt.Errorf("not killed and restarted: %+v", cs)
		}
		return nil
	})
	s.says([]string{"get", "events"}, "Liveness probe failed: cat: ", "Container main failed liveness probe, will be restarted")
	s.do("delete", "pod", "dying", "--grace-period=1", "--timeout=60s") // the namespace would wait for ten minutes

	s.waitReady("elsewhere")
	s.says([]string{"get", "events"}, "ProbeWarning", "Readiness probe warning: Probe terminated redirects")
}

// TestHooksSignalsAndDeadlines: what is run after the start and before the end, and how an end comes about.
func TestHooksSignalsAndDeadlines(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  os: {name: linux}
  terminationGracePeriodSeconds: 30
  volumes: [{name: shared, hostPath: {path: %[2]s, type: DirectoryOrCreate}}]
  containers:
  - name: main
    image: %[1]s
    command: [sh, -c, "trap 'echo usr1 >> /shared/log; exit 0' USR1; while :; do sleep 0.2; done"]
    lifecycle:
      stopSignal: SIGUSR1
      postStart: {exec: {command: [sh, -c, "echo post >> /shared/log"]}}
      preStop: {exec: {command: [sh, -c, "echo pre >> /shared/log"]}}
    volumeMounts: [{name: shared, mountPath: /shared}]
---
apiVersion: v1
kind: Pod
metadata: {name: badly-hooked}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: main
    image: %[1]s
    command: [sh, -c, %[3]q]
    lifecycle: {postStart: {exec: {command: ["false"]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  activeDeadlineSeconds: 3
  terminationGracePeriodSeconds: 2
  containers: [{name: main, image: %[1]s, command: [sh, -c, %[3]q]}]
---
apiVersion: v1
kind: Pod
metadata: {name: never}
spec:
  containers: [{name: main, image: %[4]s/absent:1, imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: misnamed}
spec:
  containers: [{name: main, image: "example.test/UPPER:1"}]
`, s.image, t.TempDir(), sleeper, s.registry))
	s.waitReady("hooked")
	p := s.pod("hooked")
	shared := p.Spec.Volumes[0].HostPath.Path
	s.do("delete", "pod", "hooked", "--timeout=60s")
	if got := readFile(t, shared+"/log"); got != "post\npre\nusr1\n" {
		t.Errorf("hooks and the stop signal came as %q", got)
	}
	s.waitPod("badly-hooked", 60*time.Second, func(p *pod) error {
		if n := p.Status.ContainerStatuses[0].RestartCount; n < 1 {
			return fmt.Errorf("restartCount %d", n)
		}
		return nil
	})
	s.says([]string{"get", "events"}, "FailedPostStartHook")
	late := s.waitPod("late", 60*time.Second, phase(corev1.PodFailed))
	if late.Status.Reason != "DeadlineExceeded" {
		t.Errorf("a pod over its deadline has failed for %q: %s", late.Status.Reason, late.Status.Message)
	}
	s.waitPod("never", 60*time.Second, waitingReason("ErrImageNeverPull"))
	s.waitPod("misnamed", 60*time.Second, waitingReason("InvalidImageName"))
	s.says([]string{"get", "events"}, "is not present with pull policy of Never", "InspectFailed", `Failed to apply default image tag "example.test/UPPER:1"`)
}

// TestNodeAdmission: pods that were bound without asking the scheduler, and that this node cannot run.
func TestNodeAdmission(t *testing.T) {
	s := newSpace(t)
	bound := func(name, more string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  nodeName: %s\n  terminationGracePeriodSeconds: 2\n%s  containers:\n  - name: main\n    image: %s\n    command: [sh, -c, %q]\n",
			name, s.node, indent(more, "  ")+"\n", s.image, sleeper)
	}
	port := "    ports: [{containerPort: 80, hostPort: 48123}]\n"
	s.apply(bound("first", "") + port)
	s.waitReady("first")
	s.apply(bound("greedy", "") + "    resources: {requests: {cpu: \"4000\"}}\n")
	s.apply(bound("choosy", "nodeSelector: {disk: nowhere}"))
	s.apply(bound("second", "") + port)
	s.apply(bound("tuned", "securityContext: {sysctls: [{name: net.core.somaxconn, value: \"100\"}]}"))
	for name, want := range map[string][2]string{
		"greedy": {"OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 4000000, used: "},
		"choosy": {"NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		"second": {"NodePorts", "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		"tuned":  {"SysctlForbidden", `Pod was rejected: forbidden sysctl: "net.core.somaxconn" not allowlisted`},
	} {
		p := s.waitPod(name, 60*time.Second, phase(corev1.PodFailed))
		if p.Status.Reason != want[0] || !strings.HasPrefix(p.Status.Message, want[1]) || len(p.Status.ContainerStatuses) != 0 {
			t.Errorf("pod %s was turned away with %q: %s, containers %+v", name, p.Status.Reason, p.Status.Message, p.Status.ContainerStatuses)
		}
		s.says([]string{"get", "events", "--field-selector", "involvedObject.name=" + name}, want[0])
	}
	// What was turned away does not come back with the agent, and what runs is not judged again.
	restart(t, s.agent)
	if err := s.waitNodeReady(60 * time.Second); err != nil {
		t.Fatal(err)
	}
	s.waitReady("first")
	if p := s.pod("second"); p.Status.Reason != "NodePorts" {
		t.Errorf("after a restart of the agent: %+v", p.Status)
	}
}

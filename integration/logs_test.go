package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What goes to stdout and to stderr at the same moment may come in either order: they are two pipes.
const talkers = `
apiVersion: v1
kind: Pod
metadata: {name: talkers, labels: {app: talkers}}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: OnFailure
  initContainers:
  - {name: before, image: %[1]s, command: ["sh", "-c", "echo init speaks"]}
  containers:
  - name: once
    image: %[1]s
    command: ["sh", "-c", "if test -e /state/x; then echo second run; sleep 100000; fi; touch /state/x; echo first run; sleep 1; echo trouble >&2; exit 1"]
    volumeMounts: [{name: state, mountPath: /state}]
  - name: steady
    image: %[1]s
    command: ["sh", "-c", "for i in $(seq 1 20); do echo line $i; done; sleep 1; echo err 1 >&2; echo err 2 >&2; sleep 100000"]
  volumes: [{name: state, emptyDir: {}}]
`

// TestLogs asks for a log in every way there is.
func TestLogs(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(talkers, s.image))
	s.waitPod("talkers", 60*time.Second, func(p *pod) error {
		if len(p.Status.ContainerStatuses) != 2 {
			return fmt.Errorf("statuses: %+v", p.Status.ContainerStatuses)
		}
		for _, cs := range p.Status.ContainerStatuses {
			if cs.State.Running == nil || cs.Name == "once" && cs.RestartCount == 0 {
				return fmt.Errorf("container %s: %+v", cs.Name, cs.State)
			}
		}
		return nil
	})
	s.eventually(30*time.Second, func() error {
		if got := s.do("logs", "talkers", "-c", "steady", "--tail=1"); got != "err 2\n" {
			return fmt.Errorf("the last line is %q", got)
		}
		if got := s.do("logs", "talkers", "-c", "once"); got != "second run\n" {
			return fmt.Errorf("the second run said %q", got)
		}
		return nil
	})
	lines := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		return b.String()
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"talkers", "-c", "before"}, "init speaks\n"},
		{[]string{"talkers", "-c", "once"}, "second run\n"},
		{[]string{"talkers", "-c", "once", "--previous"}, "first run\ntrouble\n"},
		{[]string{"talkers", "-c", "steady", "--tail=3"}, "line 20\nerr 1\nerr 2\n"},
		{[]string{"talkers", "-c", "steady", "--tail=0"}, ""},
		{[]string{"talkers", "-c", "steady", "--tail=-1"}, lines(1, 20) + "err 1\nerr 2\n"},
		{[]string{"talkers", "-c", "steady", "--limit-bytes=10"}, "line 1\nlin"},
		{[]string{"talkers", "-c", "steady", "--since=1h"}, lines(1, 20) + "err 1\nerr 2\n"},
		{[]string{"talkers", "-c", "steady", "--since-time=2100-01-01T00:00:00Z"}, ""},
		{[]string{"talkers", "-c", "steady", "--insecure-skip-tls-verify-backend", "--tail=1"}, "err 2\n"},
		{[]string{"-l", "app=talkers", "-c", "steady", "--tail=1", "--prefix"}, "[pod/talkers/steady] err 2\n"},
	} {
		if got := s.do(append([]string{"logs"}, test.args...)...); got != test.want {
			t.Errorf("logs %s printed %q, want %q", strings.Join(test.args, " "), got, test.want)
		}
	}
	all := s.do("logs", "talkers", "--all-containers", "--prefix")
	s.wantContains(all, "[pod/talkers/before] init speaks", "[pod/talkers/once] second run", "[pod/talkers/steady] line 20")
	stamped := s.do("logs", "talkers", "-c", "steady", "--timestamps", "--tail=1")
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) err 2\n$`).MatchString(stamped) {
		t.Errorf("logs --timestamps printed %q", stamped)
	}
	path := "/api/v1/namespaces/" + s.name + "/pods/talkers/log?container=steady"
	if got := s.do("get", "--raw", path+"&stream=Stderr"); got != "err 1\nerr 2\n" {
		t.Errorf("the log of stderr alone: %q", got)
	}
	if got := s.do("get", "--raw", path+"&stream=Stdout"); got != lines(1, 20) {
		t.Errorf("the log of stdout alone: %q", got)
	}
	for args, want := range map[string]string{
		"talkers -c steady --previous": `previous terminated container "steady" in pod "talkers" not found`,
		"talkers -c nobody":            "container nobody is not valid for pod talkers",
		"nobody":                       `pods "nobody" not found`,
	} {
		s.wantContains(s.refused(append([]string{"logs"}, strings.Fields(args)...)...), want)
	}
	s.wantContains(s.refused("get", "--raw", path+"&tailLines=-3"), "tailLines")
	s.wantContains(s.refused("get", "--raw", path+"&sinceSeconds=1&sinceTime=2100-01-01T00:00:00Z"), "at most one of")
	s.notStarted(t)
}

// notStarted asks for the logs of containers that do not run yet.
func (s *space) notStarted(t *testing.T) {
	t.Helper()
	s.apply(fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: no-image}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: %q}]}}", s.registry+"/no-such-image:1"))
	s.apply(fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: no-config}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: %q, envFrom: [{configMapRef: {name: none}}]}]}}", s.image))
	s.apply(fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: initial}, spec: {terminationGracePeriodSeconds: 0, initContainers: [{name: i, image: %[1]q, command: [sleep, '1000']}], containers: [{name: c, image: %[1]q}]}}", s.image))
	s.apply(fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: nowhere}, spec: {nodeSelector: {no: where}, containers: [{name: c, image: %q}]}}", s.image))
	for name, want := range map[string]string{
		"no-image":  `container "c" in pod "no-image" is waiting to start: (image can't be pulled|trying and failing to pull image)`,
		"no-config": `container "c" in pod "no-config" is waiting to start: CreateContainerConfigError`,
		"initial":   `container "c" in pod "initial" is waiting to start: PodInitializing`,
	} {
		s.eventually(60*time.Second, func() error {
			out, err := s.kubectl("logs", name, "-c", "c")
			if err == nil || !regexp.MustCompile(want).MatchString(err.Error()) {
				return fmt.Errorf("logs %s: %q %w, want %q", name, out, err, want)
			}
			return nil
		})
	}
	if got := s.do("logs", "nowhere"); got != "" {
		t.Errorf("the log of a pod on no node: %q", got)
	}
}

// TestLogsFollowRotation follows a log through rotations, and reads the rotated files afterwards.
func TestLogsFollowRotation(t *testing.T) {
	s := newSpace(t)
	// 32 MB with their stamps: in files of 10 MiB that is four of them, three of which are rotated.
	const lines = 600000
	s.apply(s.busybox("flood", fmt.Sprintf("sleep 1; seq -w 1 %d; sleep 1", lines)) + "\n  restartPolicy: Never\n")
	s.waitPod("flood", 30*time.Second, func(p *pod) error { return started(p) })
	followed := s.do("logs", "-f", "flood")
	check := func(how, text string) {
		t.Helper()
		got := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if len(got) != lines {
			t.Fatalf("%s: %d lines, want %d", how, len(got), lines)
		}
		for i, line := range got {
			if want := fmt.Sprintf("%06d", i+1); line != want {
				t.Fatalf("%s: line %d is %q, want %q", how, i+1, line, want)
			}
		}
	}
	check("followed", followed)
	check("read afterwards", s.do("logs", "flood"))
	if got := s.do("logs", "flood", "--tail=300000"); len(strings.Split(got, "\n")) != 300001 || !strings.HasPrefix(got, fmt.Sprintf("%06d\n", lines-300000+1)) {
		t.Errorf("the last half begins %q and has %d lines", got[:min(len(got), 80)], strings.Count(got, "\n"))
	}
}

package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"coracle/internal/testimage"
)

func TestInitContainersAndRestartPolicies(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: order}
spec:
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: first, image: %[1]s, command: [sh, -c, "echo first >> /shared/log"], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: second, image: %[1]s, command: [sh, -c, "echo second >> /shared/log"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - {name: main, image: %[1]s, command: [sh, -c, "cat /shared/log; exit 3"], volumeMounts: [{name: shared, mountPath: /shared}]}
`, s.image))
	p := s.waitPod("order", 60*time.Second, phase(corev1.PodFailed))
	if got := s.do("logs", "order", "-c", "main"); got != "first\nsecond\n" {
		t.Errorf("init containers wrote %q", got)
	}
	if end := p.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != 3 || end.Reason != "Error" {
		t.Errorf("main ended as %+v, want exit code 3, reason Error", end)
	}
	s.wantContains(s.do("get", "pod", "order"), "Error")

	s.apply(s.busybox("once", "exit 0") + "\n")
	// restartPolicy Always: a container that ends is started again, with back-off.
	p = s.waitPod("once", 60*time.Second, waitingReason("CrashLoopBackOff"))
	if p.Status.ContainerStatuses[0].RestartCount < 1 || p.Status.ContainerStatuses[0].LastTerminationState.Terminated == nil {
		t.Errorf("a container in CrashLoopBackOff has status %+v", p.Status.ContainerStatuses[0])
	}
	s.says([]string{"get", "pod", "once"}, "CrashLoopBackOff")
	s.says([]string{"describe", "pod", "once"}, "Back-off restarting failed container")

	s.apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: job}\nspec:\n  restartPolicy: OnFailure\n  containers: [{name: main, image: %s, command: ['true']}]\n", s.image))
	s.waitPod("job", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantContains(s.do("get", "pod", "job"), "Completed")
}

func TestEnvironmentVolumesAndSecurity(t *testing.T) {
	s := newSpace(t)
	s.do("create", "configmap", "settings", "--from-literal=colour=blue", "--from-literal=file.txt=from a configmap")
	s.do("create", "secret", "generic", "key", "--from-literal=password=hunter2")
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: full, labels: {tier: test}, annotations: {note: hello}}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}
  volumes:
  - {name: config, configMap: {name: settings, items: [{key: file.txt, path: sub/renamed.txt}]}}
  - {name: secret, secret: {secretName: key, defaultMode: 0440}}
  - {name: scratch, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
  - {name: host, hostPath: {path: /etc/hostname, type: File}}
  - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  containers:
  - name: main
    image: %s
    workingDir: /tmp
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: SENTENCE, value: "$(POD) is $(COLOUR), $$(COLOUR) is not"}
    envFrom: [{secretRef: {name: key}, prefix: S_}]
    resources: {requests: {cpu: 10m}, limits: {memory: 32Mi, cpu: 500m}}
    command: [sh, -c]
    args:
    - |
      echo "$SENTENCE"; echo "secret=$S_password limit=$LIMIT"; echo "pwd=$(pwd) id=$(id -u):$(id -g) groups=$(id -G)"
      cat /config/sub/renamed.txt; echo; stat -L -c '%%a %%g' /secret/password; cat /info/labels; echo
      touch /scratch/x && stat -c '%%g' /scratch && mount | grep -c ' /scratch type tmpfs'
      cat /host | head -c 1 >/dev/null && echo host file read
      ls /var/run/secrets/kubernetes.io/serviceaccount | tr '\n' ' '; echo; hostname; test -n "$IP" && grep "$IP" /etc/hosts | tr '\t' ' '
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: secret, mountPath: /secret}
    - {name: scratch, mountPath: /scratch}
    - {name: host, mountPath: /host, readOnly: true}
    - {name: info, mountPath: /info}
`, s.image))
	p := s.waitPod("full", 60*time.Second, func(p *pod) error {
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			return fmt.Errorf("pod is %s", p.Status.Phase)
		}
		return nil
	})
	s.wantContains(s.do("logs", "full"),
		"full is blue, $(COLOUR) is not\n", "secret=hunter2 limit=32\n", "pwd=/tmp id=1000:1000", "2000",
		"from a configmap\n", "440 2000\n", `tier="test"`, "host file read\n", "ca.crt namespace token", "\nfull\n", p.Status.PodIP+" full\n")
	if p.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("QoS class is %s, want Burstable", p.Status.QOSClass)
	}
}

func TestConfigMapUpdateReachesARunningContainer(t *testing.T) {
	s := newSpace(t)
	s.do("create", "configmap", "live", "--from-literal=v=one")
	s.apply(s.busybox("reader", sleeper, "volumeMounts: [{name: c, mountPath: /c}]") + "\n  volumes: [{name: c, configMap: {name: live}}]\n")
	s.waitReady("reader")
	s.do("patch", "configmap", "live", "--type=merge", "-p", `{"data":{"v":"two"}}`)
	s.eventually(30*time.Second, func() error {
		if got, err := s.kubectl("exec", "reader", "--", "cat", "/c/v"); err != nil || got != "two" {
			return fmt.Errorf("container reads %q, %w", got, err)
		}
		return nil
	})
}

func TestTermination(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("polite", "trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done"))
	s.apply(strings.Replace(s.busybox("stubborn", "trap '' TERM; while :; do sleep 1; done"), "terminationGracePeriodSeconds: 2", "terminationGracePeriodSeconds: 600", 1))
	s.waitReady("polite", "stubborn")
	s.do("delete", "pod", "polite", "--timeout=30s")
	// A second delete shortens the first one's grace.
	s.do("delete", "pod", "stubborn", "--wait=false")
	s.waitPod("stubborn", 20*time.Second, func(p *pod) error {
		if p.DeletionTimestamp == nil {
			return fmt.Errorf("no deletionTimestamp")
		}
		return nil
	})
	s.wantContains(s.do("get", "pod", "stubborn"), "Terminating")
	s.do("delete", "pod", "stubborn", "--grace-period=1", "--timeout=30s")

	s.apply(strings.Replace(s.busybox("forced", "trap '' TERM; while :; do sleep 1; done"), "terminationGracePeriodSeconds: 2", "terminationGracePeriodSeconds: 600", 1))
	s.waitReady("forced")
	id := strings.TrimPrefix(s.pod("forced").Status.ContainerStatuses[0].ContainerID, "containerd://")
	s.do("delete", "pod", "forced", "--force", "--grace-period=0")
	s.eventually(30*time.Second, func() error {
		out, err := output(nil, "", "ctr", "--address", s.containerdSocket(), "--namespace", "coracle", "containers", "list", "--quiet")
		if err == nil && strings.Contains(out, id) {
			return fmt.Errorf("container %s of a pod deleted by force is still there", id)
		}
		return err
	})
}

func TestTerminationMessageAndOOM(t *testing.T) {
	s := newSpace(t)
	s.apply(strings.Replace(s.busybox("last-words", "echo -n it was the disk > /dev/termination-log; exit 1"), "terminationGracePeriodSeconds", "restartPolicy: Never\n  terminationGracePeriodSeconds", 1))
	p := s.waitPod("last-words", 30*time.Second, phase(corev1.PodFailed))
	if got := p.Status.ContainerStatuses[0].State.Terminated.Message; got != "it was the disk" {
		t.Errorf("termination message is %q", got)
	}
	s.apply(strings.Replace(s.busybox("greedy", "tail -c 200m /dev/zero", "resources: {limits: {memory: 16Mi}}"), "terminationGracePeriodSeconds", "restartPolicy: Never\n  terminationGracePeriodSeconds", 1))
	p = s.waitPod("greedy", 60*time.Second, phase(corev1.PodFailed))
	if end := p.Status.ContainerStatuses[0].State.Terminated; end == nil || end.Reason != "OOMKilled" || end.ExitCode != 137 {
		t.Errorf("a container over its memory limit ended as %+v", end)
	}
}

func TestPrivateRegistry(t *testing.T) {
	s := newSpace(t)
	private, err := startPrivateRegistry(t)
	if err != nil {
		t.Fatal(err)
	}
	ref := private.address + "/secret/app:1"
	if err := testimage.Push(context.Background(), ref, testimage.Busybox("/bin/busybox", []string{"sh", "sleep"}), private.login()); err != nil {
		t.Fatal(err)
	}
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{name: main, image: %s, command: [sleep, '600']}]\n%s"
	s.apply(fmt.Sprintf(manifest, "stranger", ref, ""))
	s.waitPod("stranger", 60*time.Second, waitingReason("ImagePullBackOff"))
	s.do("create", "secret", "docker-registry", "pull", "--docker-server="+private.address, "--docker-username="+private.user, "--docker-password="+private.password)
	s.apply(fmt.Sprintf(manifest, "friend", ref, "  imagePullSecrets: [{name: pull}]\n"))
	s.waitReady("friend")
}

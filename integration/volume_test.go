package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// ended waits until the pod's containers have ended well and returns what it printed.
func (s *space) ended(pod string) string {
	s.t.Helper()
	s.waitPod(pod, 60*time.Second, phase(corev1.PodSucceeded))
	return s.do("logs", pod)
}

// wantEvent waits for an event of the pod whose reason and message contain these texts.
func (s *space) wantEvent(pod, reason, text string) {
	s.t.Helper()
	s.eventually(60*time.Second, func() error {
		out, err := s.kubectl("get", "events", "--field-selector", "involvedObject.name="+pod, "-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, reason+":") && strings.Contains(line, text) {
				return nil
			}
		}
		return fmt.Errorf("pod %s has no event %s with %q:\n%s", pod, reason, text, out)
	})
}

func TestEmptyDirsAreShared(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: empties}
spec:
  restartPolicy: Never
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: small, emptyDir: {medium: Memory, sizeLimit: 4Mi}}
  - {name: memory, emptyDir: {medium: Memory}}
  initContainers:
  - name: writer
    image: %[1]s
    securityContext: {runAsUser: 1000, runAsGroup: 1000}
    resources: {limits: {memory: 16Mi}}
    command: [sh, -c, "umask 0; for d in /disk /small /memory; do echo from a thousand > $d/f; chmod 0644 $d/f 2>/dev/null; done; true"]
    volumeMounts: &mounts [{name: disk, mountPath: /disk}, {name: small, mountPath: /small}, {name: memory, mountPath: /memory}]
  containers:
  - name: main
    image: %[1]s
    securityContext: {runAsUser: 2000, runAsGroup: 2000}
    resources: {limits: {memory: 24Mi}}
    command: [sh, -c]
    args:
    - |
      for d in /disk /small /memory; do stat -c '%%n %%a' $d; cat $d/f; touch $d/mine && echo $d shared; done
      mount | grep -E ' /(small|memory) ' | cut -d ' ' -f 3-6
      dd if=/dev/zero of=/small/big bs=1M count=8 2>/dev/null && echo too much || echo small is full
      test -e /disk/big || echo disk is apart
    volumeMounts: [{name: disk, mountPath: /disk}, {name: small, mountPath: /small}, {name: memory, mountPath: /memory}]
`, s.image))
	s.wantContains(s.ended("empties"), "/disk 777\nfrom a thousand\n/disk shared\n", "/small 777\nfrom a thousand\n/small shared\n",
		"/small type tmpfs (rw,", "size=4096k", "size=24576k", "small is full\n", "disk is apart\n")
}

func TestContentOfVolumesFollowsItsSources(t *testing.T) {
	s := newSpace(t)
	s.do("create", "configmap", "present", "--from-literal=key=one", "--from-literal=other=x")
	s.do("create", "secret", "generic", "present", "--from-literal=key=one")
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: live, labels: {stage: first}}
spec:
  terminationGracePeriodSeconds: 2
  securityContext: {runAsUser: 1000, fsGroup: 1001}
  volumes:
  - {name: cm-later, configMap: {name: later, optional: true}}
  - {name: secret-later, secret: {secretName: later, optional: true}}
  - {name: secret, secret: {secretName: present, optional: true, defaultMode: 0400}}
  - name: all
    projected:
      defaultMode: 0440
      sources:
      - {configMap: {name: present, items: [{key: key, path: cm/key, mode: 0444}]}}
      - {configMap: {name: later, optional: true, items: [{key: key, path: cm/later}]}}
      - {secret: {name: present, items: [{key: key, path: secret/key}]}}
      - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}}]}}
      - {serviceAccountToken: {path: token, expirationSeconds: 600, audience: somebody}}
  containers:
  - name: main
    image: %s
    command: [sh, -c, %q]
    resources: {limits: {cpu: 1500m, memory: 32Mi}}
    volumeMounts:
    - {name: cm-later, mountPath: /cm-later}
    - {name: secret-later, mountPath: /secret-later}
    - {name: secret, mountPath: /secret}
    - {name: all, mountPath: /all}
`, s.image, sleeper))
	s.waitReady("live")
	reads := func(want string, command ...string) {
		t.Helper()
		s.eventually(60*time.Second, func() error {
			got, err := s.kubectl(append([]string{"exec", "live", "--"}, command...)...)
			if err != nil || !strings.Contains(got, want) {
				return fmt.Errorf("%v in the container says %q, want %q: %w", command, got, want, err)
			}
			return nil
		})
	}
	reads("one 444 1001", "sh", "-c", "cat /all/cm/key; stat -Lc ' %a %g' /all/cm/key")
	reads("one 440 1001", "sh", "-c", "cat /all/secret/key; stat -Lc ' %a %g' /all/secret/key")
	reads("1500", "cat", "/all/cpu")
	reads("640 1001", "stat", "-Lc", "%a %g", "/all/token") // narrower than the others: 0600, and the group may read
	reads("440", "stat", "-Lc", "%a", "/secret/key")
	reads("denied", "sh", "-c", "ls /cm-later /secret-later | grep -v : | tr -d '\n'; echo x 2>&1 > /secret/new || echo denied")

	s.do("create", "configmap", "later", "--from-literal=key=appeared")
	s.do("create", "secret", "generic", "later", "--from-literal=key=appeared")
	s.do("patch", "configmap", "present", "--type=merge", "-p", `{"data":{"key":"two"}}`)
	s.do("patch", "secret", "present", "--type=merge", "-p", `{"stringData":{"key":"two"}}`)
	s.do("label", "pod", "live", "stage=second", "--overwrite")
	for _, file := range []string{"/cm-later/key", "/secret-later/key", "/all/cm/later"} {
		reads("appeared", "cat", file)
	}
	for _, file := range []string{"/all/cm/key", "/all/secret/key", "/secret/key"} {
		reads("two", "cat", file)
	}
	reads(`stage="second"`, "cat", "/all/labels")

	s.do("delete", "configmap", "later")
	s.do("delete", "secret", "later", "present")
	reads("No such file", "sh", "-c", "cat /cm-later/key 2>&1 || true")
	reads("No such file", "sh", "-c", "cat /secret-later/key 2>&1 || true")
	reads("No such file", "sh", "-c", "cat /secret/key 2>&1 || true")
	// A source that is not optional leaves what running containers have.
	reads("two", "cat", "/all/secret/key")
	s.wantEvent("live", "FailedMount", `MountVolume.SetUp failed for volume "all" : secret "present" not found`)
	if p := s.pod("live"); p.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("the container was restarted")
	}
}

func TestVolumesThatCannotBeMade(t *testing.T) {
	s := newSpace(t)
	s.do("create", "configmap", "cm", "--from-literal=key=v")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ volume, want string }{
		"hostpath-file":  {"hostPath: {path: " + dir + ", type: File}", "hostPath type check failed: " + dir + " is not a file"},
		"hostpath-dir":   {"hostPath: {path: " + file + ", type: Directory}", "hostPath type check failed: " + file + " is not a directory"},
		"hostpath-sock":  {"hostPath: {path: " + file + ", type: Socket}", "is not a socket file"},
		"hostpath-char":  {"hostPath: {path: " + file + ", type: CharDevice}", "is not a character device"},
		"hostpath-block": {"hostPath: {path: /dev/null, type: BlockDevice}", "is not a block device"},
		"cm-missing":     {"configMap: {name: nope}", `configmap "nope" not found`},
		"cm-key":         {"configMap: {name: cm, items: [{key: nope, path: p}]}", "configmap references non-existent config key: nope"},
		"secret-missing": {"secret: {secretName: nope}", `secret "nope" not found`},
	} {
		s.apply(s.busybox(name, sleeper, "volumeMounts: [{name: v, mountPath: /v}]") + "\n  volumes: [{name: v, " + tc.volume + "}]\n")
		defer s.wantEvent(name, "FailedMount", tc.want)
	}
	// What is missing is made, for the types that say so.
	s.apply(s.busybox("made", "test -f /f && test -d /d && test -d /x/deep && test -c /null && echo all there", `volumeMounts:
- {name: f, mountPath: /f}
- {name: d, mountPath: /d}
- {name: x, mountPath: /x}
- {name: device, mountPath: /null}`) + fmt.Sprintf(`
  restartPolicy: Never
  volumes:
  - {name: f, hostPath: {path: %[1]s/new-file, type: FileOrCreate}}
  - {name: d, hostPath: {path: %[1]s/a/b/new-dir, type: DirectoryOrCreate}}
  - {name: x, hostPath: {path: %[1]s/x}}
  - {name: device, hostPath: {path: /dev/null, type: CharDevice}}
  initContainers: [{name: i, image: %[2]s, command: [mkdir, /x/deep], volumeMounts: [{name: x, mountPath: /x}]}]
`, dir, s.image))
	s.wantContains(s.ended("made"), "all there")
}

func TestSubPaths(t *testing.T) {
	s := newSpace(t)
	s.do("create", "configmap", "cm", "--from-literal=key=from the map")
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: parts, annotations: {part: annotated}}
spec:
  restartPolicy: Never
  volumes: [{name: data, emptyDir: {}}, {name: cm, configMap: {name: cm}}]
  containers:
  - name: main
    image: %s
    env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: PART, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['part']"}}}
    command: [sh, -c]
    args:
    - |
      echo hello > /by-expr/file; cat /all/parts/annotated/file
      cat /etc/hostconf; echo; touch /etc/hostconf 2>/dev/null || echo read-only
      ls -A /missing | wc -l; stat -c '%%a' /all/plain; touch /ro/x 2>/dev/null || echo ro
      ls /missing/../all | tr '\n' ' '
    volumeMounts:
    - {name: data, mountPath: /all}
    - {name: data, mountPath: /by-expr, subPathExpr: $(POD)/$(PART)}
    - {name: data, mountPath: /plain, subPath: plain}
    - {name: data, mountPath: /ro, subPath: made/here, readOnly: true}
    - {name: cm, mountPath: /etc/hostconf, subPath: key}
    - {name: cm, mountPath: /missing, subPath: absent}
`, s.image))
	s.wantContains(s.ended("parts"), "hello\n", "from the map\nread-only\n", "\n0\n", "777\nro\n", "made parts plain")

	// A link that leads out of the volume is not followed; an expression that cannot be resolved says which value is missing.
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: escape}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: data, emptyDir: {}}]
  initContainers: [{name: evil, image: %[1]s, command: [busybox, ln, -s, /etc, /data/out], volumeMounts: [{name: data, mountPath: /data}]}]
  containers: [{name: main, image: %[1]s, command: [sh, -c, "cat /loot/passwd"], volumeMounts: [{name: data, mountPath: /loot, subPath: out}]}]
`, s.image))
	s.apply(s.busybox("expr", sleeper, `env: [{name: PART, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['part']"}}}]`,
		"volumeMounts: [{name: data, mountPath: /d, subPathExpr: $(PART)}]") + "\n  volumes: [{name: data, emptyDir: {}}]\n")
	s.waitPod("escape", 60*time.Second, waitingReason("CreateContainerConfigError"))
	s.wantEvent("escape", "Failed", "leads out of the volume")
	s.waitPod("expr", 60*time.Second, waitingReason("CreateContainerConfigError"))
	s.wantEvent("expr", "Failed", "missing value for PART")
	s.do("annotate", "pod", "expr", "part=given")
	s.do("wait", "--for=condition=Ready", "pod/expr", "--timeout=90s")
}

// The machine's mounts, as far as a pod may see and change them.
func TestMountPropagationAndReadOnly(t *testing.T) {
	s := newSpace(t)
	dir := t.TempDir()
	for _, d := range []string{"outer", "outer/inner", "shared"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	outer, shared := filepath.Join(dir, "outer"), filepath.Join(dir, "shared")
	mount := func(source, target, kind string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(source, target, kind, flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount("tmpfs", filepath.Join(outer, "inner"), "tmpfs", 0)
	mount(shared, shared, "", unix.MS_BIND)
	mount("", shared, "", unix.MS_SHARED)
	t.Cleanup(func() {
		for _, p := range []string{filepath.Join(outer, "inner"), filepath.Join(shared, "by-pod"), filepath.Join(shared, "by-host"), shared} {
			_ = unix.Unmount(p, unix.MNT_DETACH) // those that a failed test has not made are not there
		}
	})
	s.apply(s.busybox("ro", "for d in plain deep maybe; do touch /$d/x 2>/dev/null && echo $d outer writable; touch /$d/inner/x 2>/dev/null && echo $d inner writable; done; "+sleeper, `volumeMounts:
- {name: v, mountPath: /plain, readOnly: true}
- {name: v, mountPath: /deep, readOnly: true, recursiveReadOnly: Enabled}
- {name: v, mountPath: /maybe, readOnly: true, recursiveReadOnly: IfPossible}`) + "\n  volumes: [{name: v, hostPath: {path: " + outer + "}}]\n")
	s.waitReady("ro")
	s.eventually(60*time.Second, func() error {
		if got := s.do("logs", "ro"); got != "plain inner writable\n" {
			return fmt.Errorf("the container printed %q", got)
		}
		return nil
	})
	modes := map[string]string{}
	for _, m := range s.pod("ro").Status.ContainerStatuses[0].VolumeMounts {
		if m.RecursiveReadOnly != nil {
			modes[m.MountPath] = string(*m.RecursiveReadOnly)
		}
	}
	if modes["/plain"] != "Disabled" || modes["/deep"] != "Enabled" || modes["/maybe"] != "Enabled" {
		t.Errorf("status says of recursiveReadOnly: %v", modes)
	}

	volume := "\n  volumes: [{name: v, hostPath: {path: " + shared + "}}]\n"
	s.refused("run", "x", "--image", s.image, "--overrides", `{"spec":{"containers":[{"name":"x","image":"`+s.image+`","volumeMounts":[{"name":"v","mountPath":"/v","mountPropagation":"Bidirectional"}]}],"volumes":[{"name":"v","emptyDir":{}}]}}`)
	s.apply(s.busybox("maker", "mkdir /v/by-pod && mount -t tmpfs made /v/by-pod && touch /v/by-pod/file; "+sleeper,
		"securityContext: {privileged: true}", "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]") + volume)
	s.apply(s.busybox("follower", sleeper, "volumeMounts: [{name: v, mountPath: /v, mountPropagation: HostToContainer}]") + volume)
	s.apply(s.busybox("apart", sleeper, "volumeMounts: [{name: v, mountPath: /v}]") + volume)
	s.waitReady("maker", "follower", "apart")
	s.eventually(60*time.Second, func() error { _, err := os.Stat(filepath.Join(shared, "by-pod/file")); return err })
	if err := os.Mkdir(filepath.Join(shared, "by-host"), 0o755); err != nil {
		t.Fatal(err)
	}
	mount("tmpfs", filepath.Join(shared, "by-host"), "tmpfs", 0)
	if err := os.WriteFile(filepath.Join(shared, "by-host/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for pod, want := range map[string]string{"maker": "file", "follower": "file", "apart": ""} {
		if got := strings.TrimSpace(s.do("exec", pod, "--", "ls", "/v/by-host")); got != want {
			t.Errorf("pod %s sees %q in what the host has mounted, want %q", pod, got, want)
		}
	}
	// A mount that is not shared cannot carry anything back.
	s.apply(s.busybox("private", sleeper, "securityContext: {privileged: true}", "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]") +
		"\n  volumes: [{name: v, hostPath: {path: " + filepath.Join(outer, "inner") + "}}]\n")
	s.waitPod("private", 60*time.Second, waitingReason("CreateContainerError"))
	s.wantEvent("private", "Failed", "is not a shared mount")
	s.do("delete", "pod", "maker", "follower", "apart", "private", "--timeout=60s")
}

// An init container writes the environment of the next.
func TestEnvironmentFromAFile(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: handed}
spec:
  restartPolicy: Never
  volumes: [{name: env, emptyDir: {}}]
  initContainers:
  - name: writer
    image: %[1]s
    command: [sh, -c, "printf \"# made at start\\nTOKEN='of the day'\\n\" > /env/settings"]
    volumeMounts: [{name: env, mountPath: /env}]
  containers:
  - name: main
    image: %[1]s
    env:
    - {name: TOKEN, valueFrom: {fileKeyRef: {volumeName: env, path: settings, key: TOKEN}}}
    - {name: NONE, valueFrom: {fileKeyRef: {volumeName: env, path: settings, key: NONE, optional: true}}}
    command: [sh, -c, "echo \"$TOKEN ${NONE-unset}\""]
`, s.image))
	if got := s.ended("handed"); got != "of the day unset\n" {
		t.Errorf("the container printed %q", got)
	}
}

// Many volumes of one kind in many pods at once.
func TestManyConfigMaps(t *testing.T) {
	s := newSpace(t)
	const maps, pods = 30, 4
	var manifest, volumes, mounts strings.Builder
	for i := range maps {
		fmt.Fprintf(&manifest, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm-%[1]d}\ndata: {key: 'value %[1]d'}\n---\n", i)
		fmt.Fprintf(&volumes, "  - {name: v%[1]d, configMap: {name: cm-%[1]d}}\n", i)
		fmt.Fprintf(&mounts, "\n- {name: v%[1]d, mountPath: /v/%[1]d}", i)
	}
	s.apply(manifest.String())
	for i := range pods {
		s.apply(s.busybox(fmt.Sprintf("many-%d", i), "cat /v/*/key | tr -d '\n' | wc -c; "+sleeper, "volumeMounts:"+mounts.String()) + "\n  volumes:\n" + volumes.String())
	}
	for i := range pods {
		name := fmt.Sprintf("many-%d", i)
		s.waitReady(name)
		s.eventually(60*time.Second, func() error {
			if got, want := s.do("logs", name), "230\n"; got != want { // 10 of 7 characters, 20 of 8
				return fmt.Errorf("pod %s read %q, want %q", name, got, want)
			}
			return nil
		})
	}
}

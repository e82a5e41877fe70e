package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"coracle/internal/testimage"
)

// secured is a pod of containers named by the tests' subjects; each prints its section and ends.
func (s *space) secured(pod, podLevel string, containers ...string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  restartPolicy: Never\n%s\n  containers:\n%s\n",
		pod, indent(podLevel, "  "), strings.Join(containers, "\n"))
}

func (s *space) container(name, security, command string) string {
	return fmt.Sprintf("  - name: %s\n    image: %s\n    securityContext: %s\n    command: [sh, -c, %q]", name, s.image, security, command)
}

// wantLogs compares what containers of an ended pod have printed.
func (s *space) wantLogs(pod string, want map[string]string) {
	s.t.Helper()
	for container, text := range want {
		if got := s.do("logs", pod, "-c", container); got != text {
			s.t.Errorf("container %s of pod %s printed\n%s\nwant\n%s", container, pod, got, text)
		}
	}
}

const (
	capEff  = "grep CapEff /proc/self/status | cut -f 2"
	noNew   = "grep NoNewPrivs /proc/self/status | cut -f 2"
	seccomp = "grep Seccomp: /proc/self/status | cut -f 2"
	whoAmI  = "echo $(id -u):$(id -g) $(id -G)"
)

func TestSecurityContexts(t *testing.T) {
	s := newSpace(t)
	profile := filepath.Join(s.dir, "kubelet", "seccomp", "profiles", "no-mkdir.json")
	if err := os.MkdirAll(filepath.Dir(profile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.apply(s.secured("rights", "",
		s.container("plain", "{}", capEff+";"+noNew+";"+seccomp),
		s.container("none", "{capabilities: {drop: [ALL]}}", capEff),
		s.container("one", "{capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}", capEff),
		s.container("more", "{capabilities: {add: [NET_ADMIN], drop: [CAP_CHOWN]}}", capEff+"; ip link add dummy type veth && echo link added; busybox chown 1 /tmp 2>/dev/null || echo no chown"),
		s.container("user", "{runAsUser: 1000, capabilities: {add: [NET_ADMIN]}}", capEff),
		s.container("bound", "{allowPrivilegeEscalation: false}", noNew),
		s.container("readonly", "{readOnlyRootFilesystem: true}", "touch /x 2>/dev/null || echo read-only; touch /dev/shm/x && echo shm"),
		s.container("default", "{seccompProfile: {type: RuntimeDefault}}", seccomp+"; busybox unshare -m true 2>/dev/null || echo no unshare"),
		s.container("unconfined", "{seccompProfile: {type: Unconfined}}", seccomp),
		s.container("local", "{seccompProfile: {type: Localhost, localhostProfile: profiles/no-mkdir.json}}", "mkdir /made 2>/dev/null || echo no mkdir"),
		s.container("masked", "{}", "head -c 1 /proc/kcore 2>/dev/null | wc -c; ls -A /sys/firmware | wc -l; echo 1 2>/dev/null > /proc/sys/kernel/panic || echo proc is read-only; touch /sys/x 2>/dev/null || echo sys is read-only; test $(ls /dev | wc -l) -lt 20 && echo few devices"),
		s.container("privileged", "{privileged: true}", "test -e /dev/full && test $(ls /dev | wc -l) -gt 20 && echo devices; grep Seccomp: /proc/self/status | cut -f 2; cat /proc/sys/kernel/panic > /proc/sys/kernel/panic && echo proc can be written; mkdir /m && mount -t tmpfs x /m && echo mounted"),
	))
	s.waitPod("rights", 90*time.Second, phase(corev1.PodSucceeded))
	s.wantLogs("rights", map[string]string{
		"plain":      "00000000a80425fb\n0\n0\n",
		"none":       "0000000000000000\n",
		"one":        "0000000000000400\n",
		"more":       "00000000a80435fa\nlink added\nno chown\n",
		"user":       "0000000000000000\n",
		"bound":      "1\n",
		"readonly":   "read-only\nshm\n",
		"default":    "2\nno unshare\n",
		"unconfined": "0\n",
		"local":      "no mkdir\n",
		"masked":     "0\n0\nproc is read-only\nsys is read-only\nfew devices\n",
		"privileged": "devices\n0\nproc can be written\nmounted\n",
	})
	s.apply(s.secured("lost-profile", "", s.container("main", "{seccompProfile: {type: Localhost, localhostProfile: not/there.json}}", "true")))
	s.waitPod("lost-profile", 60*time.Second, waitingReason("CreateContainerError"))
	s.wantEvent("lost-profile", "Failed", "seccomp/not/there.json: no such file or directory")
}

func TestUsersAndGroups(t *testing.T) {
	s := newSpace(t)
	named := s.registry + "/named:1"
	image := testimage.Busybox("/bin/busybox", []string{"sh", "id", "echo", "stat", "touch"})
	image.User = "web"
	if err := testimage.Push(t.Context(), named, image); err != nil {
		t.Fatal(err)
	}
	asNamed := func(c string) string { return strings.Replace(c, s.image, named, 1) }
	s.apply(s.secured("merge", "securityContext: {supplementalGroups: [3000], fsGroup: 4000}",
		asNamed(s.container("image", "{}", whoAmI)),
		s.container("root", "{}", whoAmI),
		s.container("user", "{runAsUser: 1000}", whoAmI),
		s.container("group", "{runAsUser: 1000, runAsGroup: 5000}", whoAmI),
		s.container("unknown", "{runAsUser: 777}", whoAmI)))
	s.apply(s.secured("strict", "securityContext: {supplementalGroups: [3000], supplementalGroupsPolicy: Strict, runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true}",
		s.container("main", "{}", whoAmI)))
	p := s.waitPod("merge", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantLogs("merge", map[string]string{
		"image": "1000:1000 1000 2000 3000 4000\n", "root": "0:0 0 3000 4000\n", "user": "1000:1000 1000 2000 3000 4000\n",
		"group": "1000:5000 5000 2000 3000 4000\n", "unknown": "777:0 0 3000 4000\n",
	})
	for _, cs := range p.Status.ContainerStatuses {
		if u := cs.User; cs.Name == "group" && (u == nil || u.Linux == nil || fmt.Sprint(*u.Linux) != "{1000 5000 [5000 2000 3000 4000]}") {
			t.Errorf("status says that container group runs as %+v", u)
		}
	}
	s.waitPod("strict", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantLogs("strict", map[string]string{"main": "1000:1000 1000 3000\n"})

	for name, tc := range map[string]struct{ container, want string }{
		"root-image":  {s.container("main", "{runAsNonRoot: true}", "true"), "container has runAsNonRoot and image will run as root"},
		"named-image": {asNamed(s.container("main", "{runAsNonRoot: true}", "true")), "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root"},
		"root-user":   {s.container("main", "{runAsNonRoot: true, runAsUser: 0}", "true"), "container's runAsUser breaks non-root policy"},
	} {
		s.apply(s.secured(name, "", tc.container))
		p := s.waitPod(name, 60*time.Second, waitingReason("CreateContainerConfigError"))
		s.wantContains(p.Status.ContainerStatuses[0].State.Waiting.Message, tc.want+fmt.Sprintf(` (pod: "%s_%s(%s)", container: main)`, name, s.name, p.UID))
	}
}

func TestNamesOfAPod(t *testing.T) {
	s := newSpace(t)
	print := "cat /etc/hosts; echo --; cat /etc/resolv.conf; echo --; hostname; cat /etc/hostname"
	run := func(name, podLevel string) {
		s.apply(s.secured(name, podLevel, s.container("main", "{}", print)))
	}
	run("aliases", "hostAliases: [{ip: 1.2.3.4, hostnames: [foo.local, bar.local]}]\nhostname: own\nsubdomain: sub")
	run("fqdn", "hostname: own\nsubdomain: sub\nsetHostnameAsFQDN: true")
	run("override", "hostnameOverride: quite.another")
	run("none", "dnsPolicy: None\ndnsConfig: {nameservers: [1.1.1.1], searches: [a.example, b.example], options: [{name: ndots, value: '2'}, {name: edns0}]}")
	run("plain", "dnsPolicy: Default")
	run("host", "hostNetwork: true\nhostAliases: [{ip: 1.2.3.4, hostnames: [foo.local]}]")
	s.apply(s.secured("own-file", "volumes: [{name: hosts, hostPath: {path: /etc/hosts, type: File}}]",
		s.container("managed", "{}", "cat /etc/hosts"),
		s.container("mounted", "{}", "cat /etc/hosts")+"\n    volumeMounts: [{name: hosts, mountPath: /etc/hosts}]"))
	s.apply(s.secured("toolong", "hostname: "+strings.Repeat("h", 50)+"\nsubdomain: sub\nsetHostnameAsFQDN: true", s.container("main", "{}", "true")))
	s.apply(s.secured("servers", "dnsPolicy: None\ndnsConfig: {nameservers: [1.1.1.1, 2.2.2.2, 3.3.3.3]}", s.container("main", "{}", "true")))

	p := s.waitPod("aliases", 60*time.Second, phase(corev1.PodSucceeded))
	domain := "sub." + s.name + ".svc.cluster.local"
	s.wantContains(s.do("logs", "aliases"), "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
		p.Status.PodIP+"\town."+domain+"\town\n\n# Entries added by HostAliases.\n1.2.3.4\tfoo.local\tbar.local\n--\n", "--\nown\nown\n",
		"search "+s.name+".svc.cluster.local svc.cluster.local cluster.local")
	s.waitPod("fqdn", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantContains(s.do("logs", "fqdn"), "\town."+domain+"\town\n", "--\nown."+domain+"\n")
	s.waitPod("override", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantContains(s.do("logs", "override"), "--\nquite.another\n")
	s.waitPod("none", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantContains(s.do("logs", "none"), "--\nsearch a.example b.example\nnameserver 1.1.1.1\noptions ndots:2 edns0\n--\nnone\n")
	machineHosts, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	s.waitPod("host", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantContains(s.do("logs", "host"), "# Kubernetes-managed hosts file (host network).\n"+string(machineHosts)+"\n# Entries added by HostAliases.\n1.2.3.4\tfoo.local\n--\n")
	s.waitPod("own-file", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantContains(s.do("logs", "own-file", "-c", "managed"), "# Kubernetes-managed hosts file.")
	s.wantLogs("own-file", map[string]string{"mounted": string(machineHosts)})
	s.waitPod("plain", 60*time.Second, phase(corev1.PodSucceeded))
	if got := s.do("logs", "plain"); strings.Contains(got, "cluster.local") {
		t.Errorf("dnsPolicy Default names the cluster:\n%s", got)
	}
	s.waitPod("servers", 60*time.Second, phase(corev1.PodSucceeded))
	s.wantEvent("toolong", "FailedCreatePodSandBox", "(64 characters is the max,")
	if p := s.pod("toolong"); p.Status.Phase != corev1.PodPending {
		t.Errorf("a pod whose name is too long is %s", p.Status.Phase)
	}
}

func TestSharedProcesses(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: apart}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: %[1]s, command: [sh, -c, %[2]q]}
---
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  terminationGracePeriodSeconds: 1
  shareProcessNamespace: true
  containers:
  - {name: main, image: %[1]s, command: [sh, -c, "sleep 4321"]}
  - {name: other, image: %[1]s, command: [sh, -c, %[2]q]}
`, s.image, sleeper))
	s.waitReady("apart", "together")
	s.wantContains(s.do("exec", "together", "-c", "other", "--", "ps"), "sleep 4321", "1 nobody   /init")
	// kubectl debug --target sees the target's processes and its root; without a target it does not.
	debug := func(name string, more ...string) {
		s.do(append([]string{"debug", "apart", "--image=" + s.image, "--container=" + name, "--profile=general"}, append(more, "--", "sh", "-c", "ps; ls /proc/1/root/bin/busybox; "+sleeper)...)...)
		s.waitPod("apart", 60*time.Second, func(p *pod) error {
			for _, cs := range p.Status.EphemeralContainerStatuses {
				if cs.Name == name && cs.State.Running != nil {
					return nil
				}
			}
			return fmt.Errorf("container %s does not run: %+v", name, p.Status.EphemeralContainerStatuses)
		})
	}
	debug("with", "--target=main")
	debug("without")
	s.eventually(60*time.Second, func() error {
		with, without := s.do("logs", "apart", "-c", "with"), s.do("logs", "apart", "-c", "without")
		if !strings.Contains(with, "1 root     sh -c trap") || !strings.Contains(with, "/proc/1/root/bin/busybox") || !strings.Contains(without, "1 root     sh -c ps") {
			return fmt.Errorf("with a target:\n%s\nwithout:\n%s", with, without)
		}
		return nil
	})
	s.do("delete", "pod", "apart", "together", "--timeout=30s")
}

func TestHostNamespaces(t *testing.T) {
	s := newSpace(t)
	own := func(ns string) string {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	for name, tc := range map[string]struct{ spec, same, other string }{
		"net": {"hostNetwork: true", "net uts", "ipc pid"},
		"pid": {"hostPID: true", "pid", "net ipc uts"},
		"ipc": {"hostIPC: true", "ipc", "net pid uts"},
	} {
		s.apply(s.secured("host-"+name, tc.spec, s.container("main", "{}", "for n in net uts ipc pid mnt; do readlink /proc/self/ns/$n; done")))
		s.waitPod("host-"+name, 60*time.Second, phase(corev1.PodSucceeded))
		got := s.do("logs", "host-"+name)
		for _, ns := range strings.Fields(tc.same) {
			s.wantContains(got, own(ns))
		}
		for _, ns := range strings.Fields(tc.other + " mnt") {
			if strings.Contains(got, own(ns)) {
				t.Errorf("host-%s shares the %s namespace too:\n%s", name, ns, got)
			}
		}
	}
	s.apply(s.secured("sysctls", "securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}, {name: net.ipv4.tcp_keepalive_time, value: '555'}]}",
		s.container("main", "{}", "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/tcp_keepalive_time")))
	if got := s.ended("sysctls"); got != "1\n555\n" {
		t.Errorf("sysctls read %q", got)
	}
	refused := map[string]string{"SysctlForbidden": "securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}, {name: net.core.somaxconn, value: '9'}]}"}
	if _, err := os.Stat("/sys/kernel/security/apparmor"); err != nil {
		refused["AppArmor"] = "securityContext: {appArmorProfile: {type: RuntimeDefault}}"
	}
	for reason, spec := range refused {
		name := strings.ToLower(reason)
		s.apply(s.secured(name, spec, s.container("main", "{}", "true")))
		if p := s.waitPod(name, 60*time.Second, phase(corev1.PodFailed)); p.Status.Reason != reason {
			t.Errorf("a pod that the node must refuse with %s has failed with %s: %s", reason, p.Status.Reason, p.Status.Message)
		}
	}
}

// hostUsers: false: root in the pod is nobody outside, and its files are its own all the same.
func TestOwnUsers(t *testing.T) {
	s := newSpace(t)
	s.do("create", "secret", "generic", "key", "--from-literal=password=hunter2")
	dir := t.TempDir()
	s.apply(fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: mapped}
spec:
  hostUsers: false
  terminationGracePeriodSeconds: 1
  securityContext: {fsGroup: 2000}
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: secret, secret: {secretName: key, defaultMode: 0400}}
  - {name: host, hostPath: {path: %[3]s}}
  initContainers: [{name: first, image: %[1]s, command: [sh, -c, "echo from init > /disk/f && chmod 0600 /disk/f 2>/dev/null; true"], volumeMounts: [{name: disk, mountPath: /disk}]}]
  containers:
  - name: main
    image: %[1]s
    command: [sh, -c, "cat /disk/f; id -u; tr -s ' ' </proc/self/uid_map; for f in /disk /memory /secret/password /host /etc/hosts /dev/termination-log; do stat -Lc '%%n %%u:%%g' $f; done; touch /host/made /disk/part/x && echo last words > /dev/termination-log; cat /secret/password; echo; %[2]s"]
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: disk, mountPath: /part, subPath: part}
    - {name: memory, mountPath: /memory}
    - {name: secret, mountPath: /secret}
    - {name: host, mountPath: /host}
`, s.image, sleeper, dir))
	s.waitReady("mapped")
	s.eventually(60*time.Second, func() error {
		if got := s.do("logs", "mapped"); !strings.HasSuffix(got, "hunter2\n") {
			return fmt.Errorf("the container printed %q", got)
		}
		return nil
	})
	s.wantContains(s.do("logs", "mapped"), "from init\n0\n 0 ", " 65536\n/disk 0:2000\n/memory 0:2000\n/secret/password 0:2000\n/host 0:0\n/etc/hosts 0:0\n/dev/termination-log 0:0\nhunter2\n")
	s.wantContains(s.do("exec", "mapped", "--", "sh", "-c", "id -u; hostname; cat /proc/self/setgroups"), "0\nmapped\nallow\n")
	pid := s.containerPID(s.pod("mapped"), "main")
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(status), "Uid:\t0\t") {
		t.Errorf("the pod's root is the machine's root:\n%s", status)
	}
	if info, err := os.Stat(filepath.Join(dir, "made")); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("on the disk the pod's file is not as the pod sees it: %v %v", info, err)
	}
	var node corev1.Node
	s.cluster.get(t, &node, "node", s.node)
	if f := node.Status.RuntimeHandlers[0].Features; f.UserNamespaces == nil || !*f.UserNamespaces || f.RecursiveReadOnlyMounts == nil || !*f.RecursiveReadOnlyMounts {
		t.Errorf("the node announces %+v", f)
	}
	// procMount Unmasked is for such pods alone.
	s.refused("run", "unmasked", "--image", s.image, "--overrides", `{"spec":{"containers":[{"name":"unmasked","image":"`+s.image+`","securityContext":{"procMount":"Unmasked"}}]}}`)
	s.apply(s.secured("unmasked", "hostUsers: false", s.container("main", "{procMount: Unmasked}", "mount | grep -c ' /proc/' || true")))
	if got := s.ended("unmasked"); got != "0\n" {
		t.Errorf("%s paths of an unmasked /proc are covered", got)
	}
	s.do("delete", "pod", "mapped", "--timeout=60s")
}

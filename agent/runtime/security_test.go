package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(s))
	return n
}

func pathUID(s string) types.UID { return types.UID(s) }

func TestSecurityContext(t *testing.T) {
	n := newNode(t, nil)
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*pod.ContainerSpec)
		line   string
		want   string
	}{
		{"user by name with the image's groups", func(c *pod.ContainerSpec) {
			c.PodSecurity = &v1.PodSecurityContext{FSGroup: ptr.To[int64](3000), SupplementalGroups: []int64{4000}}
			c.Security.RunAsUser = ptr.To[int64](1000)
		}, "id -u; id -g; id -G", "1000\n1000\n1000 2000 3000 4000\n"},
		{"strict groups", func(c *pod.ContainerSpec) {
			c.PodSecurity = &v1.PodSecurityContext{SupplementalGroupsPolicy: ptr.To(v1.SupplementalGroupsPolicyStrict), SupplementalGroups: []int64{4000}}
			c.Security.RunAsUser, c.Security.RunAsGroup = ptr.To[int64](1000), ptr.To[int64](7)
		}, "id -u; id -g; id -G", "1000\n7\n7 4000\n"},
		{"default capabilities", func(*pod.ContainerSpec) {}, "grep CapEff /proc/self/status", "CapEff:\t00000000a80425fb\n"},
		{"capabilities", func(c *pod.ContainerSpec) {
			c.Security.Capabilities = &v1.Capabilities{Drop: []v1.Capability{"ALL"}, Add: []v1.Capability{"NET_ADMIN"}}
		}, "grep CapEff /proc/self/status", "CapEff:\t0000000000001000\n"},
		{"no new privileges", func(c *pod.ContainerSpec) { c.Security.AllowPrivilegeEscalation = ptr.To(false) },
			"grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"},
		{"seccomp", func(c *pod.ContainerSpec) {
			c.Security.SeccompProfile = &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}
		}, "grep Seccomp: /proc/self/status", "Seccomp:\t2\n"},
		{"read-only root", func(c *pod.ContainerSpec) { c.Security.ReadOnlyRootFilesystem = ptr.To(true) },
			"touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo shm", "refused\nshm\n"},
		{"masked", func(*pod.ContainerSpec) {}, "cat /proc/timer_list | head -c 1; ls /sys/firmware; echo 1 2>/dev/null > /proc/sysrq-trigger || echo refused", "refused\n"},
		{"privileged", func(c *pod.ContainerSpec) { c.Security.Privileged = ptr.To(true) },
			"grep -c 0000000000000000 /proc/self/status; test -e DEVICE && echo devices; mount | grep -c 'sysfs.*rw'", "devices\n1\n"},
		{"mounts", func(c *pod.ContainerSpec) {
			c.Mounts = []pod.Mount{{HostPath: host, ContainerPath: "/data", ReadOnly: true}, {HostPath: host, ContainerPath: "/data2"}}
		}, "cat /data/file; touch /data/x 2>/dev/null || echo refused; touch /data2/y && echo written", "from the host\nrefused\nwritten\n"},
		{"working directory and environment", func(c *pod.ContainerSpec) {
			c.WorkingDir, c.Env = "/some/where", []pod.EnvVar{{Name: "A", Value: "b c"}, {Name: "PATH", Value: "/bin:/other"}}
		}, "pwd; echo $A; echo $PATH; echo $HOSTNAME", "/some/where\nb c\n/bin:/other\np-22222222-bbbb-4bbb-8ccc-000000000001\n"},
		{"resources", func(c *pod.ContainerSpec) {
			c.Resources = v1.ResourceRequirements{Limits: v1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("32Mi")}}
		}, "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/memory/memory.limit_in_bytes", "256\n25000\n33554432\n"},
	}
	c := n.testPod("22222222-bbbb-4bbb-8ccc-000000000001", nil)
	for i, test := range tests {
		if test.name == "resources" && n.cgroups.Unified() {
			continue
		}
		spec := c
		spec.Attempt, spec.LogPath, spec.Security = i, c.LogPath+itoa(i), &v1.SecurityContext{}
		test.change(&spec)
		out, end := n.output(spec, strings.ReplaceAll(test.line, "DEVICE", n.hostDevice())+" ; true")
		out = strings.TrimPrefix(out, "4\n") // the number of empty capability sets differs among kernels
		if test.name == "masked" {           // stdout and stderr have no order between them
			out = strings.Replace(out, "sh: can't create /proc/sysrq-trigger: Read-only file system\n", "", 1)
		}
		if test.name == "privileged" {
			_, out, _ = strings.Cut(out, "\n")
		}
		if out != test.want || end.ExitCode != 0 {
			t.Errorf("%s: exit %d, output\n%swant\n%s", test.name, end.ExitCode, out, test.want)
		}
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

// hostDevice is one that only privileged containers see.
func (n *node) hostDevice() string {
	devices, err := hostDevices("/dev")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, d := range devices {
		switch d.Path {
		case "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx":
		default:
			return d.Path
		}
	}
	n.t.Skip("the machine has no device beyond those of every container")
	return ""
}

func TestUserThatTheImageDoesNotKnow(t *testing.T) {
	acc := parseAccounts([]byte("root:x:0:0::/:/bin/sh\nweb:x:1000:1001::/:\nbroken:x\n#c:x:1:1\n"), []byte("root:x:0:\nweb:x:1001:\nextra:x:2000:web,other\n"))
	c := pod.ContainerSpec{Security: &v1.SecurityContext{}}
	for imageUser, want := range map[string]user{
		"":          {0, 0, []uint32{0}},
		"web":       {1000, 1001, []uint32{1001, 2000}},
		"1000":      {1000, 1001, []uint32{1001, 2000}},
		"web:extra": {1000, 2000, []uint32{2000}},
		"5:6":       {5, 6, []uint32{6}},
		"4242":      {4242, 0, []uint32{0}},
		"web:":      {1000, 1001, []uint32{1001, 2000}},
	} {
		got, err := resolveUser(c, imageUser, acc)
		if err != nil || got.UID != want.UID || got.GID != want.GID || len(got.Groups) != len(want.Groups) {
			t.Errorf("user %q = %+v, %v; want %+v", imageUser, got, err, want)
		}
	}
	for _, imageUser := range []string{"nosuch", "web:nosuch", "-1", "4294967296"} {
		if _, err := resolveUser(c, imageUser, acc); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("user %q: %v", imageUser, err)
		}
	}
}

func TestOOMKill(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("22222222-bbbb-4bbb-8ccc-000000000002", nil)
	c.Resources.Limits = v1.ResourceList{"memory": resource.MustParse("16Mi")}
	_, end := n.output(c, "exec tail -f /dev/zero")
	if !end.OOMKilled || end.ExitCode != 137 {
		t.Errorf("end = %+v", end)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

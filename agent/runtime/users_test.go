package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"coracle/agent/pod"
)

func TestFirstFreeBase(t *testing.T) {
	for _, tc := range []struct {
		taken map[string]uint32
		want  uint32
	}{
		{nil, 65536},
		{map[string]uint32{"a": 65536, "b": 3 * 65536}, 2 * 65536},
		{map[string]uint32{"a": 2 * 65536}, 65536},
	} {
		if got := firstFree(tc.taken); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.taken, got, tc.want)
		}
	}
	full := map[uint32]uint32{}
	for base := uint32(65536); base <= 1<<32-2*65536; base += 65536 {
		full[base] = base
		if base == 1<<32-2*65536 {
			break
		}
	}
	if got := firstFree(full); got != 0 {
		t.Errorf("a base of %d although all are taken", got)
	}
}

// A pod with users of its own: root in it is nobody outside, and its volumes, its image's files and the
// container's own layer all belong to its root.
func TestOwnUsers(t *testing.T) {
	n := newNode(t, nil)
	if err := UserNamespaceObstacle(); err != nil {
		t.Skip(err)
	}
	// Root inside is a stranger here: it must get through to what the runtime and the agent prepare for it, as in /run.
	if err := os.Chmod(n.daemon.Dir, 0o711); err != nil {
		t.Fatal(err)
	}
	own := func(s *SandboxSpec) { s.OwnUsers, s.Hostname, s.ShareProcessNamespace = true, "mapped", false }
	c := n.testPod("22222222-aaaa-4bbb-8ccc-00000000000a", own)
	volume := t.TempDir()
	if err := os.WriteFile(filepath.Join(volume, "before"), []byte("there\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Mounts = []pod.Mount{{Volume: "v", HostPath: volume, ContainerPath: "/v"}}
	c.Name, c.Command = "first", []string{"sleep", "1000"}
	first := n.start(c)
	pid := n.observed(c.PodUID, first, pod.Running).PID
	status, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("Uid:\t%d\t", idBlock); !strings.Contains(string(status), want) {
		t.Errorf("the process is, for the machine,\n%s\nwant %s", status, want)
	}
	c.Name, c.LogPath = "second", c.LogPath+"2"
	out, _ := n.output(c, "id -u; hostname; cat /v/before; touch /v/after /made; for f in /v/before /v/after /made /bin/busybox / /dev/shm; do stat -c '%n %u:%g' $f; done; busybox tr -s ' ' </proc/self/uid_map; echo x >/dev/null && busybox mkdir /m && mount -t tmpfs x /m 2>/dev/null || echo no mount; readlink /proc/self/ns/user")
	link, err := os.Readlink(filepath.Join("/proc", itoa(pid), "ns/user"))
	if err != nil {
		t.Fatal(err)
	}
	want := "0\nmapped\nthere\n/v/before 0:0\n/v/after 0:0\n/made 0:0\n/bin/busybox 0:0\n/ 0:0\n/dev/shm 0:0\n 0 65536 65536\nno mount\n" + link + "\n"
	if out != want {
		t.Errorf("the container printed\n%s\nwant\n%s", out, want)
	}
	if info, err := os.Stat(filepath.Join(volume, "after")); err != nil || owner(info) != "0:0" {
		t.Errorf("on the disk the volume's file belongs to %s, %v", owner(info), err)
	}

	// A neighbour has other ids, also from an agent that was just started.
	n.restart()
	other := n.testPod("22222222-aaaa-4bbb-8ccc-00000000000b", func(s *SandboxSpec) { s.OwnUsers, s.ShareProcessNamespace = true, true })
	if out, _ := n.output(other, "busybox tr -s ' ' </proc/self/uid_map; ps | grep -c ' /[i]nit$'"); out != " 0 131072 65536\n1\n" {
		t.Errorf("a second pod's ids are %q", out)
	}
	n.remove(t.Context(), other.PodUID)
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

func owner(info os.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "unknown"
	}
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

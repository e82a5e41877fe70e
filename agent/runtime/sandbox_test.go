package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"coracle/agent/pod"
	"coracle/internal/fault"
)

func TestSandboxIsSharedByThePodsContainers(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("22222222-aaaa-4bbb-8ccc-000000000001", func(s *SandboxSpec) {
		s.Hostname = "carried"
		s.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "20000 21000", "kernel.shmmax": "12345678"}
	})
	c.Name, c.Command = "first", []string{"sh", "-c", "echo shared > /dev/shm/x; exec sleep 1000"}
	first := n.start(c)
	n.observed(c.PodUID, first, pod.Running)
	c.Name, c.LogPath = "second", c.LogPath+"2"
	out, _ := n.output(c, "until cat /dev/shm/x 2>/dev/null; do sleep 0.05; done; hostname; for i in net ipc uts; do readlink /proc/self/ns/$i; done; cat /proc/sys/net/ipv4/ip_local_port_range /proc/sys/kernel/shmmax; ip addr show lo | grep -c 127.0.0.1; df /dev/shm | tail -1")
	pid := n.observed(c.PodUID, first, pod.Running).PID
	want := "shared\ncarried\n"
	for _, ns := range []string{"net", "ipc", "uts"} {
		link, err := os.Readlink(filepath.Join("/proc", itoa(pid), "ns", ns))
		if err != nil {
			t.Fatal(err)
		}
		want += link + "\n"
	}
	want += "20000\t21000\n12345678\n1\nshm                      65536"
	if !strings.HasPrefix(out, want) {
		t.Errorf("the second container saw\n%s\nwant\n%s", out, want)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

func TestSandboxRefusesTheNodesSysctls(t *testing.T) {
	n := newNode(t, nil)
	for sysctl, host := range map[string]bool{"kernel.panic": false, "vm.swappiness": false, "net.ipv4.ip_forward": true} {
		_, err := n.run.EnsureSandbox(t.Context(), SandboxSpec{UID: "s", HostNetwork: host, Sysctls: map[string]string{sysctl: "1"}})
		if !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), sysctl) {
			t.Errorf("%s: %v", sysctl, err)
		}
		if err := n.run.RemoveSandbox(t.Context(), "s"); err != nil {
			t.Error(err)
		}
	}
	for _, uid := range []string{"", "../x", ".hidden", "a/b"} {
		if _, err := n.run.EnsureSandbox(t.Context(), SandboxSpec{UID: "" + pathUID(uid)}); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("uid %q: %v", uid, err)
		}
	}
	n.nothingLeft()
}

func TestHostNamespaces(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("22222222-aaaa-4bbb-8ccc-000000000002", func(s *SandboxSpec) {
		s.HostNetwork, s.HostIPC, s.HostPID = true, true, true
	})
	out, _ := n.output(c, "for i in net ipc uts pid; do readlink /proc/self/ns/$i; done")
	want := ""
	for _, ns := range []string{"net", "ipc", "uts", "pid"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		want += link + "\n"
	}
	if out != want {
		t.Errorf("namespaces of the container\n%swant the host's\n%s", out, want)
	}
	o, err := n.run.Observe(t.Context(), c.PodUID)
	if err != nil || o.Sandbox == nil || o.Sandbox.NetnsPath != "" || !o.Sandbox.Attached {
		t.Errorf("sandbox %+v, %v", o.Sandbox, err)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

func TestSharedProcessNamespace(t *testing.T) {
	n := newNode(t, nil)
	share := func(s *SandboxSpec) { s.ShareProcessNamespace = true }
	c := n.testPod("22222222-aaaa-4bbb-8ccc-000000000003", share)
	c.Name, c.Command = "first", []string{"sleep", "1000"}
	first := n.start(c)
	c.Name, c.LogPath = "second", c.LogPath+"2"
	out, _ := n.output(c, "ps -o pid,args")
	if !strings.Contains(out, "1 /init") || !strings.Contains(out, "sleep 1000") {
		t.Errorf("the second container sees\n%s", out)
	}
	o, err := n.run.Observe(t.Context(), c.PodUID)
	if err != nil || o.Sandbox == nil || len(o.Containers) != 2 {
		t.Errorf("observed %+v, %v", o, err)
	}
	// A first process that dies takes the namespace with it; the sandbox is then made good again.
	pid, err := os.ReadFile(filepath.Join(n.run.podDir(c.PodUID), "init", "pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(atoi(string(pid)), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if end := n.observed(c.PodUID, first, pod.Exited); end.ExitCode != 137 {
		t.Errorf("end of the first container: %+v", end)
	}
	n.testPod(c.PodUID, share)
	c.Name, c.LogPath = "third", c.LogPath+"3"
	if out, _ := n.output(c, "ps -o pid,args"); !strings.Contains(out, "1 /init") {
		t.Errorf("the third container sees\n%s", out)
	}
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

func TestSandboxOfAnotherBootIsNone(t *testing.T) {
	n := newNode(t, nil)
	c := n.testPod("22222222-aaaa-4bbb-8ccc-000000000004", nil)
	c.Command = []string{"sleep", "1000"}
	id := n.start(c)
	n.run.bootID = "another"
	o, err := n.run.Observe(t.Context(), c.PodUID)
	if err != nil || o.Sandbox != nil {
		t.Errorf("observed %+v, %v", o.Sandbox, err)
	}
	n.restart()
	// The machine lost its power: no task, no pins.
	if err := n.run.deleteTask(n.run.context(t.Context()), id); err != nil {
		t.Fatal(err)
	}
	n.run.bootID = "another"
	end := n.observed(c.PodUID, id, pod.Exited)
	if end.ExitCode != 137 || end.Reason != "ContainerStatusUnknown" || !end.EarlierBoot || end.StartedAt.IsZero() {
		t.Errorf("observed %+v", end)
	}
	n.restart()
	n.remove(t.Context(), c.PodUID)
	n.nothingLeft()
}

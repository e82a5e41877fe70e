package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"coracle/agent/pod"
)

func TestGivenDevices(t *testing.T) {
	dir := t.TempDir()
	link, folder, file := filepath.Join(dir, "link"), filepath.Join(dir, "folder"), filepath.Join(dir, "file")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(folder, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list := []pod.Device{{HostPath: link, ContainerPath: "/dev/x", Permissions: "r"}}
	want := []string{"/dev/x c 1:3 r"}
	// Where the test may make device nodes, a folder of them too.
	if err := unix.Mknod(filepath.Join(folder, "sub", "zero"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))); err == nil {
		list = append(list, pod.Device{HostPath: folder, ContainerPath: "/dev/all", Permissions: "rw"})
		want = append(want, "/dev/all/sub/zero c 1:5 rw")
	}
	nodes, rules, err := givenDevices(list)
	if err != nil || len(nodes) != len(want) || len(rules) != len(want) {
		t.Fatalf("nodes %+v, rules %+v, %v", nodes, rules, err)
	}
	for i, n := range nodes {
		got := strings.Join([]string{n.Path, n.Type, numbers(n.Major, n.Minor), rules[i].Access}, " ")
		if got != want[i] || !rules[i].Allow || rules[i].Type != n.Type || numbers(*rules[i].Major, *rules[i].Minor) != numbers(n.Major, n.Minor) {
			t.Errorf("device %s with %+v, want %s", got, rules[i], want[i])
		}
	}
	for path, text := range map[string]string{file: "no device", filepath.Join(dir, "gone"): "no such file"} {
		if _, _, err := givenDevices([]pod.Device{{HostPath: path, ContainerPath: "/dev/x"}}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %s", path, err, text)
		}
	}
}

func numbers(major, minor int64) string { return fmt.Sprintf("%d:%d", major, minor) }

func TestDevicesInSpec(t *testing.T) {
	in := plainInput()
	in.Container.Annotations = map[string]string{"example.com/a": "b", groupAnnotation: "not theirs"}
	in.Devices, in.DeviceRules = []specs.LinuxDevice{{Path: "/dev/x"}}, []specs.LinuxDeviceCgroup{{Allow: true, Access: "r"}}
	spec, err := buildSpec(in)
	if err != nil {
		t.Fatal(err)
	}
	rules := spec.Linux.Resources.Devices
	if len(spec.Linux.Devices) != 1 || len(rules) != 2 || rules[0].Allow || !rules[1].Allow {
		t.Errorf("devices %+v, rules %+v", spec.Linux.Devices, rules)
	}
	if spec.Annotations["example.com/a"] != "b" || spec.Annotations[groupAnnotation] != in.Group {
		t.Errorf("annotations %v", spec.Annotations)
	}
	yes := true
	in.Container.Security.Privileged = &yes
	in.Host.Devices = []specs.LinuxDevice{{Path: "/dev/null"}, {Path: "/dev/x", Major: 1}}
	if spec, err = buildSpec(in); err != nil {
		t.Fatal(err)
	}
	if d := spec.Linux.Devices; len(d) != 2 || d[1].Major != 1 || len(spec.Linux.Resources.Devices) != 1 {
		t.Errorf("a privileged container's devices: %+v, %+v", d, spec.Linux.Resources.Devices)
	}
}

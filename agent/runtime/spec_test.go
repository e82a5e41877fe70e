package runtime

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"coracle/agent/image"
	"coracle/agent/pod"
	"coracle/internal/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var allCapabilities = []string{"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT"}

func plainInput() specInput {
	return specInput{
		ID: "11111111-web-0",
		Container: pod.ContainerSpec{
			PodUID: "11111111-aaaa-4bbb-8ccc-000000000001", PodNamespace: "default", PodName: "web", Name: "web", Image: "docker.io/library/web:1",
			Security: &v1.SecurityContext{}, Hostname: "web", CgroupParent: "/coracle/besteffort/pod1", OOMScoreAdj: 1000,
		},
		Image: image.Image{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"PATH=/app", "LANG=C"}, WorkingDir: "/srv"},
		User:  user{UID: 0, GID: 0, Groups: []uint32{0}},
		Paths: namespacePaths{Net: "/run/ns/net", IPC: "/run/ns/ipc", UTS: "/run/ns/uts"},
		Shm:   "/run/shm", Group: "coracle-1", Host: hostFacts{Capabilities: allCapabilities, OOMFloor: -1000, Seccomp: true, SwapAccounting: true},
	}
}

func TestSpecGolden(t *testing.T) {
	tests := map[string]func(*specInput){
		"plain": func(*specInput) {},
		"full": func(in *specInput) {
			c := &in.Container
			c.Command, c.Args, c.WorkingDir = []string{"/bin/sh"}, []string{"-c", "true"}, "/work"
			c.Env = []pod.EnvVar{{Name: "LANG", Value: "de"}, {Name: "EMPTY", Value: ""}}
			c.TTY, c.Stdin = true, true
			c.Mounts = []pod.Mount{
				{HostPath: "/host/sub", ContainerPath: "/data/sub", ReadOnly: true, RecursiveReadOnly: true},
				{HostPath: "/host/data", ContainerPath: "/data/", Propagation: v1.MountPropagationHostToContainer},
				{HostPath: "/host/shm", ContainerPath: "/dev/shm"},
			}
			c.TerminationMessagePath, c.TerminationMessageHostPath = "/dev/termination-log", "/var/lib/x/termination"
			c.Resources = v1.ResourceRequirements{
				Requests: v1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("64Mi")},
				Limits:   v1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("128Mi"), "hugepages-2Mi": resource.MustParse("4Mi")},
			}
			c.Security = &v1.SecurityContext{
				ReadOnlyRootFilesystem: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false),
				Capabilities: &v1.Capabilities{Drop: []v1.Capability{"ALL"}, Add: []v1.Capability{"NET_ADMIN", "cap_chown"}},
			}
			in.User = user{UID: 1000, GID: 2000, Groups: []uint32{2000, 3000}}
			in.Host.OOMFloor, c.OOMScoreAdj = 0, -997
		},
		"privileged": func(in *specInput) {
			in.Container.Security = &v1.SecurityContext{Privileged: ptr.To(true), SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}}
			in.Host.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11}}
			in.Container.Mounts = []pod.Mount{{HostPath: "/var", ContainerPath: "/var", Propagation: v1.MountPropagationBidirectional}}
		},
		"host": func(in *specInput) {
			in.Paths, in.Shm = namespacePaths{}, "/dev/shm"
			in.Container.HostNetwork, in.Container.HostPID, in.Container.HostIPC = true, true, true
			in.Container.CgroupParent, in.Host.Unified = "coracle-burstable-pod1.slice", true
			in.Container.Security.ProcMount = ptr.To(v1.UnmaskedProcMount)
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			in := plainInput()
			change(&in)
			spec, err := buildSpec(in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(spec, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			path := filepath.Join("testdata", "spec-"+name+".json")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("the spec is not that of %s (rewrite with -update); it is\n%s", path, got)
			}
		})
	}
}

func TestSpecRefusals(t *testing.T) {
	for name, change := range map[string]func(*specInput){
		"no command":     func(in *specInput) { in.Image.Entrypoint, in.Image.Cmd = nil, nil },
		"relative mount": func(in *specInput) { in.Container.Mounts = []pod.Mount{{HostPath: "x", ContainerPath: "/y"}} },
		"unknown capability": func(in *specInput) {
			in.Container.Security.Capabilities = &v1.Capabilities{Add: []v1.Capability{"SYS_RESOURCE"}}
		},
		"no seccomp in the kernel": func(in *specInput) {
			in.Host.Seccomp = false
			in.Container.Security.SeccompProfile = &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}
		},
	} {
		in := plainInput()
		change(&in)
		if _, err := buildSpec(in); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestArgs(t *testing.T) {
	img := image.Image{Entrypoint: []string{"e"}, Cmd: []string{"c"}}
	for _, test := range []struct {
		command, args []string
		want          string
	}{{nil, nil, "e c"}, {[]string{"x"}, nil, "x"}, {nil, []string{"y"}, "e y"}, {[]string{"x"}, []string{"y"}, "x y"}} {
		got, err := processArgs(pod.ContainerSpec{Command: test.command, Args: test.args}, img)
		if strings.Join(got, " ") != test.want || err != nil {
			t.Errorf("%v %v: %v, %v", test.command, test.args, got, err)
		}
	}
}

func TestLocalhostSeccomp(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.json"), []byte(`{"defaultAction":"SCMP_ACT_ERRNO"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(name string) (*specs.LinuxSeccomp, error) {
		return localhostSeccomp(dir, &v1.SecurityContext{SeccompProfile: &v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: &name}})
	}
	if p, err := load("p.json"); err != nil || p.DefaultAction != specs.ActErrno {
		t.Errorf("%v %v", p, err)
	}
	for _, name := range []string{"../p.json", "/etc/passwd", "nosuch", ""} {
		if _, err := load(name); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// containerd's rule for ids.
var validID = regexp.MustCompile(`^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$`)

func TestContainerID(t *testing.T) {
	if got := ContainerID("0a1b2c3d-0000-4000-8000-000000000000", "web", 3); got != "0a1b2c3d-web-3" {
		t.Error(got)
	}
	rapid.Check(t, func(t *rapid.T) {
		uid := rapid.StringMatching(`[a-z0-9][a-z0-9./_-]{0,60}`).Draw(t, "uid")
		name := rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`).Draw(t, "name")
		attempt := rapid.IntRange(0, 1<<30).Draw(t, "attempt")
		id := ContainerID(types.UID(uid), name, attempt)
		if !validID.MatchString(id) || len(id) > 76 {
			t.Fatalf("id %q", id)
		}
		if id == ContainerID(types.UID(uid), name, attempt+1) {
			t.Fatalf("two attempts have id %q", id)
		}
	})
}

func TestSignalNumber(t *testing.T) {
	for name, want := range map[string]unix.Signal{
		"": unix.SIGTERM, "SIGTERM": 15, "term": 15, "9": 9, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "RTMAX-14": 50, "SIGRTMAX": 64, "sigusr1": unix.SIGUSR1,
	} {
		if got, err := signalNumber(name); got != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"SIGNO", "0", "65", "SIGRTMIN+31", "SIGRTMAX+1", "SIGRTMIN+x", "-1"} {
		if _, err := signalNumber(name); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestChooseRuntime(t *testing.T) {
	both := func(name string) string { return "/usr/bin/" + name }
	only := func(have string) func(string) string {
		return func(name string) string {
			if name == have {
				return "/usr/bin/" + name
			}
			return ""
		}
	}
	for _, test := range []struct {
		want     string
		find     func(string) string
		obstacle string
		path     string
	}{
		{"auto", both, "", "/usr/bin/crun"}, {"auto", both, "no", "/usr/bin/runc"}, {"auto", only("runc"), "", "/usr/bin/runc"},
		{"auto", only("crun"), "", "/usr/bin/crun"}, {"auto", only("crun"), "no", ""}, {"auto", only(""), "", ""},
		{"crun", both, "no", "/usr/bin/crun"}, {"crun", both, misplaced, ""}, {"auto", both, misplaced, "/usr/bin/runc"}, {"crun", only("runc"), "", ""}, {"runc", both, "", "/usr/bin/runc"}, {"runc", only("crun"), "", ""},
	} {
		got, err := choose(test.want, test.find, test.obstacle)
		if got.path != test.path || (err == nil) != (test.path != "") {
			t.Errorf("%+v: %q, %v", test, got.path, err)
		}
		if err != nil && !errors.Is(err, fault.ErrUnavailable) {
			t.Errorf("class of %v", err)
		}
	}
	dir := t.TempDir()
	if why := crunObstacle(dir); why != "" {
		t.Errorf("v1 alone: %s", why)
	}
	unified := filepath.Join(dir, "unified")
	if err := os.Mkdir(unified, 0o755); err != nil {
		t.Fatal(err)
	}
	for controllers, obstacle := range map[string]bool{"\n": false, "hugetlb\n": true} {
		if err := os.WriteFile(filepath.Join(unified, "cgroup.controllers"), []byte(controllers), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := crunObstacle(dir) != ""; got != obstacle {
			t.Errorf("controllers %q: obstacle %v", controllers, got)
		}
	}
}

func TestLastLines(t *testing.T) {
	log := "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stdout P tw\n2026-01-01T00:00:00Z stdout F o\n2026-01-01T00:00:00Z stderr F three\n"
	for lines, want := range map[int]string{1: "three\n", 2: "two\nthree\n", 9: "one\ntwo\nthree\n"} {
		if got := lastLines(log, lines, 1000); got != want {
			t.Errorf("%d lines: %q", lines, got)
		}
	}
	if got := lastLines(log, 9, 4); got != "ree\n" {
		t.Errorf("4 bytes: %q", got)
	}
	if got := lastLines("cut\n"+log, 9, 1000); got != "one\ntwo\nthree\n" {
		t.Errorf("with a beginning cut off: %q", got)
	}
}

func TestExitRecordFits(t *testing.T) {
	for _, message := range []string{"short", strings.Repeat("x", 10000), strings.Repeat("\x01\"", 10000), strings.Repeat("ü", 5000)} {
		label, err := exitRecord{Code: 128, Reason: "StartError", Message: message, Finished: time.Unix(1, 0)}.label()
		if err != nil || len(label)+len(labelExit) > maxLabel {
			t.Fatalf("label of %d bytes, %v", len(label), err)
		}
		back, err := parseExit(label)
		if err != nil || back.Code != 128 || !strings.HasPrefix(message, back.Message) || back.Message == "" {
			t.Errorf("read back %+v, %v", back, err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(`{"code":3,"started":"2026-01-01T00:00:00Z"}`)
	f.Add(`{"logPath":"/x"}`)
	f.Add(`{"boot":"b","pins":["net","../../etc"],"group":"g"}`)
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = parseExit(text)
		_, _ = parseIO(text)
		if record, err := parseSandbox([]byte(text)); err == nil {
			for _, p := range record.Pins {
				if !slices.Contains([]string{"net", "ipc", "uts"}, p) {
					t.Errorf("accepted pin %q", p)
				}
			}
		}
		if p, err := parseSeccomp([]byte(text)); err == nil && p.DefaultAction == "" {
			t.Error("accepted a profile without default action")
		}
	})
}

func FuzzAccounts(f *testing.F) {
	f.Add([]byte("root:x:0:0:root:/root:/bin/sh\n"), []byte("root:x:0:\nweb:x:1:root,x\n"), "root:web")
	f.Fuzz(func(t *testing.T, passwd, group []byte, who string) {
		c := pod.ContainerSpec{Security: &v1.SecurityContext{}}
		if got, err := resolveUser(c, who, parseAccounts(passwd, group)); err == nil && (len(got.Groups) == 0 || got.Groups[0] != got.GID) {
			t.Errorf("%q became %+v", who, got)
		}
	})
}

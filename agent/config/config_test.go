package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.yaml")
	write(t, file, "maxPods: 20\nrunDir: /run/two\ncni:\n  bridge: fromfile\nlabels:\n  a: file\n")
	var token string
	c, err := Load("run", []string{"--config", file, "--max-pods=30", "--token", "t", "--labels", "b=flag"},
		func(f *pflag.FlagSet) { f.StringVar(&token, "token", "", "") })
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxPods != 30 || c.RunDir != "/run/two" || c.CNI.Bridge != "fromfile" || c.StateDir != "/var/lib/coracle" || token != "t" {
		t.Errorf("got maxPods %d runDir %q bridge %q stateDir %q token %q", c.MaxPods, c.RunDir, c.CNI.Bridge, c.StateDir, token)
	}
	if diff := cmp.Diff(map[string]string{"b": "flag"}, c.Labels); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		yaml string
		args []string
		want string
	}{
		"unknown key":       {yaml: "nodeNmae: a", want: `unknown field "nodeNmae"`},
		"nested unknown":    {yaml: "cni:\n  bridg: a", want: `unknown field "bridg"`},
		"repeated key":      {yaml: "maxPods: 1\nmaxPods: 2", want: `"maxPods" already set`},
		"wrong type":        {yaml: "maxPods: many", want: "maxPods"},
		"not yaml":          {yaml: "\t:", want: "parse configuration"},
		"bad name":          {yaml: "nodeName: UPPER", want: "nodeName"},
		"bad server":        {args: []string{"--server", "host"}, want: "server: must be HOST:PORT"},
		"bad runtime":       {args: []string{"--runtime", "docker"}, want: "runtime: must be auto"},
		"relative path":     {args: []string{"--run-dir", "run"}, want: "runDir: must be an absolute path"},
		"long run dir":      {args: []string{"--run-dir", "/" + strings.Repeat("x", 120)}, want: "runDir: is too long"},
		"bad taint":         {args: []string{"--taints", "a=b:Never"}, want: "NoExecute"},
		"bad cidr":          {args: []string{"--pod-cidr", "10.0.0.0"}, want: "podCIDR"},
		"bad bridge":        {args: []string{"--cni-bridge", "averyverylongname"}, want: "cni.bridge"},
		"bad reserved":      {args: []string{"--reserved", "gpu=1"}, want: "reserved"},
		"negative reserved": {args: []string{"--reserved", "cpu=-1"}, want: "negative"},
		"node's sysctl":     {args: []string{"--allowed-unsafe-sysctls", "vm.swappiness"}, want: "allowedUnsafeSysctls: "},
		"star in a sysctl":  {args: []string{"--allowed-unsafe-sysctls", "net.*.x"}, want: "at the end"},
		"bad label":         {args: []string{"--labels", "a b=c"}, want: "labels"},
		"bad conf file":     {args: []string{"--cni-conf-file", "../x.conflist"}, want: "cni.confFile"},
		"image thresholds":  {args: []string{"--images-gc-low-threshold-percent", "90"}, want: "images.gcLowThresholdPercent"},
		"image age":         {args: []string{"--images-minimum-gc-age", "soon"}, want: "images.minimumGCAge"},
		"image ages":        {args: []string{"--images-maximum-gc-age", "1m"}, want: "longer than minimumGCAge"},
		"parallel pulls":    {args: []string{"--images-max-parallel-pulls", "0"}, want: "images.maxParallelPulls"},
		"half a provider":   {args: []string{"--images-credential-provider-bin-dir", "/opt/p"}, want: "go together"},
		"argument":          {args: []string{"now"}, want: "takes no arguments"},
		"unknown flag":      {args: []string{"--nope"}, want: "unknown flag"},
		"missing file":      {args: []string{"--config", filepath.Join(dir, "absent")}, want: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			args := tc.args
			if tc.yaml != "" {
				file := filepath.Join(t.TempDir(), "a.yaml")
				write(t, file, tc.yaml)
				args = append(args, "--config", file)
			}
			_, err := Load("run", args, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
		})
	}
}

// All mistakes are told at once.
func TestValidateJoins(t *testing.T) {
	c := Default()
	c.MaxPods, c.LogLevel, c.Logs.MaxFiles = 0, "loud", 1
	err := c.Validate()
	for _, want := range []string{"maxPods", "logLevel", "logs.maxFiles"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// Every field of the file is a flag, so that nothing can be set in one place only.
func TestEveryFieldIsAFlag(t *testing.T) {
	c := Default()
	var path string
	f := newFlagSet("run", &c, &path)
	set := map[string]string{
		"node-name": "n1", "server": "h:1", "containerd-snapshotter": "native",
		"cluster-dns": "10.96.0.10", "cluster-domain": "c.local", "pod-cidr": "10.1.0.0/24", "node-ip": "10.0.0.1",
		"labels": "a=b", "taints": "a=b:NoSchedule", "reserved": "cpu=100m", "cni-mtu": "1400", "pod-pids-limit": "100", "memory-throttling": "0.9", "runtime-handlers": "x=/usr/bin/x",
		"allowed-unsafe-sysctls": "net.core.*", "seccomp-default": "true",
		"eviction-soft": "memory.available=1Gi", "eviction-soft-grace-period": "memory.available=90s", "eviction-max-pod-grace-period": "30",
		"eviction-minimum-reclaim": "memory.available=1Gi", "shutdown-grace-period-by-pod-priority": "0=10,1000=20",
		"images-credential-provider-config": "/etc/p.yaml", "images-credential-provider-bin-dir": "/opt/p",
	}
	for k, v := range set {
		if err := f.Set(k, v); err != nil {
			t.Fatal(err)
		}
	}
	data, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	var back Config
	if err := Parse(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, back); diff != "" {
		t.Error(diff)
	}
	// With every field set nothing is left out of the file, so the keys are all the fields there are.
	leaves := 0
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if strings.Contains(line, ":") && !strings.HasSuffix(line, ":") && !strings.HasPrefix(strings.TrimSpace(line), "- ") {
			leaves++
		}
	}
	lists := 4 // cni.binDirs, clusterDNS, taints, allowedUnsafeSysctls
	extra := 5 // five lines of evictionHard are one flag, two of shutdownGracePeriodByPodPriority
	flags := 0
	f.VisitAll(func(*pflag.Flag) { flags++ })
	if got := flags - 1; got != leaves+lists-extra {
		t.Errorf("%d flags for %d fields:\n%s", got, leaves+lists, data)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("maxPods: 3\ncni: {bridge: b}\n"))
	f.Add([]byte("labels: {a: b}\ntaints: [a=b:NoSchedule]\nreserved: {cpu: 1}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := Default()
		if Parse(data, &c) != nil || c.Validate() != nil {
			return
		}
		out, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		// omitempty means that an emptied field comes back as empty, never as something else.
		var back Config
		if err := Parse(out, &back); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if _, err := c.ParsedTaints(); err != nil {
			t.Fatal(err)
		}
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

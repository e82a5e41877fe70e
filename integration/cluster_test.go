package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coracle/agent/cgroup"
	"coracle/internal/failpoint"
	"coracle/internal/testimage"
	"coracle/internal/testport"
)

// cluster is a whole Coracle on this machine: registry, containerd, control plane, log writer and agent, each a real
// process with state, sockets, ports, bridge and cgroup of its own, so that it meets nothing else that runs here.
type cluster struct {
	dir        string // state; removed at the end
	sockets    string // short paths, for sockets and pinned namespaces
	id         string // four letters in the names of links and cgroups
	node       string // the node's name
	kubeconfig string
	registry   string // HOST:PORT
	image      string // busybox, in the registry
	demo       string // the demo web server, in the registry
	podNet     string // the first half of the pods' addresses
	apiPort    int
	gwPort     int

	containerd, registryd, control, logs, agent *process
}

const (
	bin      = "../bin"
	nodeName = "node-under-test"
)

func binary(name string) string {
	p, err := filepath.Abs(filepath.Join(bin, name))
	if err != nil {
		panic(err)
	}
	return p
}

// startCluster brings everything up and waits until the node is Ready. On an error everything is taken down again.
func startCluster(ctx context.Context) (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, c.logTails(20))
			_, _ = c.down()
		}
	}()
	if err := c.layOut(); err != nil {
		return c, err
	}
	for _, p := range []*process{c.containerd, c.registryd, c.control} {
		if err := p.start(); err != nil {
			return c, err
		}
	}
	if err := eventually(30*time.Second, func() error { return c.pushImages(ctx) }); err != nil {
		return c, err
	}
	if err := c.waitAnswer(); err != nil {
		return c, fmt.Errorf("control plane not ready: %w", err)
	}
	if err := c.join(); err != nil {
		return c, err
	}
	for _, p := range []*process{c.logs, c.agent} {
		if err := p.start(); err != nil {
			return c, err
		}
	}
	return c, c.waitNodeReady(60 * time.Second)
}

func (c *cluster) layOut() error {
	dir, err := os.MkdirTemp("", "coracle-it-")
	if err != nil {
		return err
	}
	c.dir, c.node = dir, nodeName
	ports, err := testport.Free(3)
	if err != nil {
		return err
	}
	c.podNet = fmt.Sprintf("10.%d", 130+rand.IntN(80)) // by chance: another run of these tests on this machine hardly has the same
	c.registry = fmt.Sprintf("127.0.0.1:%d", ports[0])
	c.apiPort, c.gwPort = ports[1], ports[2]
	c.image, c.demo = c.registry+"/busybox:1", c.registry+"/demo:1"
	c.kubeconfig = filepath.Join(dir, "admin.kubeconfig")

	registry := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: %q}\n",
		filepath.Join(dir, "registry"), c.registry)
	if err := os.WriteFile(filepath.Join(dir, "registry.yml"), []byte(registry), 0o600); err != nil {
		return err
	}
	c.registryd = newProcess(dir, "registry", "docker-registry", "serve", filepath.Join(dir, "registry.yml"))
	c.control = newProcess(dir, "controlplane", binary("coracle-controlplane"), "serve",
		"--data-dir", filepath.Join(dir, "controlplane"), "--kubeconfig", c.kubeconfig,
		"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
		"--secure-port", fmt.Sprint(c.apiPort), "--gateway-port", fmt.Sprint(c.gwPort), "--pod-cidr", c.podNet+".0.0/16")
	return c.layOutNode(dir)
}

// layOutNode prepares what the machine of a node runs: containerd, log writer and agent, with state below c.dir. What
// they print goes to files in logDir.
func (c *cluster) layOutNode(logDir string) (err error) {
	if c.sockets, err = os.MkdirTemp("/run", "cor"); err != nil {
		return err
	}
	// As /run is: what runs in a pod with users of its own passes through on its way to its files.
	if err := os.Chmod(c.sockets, 0o711); err != nil {
		return err
	}
	c.id = filepath.Base(c.sockets)[3:]
	c.id = c.id[:min(6, len(c.id))]
	for name, content := range map[string]string{
		"containerd.toml": fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
			filepath.Join(c.dir, "containerd"), filepath.Join(c.sockets, "c"), c.containerdSocket()),
		"agent.yaml": c.agentConfig(),
	} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(c.dir, "cni"), 0o755); err != nil {
		return err
	}
	if list := os.Getenv(conflistEnv); list != "" {
		if err := os.WriteFile(filepath.Join(c.dir, "cni", "10-test.conflist"), []byte(list), 0o600); err != nil {
			return err
		}
	}
	config := filepath.Join(c.dir, "agent.yaml")
	c.containerd = newProcess(logDir, "containerd", "containerd", "--config", filepath.Join(c.dir, "containerd.toml"), "--log-level", "warn")
	c.logs = newProcess(logDir, "log-writer", binary("coracle-agent"), "log-writer", "--config", config)
	c.agent = newProcess(logDir, "agent", binary("coracle-agent"), "run", "--config", config)
	c.agent.env = []string{failpoint.Env + "=" + c.failpointFile()}
	return nil
}

func (c *cluster) agentConfig() string {
	// The slices of a systemd that runs here are the only ones it has; everywhere else each cluster has groups of its own.
	groups, driver := "/coracle-it-"+c.id, cgroup.DriverCgroupfs
	if os.Getenv(driverEnv) == cgroup.DriverSystemd {
		groups, driver = "/", cgroup.DriverSystemd
	}
	return fmt.Sprintf(`nodeName: %s
server: 127.0.0.1:%d
stateDir: %[3]s/agent
rootDir: %[3]s/kubelet
runDir: %s/a
logDir: %[3]s/log
cgroupRoot: %[7]s
cgroupDriver: %[8]s
podPidsLimit: 2000
staticPodDir: %[3]s/manifests
evictionHard: {nodefs.available: "0", nodefs.inodesFree: "0", imagefs.available: "0", imagefs.inodesFree: "0"} # how full this machine is must not matter
images: {gcHighThresholdPercent: 100}
containerd:
  socket: %[6]s
  certsDir: %[3]s/certs.d
cni:
  confDir: %[3]s/cni
  bridge: cor%[5]s
`, c.node, c.gwPort, c.dir, c.sockets, c.id, c.containerdSocket(), groups, driver) + os.Getenv(agentEnv)
}

// agentEnv holds more lines for the agent's configuration.
const agentEnv = "CORACLE_TEST_AGENT_CONFIG"

func (c *cluster) staticPodDir() string { return filepath.Join(c.dir, "manifests") }

// conflistEnv is a CNI conflist for kernels on which the agent's own cannot work.
const conflistEnv = "CORACLE_TEST_CONFLIST"

// driverEnv names the cgroup driver for the tests: cgroupfs unless it says systemd.
const driverEnv = "CORACLE_TEST_CGROUP_DRIVER"

func (c *cluster) containerdSocket() string { return filepath.Join(c.sockets, "c.sock") }

func (c *cluster) pushImages(ctx context.Context) error {
	busybox := testimage.Busybox("/bin/busybox", []string{"sh", "sleep", "echo", "cat", "ls", "env", "id", "hostname", "httpd", "nc",
		"touch", "false", "true", "pwd", "tar", "head", "tail", "stat", "mkdir", "rm", "kill", "ps", "ip", "date", "seq", "wc", "yes", "dd", "mount", "readlink", "tee", "tr", "printf", "cut"})
	if err := testimage.Push(ctx, c.image, busybox); err != nil {
		return err
	}
	return testimage.Push(ctx, c.demo, demoImage())
}

func demoImage() testimage.Spec {
	return testimage.Spec{
		Files:      map[string]testimage.File{"/demo": {Source: binary("coracle-demo")}},
		Entrypoint: []string{"/demo"}, User: "65534",
	}
}

// join makes a token on the control plane and spends it on the agent.
func (c *cluster) join() error {
	token, err := c.token("token")
	if err != nil {
		return err
	}
	hash, err := c.token("ca-hash")
	if err != nil {
		return err
	}
	_, err = output(nil, "", binary("coracle-agent"), "join", "--config", filepath.Join(c.dir, "agent.yaml"), "--token", token, "--ca-hash", hash)
	return err
}

func (c *cluster) token(print string) (string, error) {
	out, err := output(nil, "", binary("coracle-controlplane"), "token", "create", "--kubeconfig", c.kubeconfig,
		"--data-dir", filepath.Join(c.dir, "controlplane"), "--ttl", "10m", "--print", print)
	return strings.TrimSpace(out), err
}

func (c *cluster) kubectl(args ...string) (string, error) { return c.kubectlStdin("", args...) }

func (c *cluster) kubectlStdin(stdin string, args ...string) (string, error) {
	for i, arg := range args { // kubectl's own patience gets slack, too
		if d, err := time.ParseDuration(strings.TrimPrefix(arg, "--timeout=")); err == nil && strings.HasPrefix(arg, "--timeout=") {
			args = slices.Clone(args)
			args[i] = "--timeout=" + (slack * d).String()
		}
	}
	return output([]string{"KUBECONFIG=" + c.kubeconfig, "HOME=" + c.dir}, stdin, append([]string{binary("kubectl")}, args...)...)
}

// waitAnswer waits until the API is ready.
func (c *cluster) waitAnswer() error {
	return eventually(90*time.Second, func() error {
		_, err := c.kubectl("get", "--raw", "/readyz")
		if err != nil && c.control.exited() {
			return endedError{c.control}
		}
		return err
	})
}

func (c *cluster) waitNodeReady(d time.Duration) error {
	return eventually(d, func() error {
		if c.agent.exited() {
			return endedError{c.agent}
		}
		out, err := c.kubectl("get", "node", c.node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}`)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(out, "True") {
			return fmt.Errorf("node is not Ready: %q", out)
		}
		return nil
	})
}

// down takes everything away and returns what was left behind on the machine.
func (c *cluster) down() (left []string, err error) {
	if c.agent != nil && c.agent.cmd != nil {
		c.agent.stop()
	}
	if c.agent != nil {
		if _, e := output(nil, "", binary("coracle-agent"), "reset", "--yes", "--config", filepath.Join(c.dir, "agent.yaml")); e != nil {
			err = e
		}
	}
	_ = eventually(10*time.Second, func() error { // a shim ends a moment after its last container
		if left = append(c.leftovers(), c.ownTraces()...); len(left) > 0 {
			return errors.New(left[0])
		}
		return nil
	})
	for _, p := range []*process{c.logs, c.control, c.registryd, c.containerd} {
		if p != nil && p.cmd != nil {
			p.stop()
		}
	}
	for _, d := range []string{c.dir, c.sockets} {
		if d == "" {
			continue
		}
		if mounted := mountsBelow(d); len(mounted) > 0 {
			return append(left, mounted...), fmt.Errorf("still mounted below %s, not deleted", d)
		}
		if e := os.RemoveAll(d); e != nil && err == nil {
			err = e
		}
	}
	return left, err
}

func (c *cluster) logTails(lines int) string {
	var b strings.Builder
	for _, p := range []*process{c.control, c.agent, c.logs, c.containerd, c.registryd} {
		if p != nil {
			fmt.Fprintf(&b, "--- %s\n%s\n", p.name, p.tail(lines))
		}
	}
	return b.String()
}

// slack is how many times longer everything may take on a busy machine than the tests say, who speak of an idle one.
const slack = 4

// endedError is an answer after which asking again is no use: a process that was waited for has ended.
type endedError struct{ p *process }

func (e endedError) Error() string { return fmt.Sprintf("%s ended:\n%s", e.p.name, e.p.tail(5)) }

// eventually asks until the answer is nil, and returns the last answer when the time, with its slack, is up.
func eventually(d time.Duration, ask func() error) error {
	d *= slack
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if ended := (endedError{}); err == nil || errors.As(err, &ended) {
			return err
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("after %s: %w", d, err)
		case <-tick.C:
		}
	}
}

// get decodes one object as kubectl gives it.
func (c *cluster) get(t testing.TB, into any, args ...string) {
	t.Helper()
	if err := c.read(into, args...); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) read(into any, args ...string) error {
	out, err := c.kubectl(append(append([]string{"get"}, args...), "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("kubectl get %v printed no JSON: %w\n%s", args, err, out)
	}
	return nil
}

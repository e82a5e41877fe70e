// Package integration tests the whole of Coracle with real parts: containerd, an OCI runtime, CNI plugins, etcd, a
// registry and kubectl, as root on this machine. One cluster serves all tests; each test works in a namespace of its own.
package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
)

// shared is the cluster that the tests use. A test that stops a part of it starts it again before it ends.
var shared *cluster

func TestMain(m *testing.M) {
	if config := os.Getenv(etcdEnv); config != "" {
		os.Exit(serveEtcd(config))
	}
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Println("integration: not root, so nothing was run: containers, namespaces and cgroups need root (sudo make test)")
		os.Exit(0)
	}
	for _, program := range []string{"containerd", "ctr", "docker-registry", "busybox", "ip", "iptables", "nft"} {
		if !have(program) {
			fmt.Printf("integration: %s is not installed; run 'make packages'\n", program)
			os.Exit(1)
		}
	}
	for _, b := range []string{"coracle-agent", "coracle-controlplane", "kubectl", "coracle-demo"} {
		if _, err := os.Stat(binary(b)); err != nil {
			fmt.Printf("integration: bin/%s is not built; run 'make integration', which builds it\n", b)
			os.Exit(1)
		}
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if shared, err = startCluster(context.Background()); err != nil {
		fmt.Println("integration: the cluster did not start:", err)
		return 1
	}
	code := m.Run()
	if code != 0 {
		fmt.Println(shared.logTails(60))
	}
	left, err := shared.down()
	if err != nil {
		fmt.Println("integration: taking the cluster down:", err)
		code = 1
	}
	for _, l := range left {
		fmt.Println("integration: left behind:", l)
		code = 1
	}
	return code
}

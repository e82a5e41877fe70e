package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"coracle/internal/testport"
)

func TestBadObjects(t *testing.T) {
	s := newSpace(t)
	refuse := func(manifest string, texts ...string) {
		t.Helper()
		_, err := s.cluster.kubectlStdin(manifest, "-n", s.name, "create", "-f", "-")
		if err == nil {
			t.Errorf("this was accepted:\n%.300s", manifest)
			return
		}
		s.wantContains(err.Error(), texts...)
	}
	refuse("apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_Name}\nspec: {containers: [{name: a, image: b}]}\n", "metadata.name: Invalid value")
	refuse("apiVersion: v1\nkind: Pod\nmetadata: {name: empty}\nspec: {containers: []}\n", "spec.containers: Required value")
	refuse("apiVersion: v1\nkind: Pod\nmetadata: {name: typo}\nspec: {containers: [{name: a, image: b, imagePullPolice: Always}]}\n", "unknown field", "imagePullPolice")
	refuse("apiVersion: v1\nkind: Pod\nmetadata: {name: twice}\nspec: {containers: [{name: a, image: b}, {name: a, image: b}]}\n", "spec.containers[1].name: Duplicate value")
	refuse("apiVersion: v1\nkind: Pod\nmetadata: {name: greedy}\nspec: {containers: [{name: a, image: b, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]}\n", "spec.containers[0].resources.requests: Invalid value")
	refuse("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: b}]}}}\n", "spec.template.metadata.labels: Invalid value")
	refuse("apiVersion: v1\nkind: Nonsense\nmetadata: {name: d}\n", "no matches for kind")
	refuse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big}\ndata: {a: "+strings.Repeat("x", 1200*1024)+"}\n", "Too long")
	refuse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: huge}\ndata: {a: "+strings.Repeat("x", 4*1024*1024)+"}\n", "too large")
	refuse("this is not: [yaml", "error")
	s.wantContains(s.refused("create", "configmap", "c", "--from-literal=../x=1"), "not a valid")

	s.do("create", "configmap", "kept", "--from-literal=a=1")
	s.wantContains(s.refused("patch", "configmap", "kept", "--type=json", "-p", `[{"op":"remove","path":"/data/none"}]`), "none")
	if got := s.do("get", "configmap", "kept", "-o", "jsonpath={.data.a}"); got != "1" {
		t.Errorf("a refused patch changed data to %q", got)
	}
}

func TestBadPods(t *testing.T) {
	s := newSpace(t)
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec:\n  terminationGracePeriodSeconds: 1\n  restartPolicy: %s\n  containers: [{name: main, image: %q, command: %s%s}]\n"
	s.apply(fmt.Sprintf(manifest, "no-image", "Always", s.registry+"/nowhere:1", "[a]", ""))
	s.apply(fmt.Sprintf(manifest, "no-registry", "Always", "127.0.0.1:1/x:1", "[a]", ""))
	s.apply(fmt.Sprintf(manifest, "no-command", "Never", s.image, "[/no/such/program]", ""))
	s.apply(fmt.Sprintf(manifest, "never-pull", "Always", s.registry+"/busybox:other", "[a]", ", imagePullPolicy: Never"))
	s.apply(fmt.Sprintf(manifest, "bad-ref", "Always", s.registry+"/UPPER:1", "[a]", ""))
	s.apply(fmt.Sprintf(manifest, "no-config", "Always", s.image, "[sleep, '60']", ", envFrom: [{configMapRef: {name: missing}}]"))
	s.apply(fmt.Sprintf(manifest, "too-big", "Always", s.image, "[sleep, '60']", ", resources: {requests: {cpu: 4000}}"))

	s.waitPod("no-image", 60*time.Second, waitingReason("ImagePullBackOff"))
	s.says([]string{"describe", "pod", "no-image"}, "Failed to pull image", "nowhere", "not found", "Back-off pulling image")
	s.waitPod("no-registry", 60*time.Second, waitingReason("ImagePullBackOff"))
	s.says([]string{"describe", "pod", "no-registry"}, "connection refused")
	s.waitPod("never-pull", 30*time.Second, waitingReason("ErrImageNeverPull"))
	s.waitPod("bad-ref", 30*time.Second, waitingReason("InvalidImageName"))
	s.waitPod("no-config", 30*time.Second, waitingReason("CreateContainerConfigError"))
	s.says([]string{"describe", "pod", "no-config"}, `configmap "missing" not found`)
	p := s.waitPod("no-command", 30*time.Second, phase(corev1.PodFailed))
	if end := p.Status.ContainerStatuses[0].State.Terminated; end == nil || end.Reason != "StartError" || end.ExitCode != 128 || !strings.Contains(end.Message, "/no/such/program") {
		t.Errorf("a command that does not exist ended as %+v", end)
	}
	p = s.waitPod("too-big", 30*time.Second, func(p *pod) error {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Reason == "Unschedulable" {
				return nil
			}
		}
		return fmt.Errorf("no Unschedulable condition: %+v", p.Status.Conditions)
	})
	s.wantContains(p.Status.Conditions[0].Message, "0/1 nodes are available", "1 Insufficient cpu")
	s.says([]string{"describe", "pod", "too-big"}, "FailedScheduling")

	// The image appears: the next try of the back-off finds it, without anybody's help.
	s.do("create", "configmap", "missing", "--from-literal=A=b")
	s.waitReady("no-config")
}

func TestStallingRegistry(t *testing.T) {
	s := newSpace(t)
	s.apply(fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: stalled}\nspec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: '%s/x:1'}]}\n", stallingRegistry(t)))
	s.waitPod("stalled", 20*time.Second, waitingReason("ContainerCreating"))
	// A pull that hangs holds up nobody else, and a pod can be deleted in the middle of it.
	s.apply(s.busybox("other", sleeper))
	s.waitReady("other")
	s.do("delete", "pod", "stalled", "--timeout=30s")
}

func TestBadStarts(t *testing.T) {
	s := newSpace(t)
	dir := t.TempDir()
	fails := func(code int, texts []string, argv ...string) {
		t.Helper()
		out, err := output(nil, "", append([]string{"timeout", "120"}, argv...)...)
		if exitCode(err) != code {
			t.Errorf("%v: exit code %d, want %d: %v %s", argv, exitCode(err), code, err, out)
			return
		}
		s.wantContains(err.Error(), texts...)
	}
	agent, control := binary("coracle-agent"), binary("coracle-controlplane")
	write := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	fails(2, []string{"nodeNaem"}, agent, "run", "--config", write("typo.yaml", "nodeNaem: x\n"))
	fails(2, []string{"securePrt"}, control, "serve", "--config", write("typo2.yaml", "securePrt: 1\n"))

	// A token that is none, a hash that is none, and an agent that never joined.
	own := write("own.yaml", strings.ReplaceAll(s.agentConfig(), s.dir+"/agent", filepath.Join(dir, "state")))
	hash, err := s.token("ca-hash")
	if err != nil {
		t.Fatal(err)
	}
	fails(2, []string{"token", "no such token"}, agent, "join", "--config", own, "--token", "abcdef.0123456789abcdef", "--ca-hash", hash)
	token, err := s.token("token")
	if err != nil {
		t.Fatal(err)
	}
	fails(2, []string{"sha256:", "not of the cluster that was meant"}, agent, "join", "--config", own, "--token", token, "--ca-hash", "sha256:"+strings.Repeat("0", 64))
	fails(2, []string{"has not joined", "coracle-agent join"}, agent, "run", "--config", own)

	// A port in use; etcd away.
	ports, err := testport.Free(2)
	if err != nil {
		t.Fatal(err)
	}
	free, other := fmt.Sprint(ports[0]), fmt.Sprint(ports[1])
	fails(1, []string{fmt.Sprint(s.apiPort), "in use"}, control, "serve", "--data-dir", filepath.Join(dir, "cp"), "--bind-address", "127.0.0.1",
		"--advertise-address", "127.0.0.1", "--secure-port", fmt.Sprint(s.apiPort), "--gateway-port", free)
	fails(1, []string{"etcd", "127.0.0.1:1"}, control, "serve", "--data-dir", filepath.Join(dir, "cp2"), "--bind-address", "127.0.0.1",
		"--advertise-address", "127.0.0.1", "--secure-port", free, "--gateway-port", other, "--etcd-endpoints", "http://127.0.0.1:1")
}

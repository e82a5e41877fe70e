package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"coracle/internal/testimage"
	"coracle/internal/testport"
)

func TestRun(t *testing.T) {
	s := newSpace(t)
	image := s.registry + "/demo:" + s.name // which nobody has pulled
	if err := testimage.Push(t.Context(), image, demoImage()); err != nil {
		t.Fatal(err)
	}
	s.wantContains(s.do("run", "web", "--image="+image), "pod/web created")
	s.waitReady("web")

	all := s.do("get", "pods", "-A", "-o", "wide")
	s.wantContains(all, "NAMESPACE", "READY", "STATUS", "RESTARTS", "AGE", "NODE", "NOMINATED NODE", "READINESS GATES")
	if !regexp.MustCompile(s.name + ` +web +1/1 +Running +0 +[0-9ms]+ +` + regexp.QuoteMeta(s.podNet) + `\.\d+\.\d+ +` + nodeName + ` `).MatchString(all) {
		t.Errorf("kubectl get pods -A -o wide printed:\n%s", all)
	}
	s.says([]string{"describe", "pod", "web"}, "Name:", "Node:", nodeName, "Status:           Running", "containerd://",
		"Successfully assigned "+s.name+"/web to "+nodeName, "Pulling image", "Successfully pulled image", "Started")
	s.says([]string{"get", "events"}, "LAST SEEN", "Scheduled", "Pulled", "Created", "Started", "pod/web")
	s.says([]string{"logs", "web"}, "serving on :8080 as web")
	s.wantContains(s.do("get", "nodes", "-o", "wide"), nodeName, "Ready", "containerd://")

	s.wantContains(s.do("delete", "pod", "web"), "deleted")
	s.wantContains(s.refused("get", "pod", "web"), `pods "web" not found`)
}

func TestLogsFollow(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("talk", "for i in $(seq 1 5); do echo line $i; sleep 0.3; done; echo problem >&2"))
	s.waitPod("talk", 30*time.Second, func(p *pod) error { return started(p) })
	got := s.do("logs", "-f", "talk") // ends by itself when the container does
	want := "line 1\nline 2\nline 3\nline 4\nline 5\nproblem\n"
	if i := strings.Index(got, "line 1"); i < 0 || got[i:] != want {
		// The container may have been restarted meanwhile: what counts is that one run is whole and in order.
		if !strings.Contains(got, want) {
			t.Errorf("logs -f printed:\n%s", got)
		}
	}
	s.says([]string{"logs", "talk", "--tail=1", "--timestamps", "--previous=false"}, "T")
	s.wantContains(s.refused("logs", "talk", "-c", "nobody"), "container nobody is not valid for pod talk")
}

func TestExec(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("box", sleeper))
	s.waitReady("box")
	if got := s.do("exec", "box", "--", "sh", "-c", "echo out; echo err >&2"); got != "out\n" {
		t.Errorf("exec printed %q", got)
	}
	if got, err := s.cluster.kubectlStdin("through stdin\n", "-n", s.name, "exec", "-i", "box", "--", "cat"); err != nil || got != "through stdin\n" {
		t.Errorf("exec -i gave %q, %v", got, err)
	}
	_, err := s.kubectl("exec", "box", "--", "sh", "-c", "exit 7")
	if code := exitCode(err); code != 7 {
		t.Errorf("exec of exit 7 gave exit code %d (%v)", code, err)
	}
	s.wantContains(s.refused("exec", "box", "--", "no-such-program"), "no-such-program")
	// A terminal: script(1) gives kubectl one.
	tty, err := output([]string{"KUBECONFIG=" + s.kubeconfig}, "", "script", "-qec",
		fmt.Sprintf("%s -n %s exec -it box -- sh -c 'test -t 0 && test -t 1 && echo a terminal'", binary("kubectl"), s.name), "/dev/null")
	if err != nil || !strings.Contains(tty, "a terminal") {
		t.Errorf("exec -it gave %q, %v", tty, err)
	}
}

func TestAttach(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("echoer", "while read line; do echo got $line; [ $line = end ] && exit 0; done", "stdin: true\nstdinOnce: true"))
	s.waitReady("echoer")
	got, err := s.cluster.kubectlStdin("hello\nend\n", "-n", s.name, "attach", "-i", "echoer")
	if err != nil || !strings.Contains(got, "got hello") || !strings.Contains(got, "got end") {
		t.Errorf("attach gave %q, %v", got, err)
	}
	// kubectl run -i is create, wait and attach in one.
	got, err = s.cluster.kubectlStdin("one\n", "-n", s.name, "run", "once", "--image="+s.image, "-i", "--rm", "--restart=Never", "--quiet",
		"--command", "--", "sh", "-c", "read x; echo said $x")
	if err != nil || !strings.Contains(got, "said one") {
		t.Errorf("run -i --rm gave %q, %v", got, err)
	}
}

func TestPortForward(t *testing.T) {
	s := newSpace(t)
	s.do("run", "web", "--image="+s.demo)
	s.waitReady("web")
	ports, err := testport.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	forward := newProcess(t.TempDir(), "port-forward", binary("kubectl"), "--kubeconfig", s.kubeconfig, "-n", s.name,
		"port-forward", "pod/web", fmt.Sprintf("%d:8080", ports[0]))
	if err := forward.start(); err != nil {
		t.Fatal(err)
	}
	defer forward.stop()
	client := &http.Client{Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}, Timeout: 30 * time.Second}
	for range 5 { // several connections over one forward
		s.eventually(20*time.Second, func() error {
			answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", ports[0]))
			if err != nil {
				return fmt.Errorf("%w; kubectl said: %s", err, forward.tail(5))
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || string(body) != "hello from web\n" {
				return fmt.Errorf("got %q, %w", body, err)
			}
			return nil
		})
	}
	// The API's own proxy reaches the pod the same way.
	s.wantContains(s.do("get", "--raw", "/api/v1/namespaces/"+s.name+"/pods/web:8080/proxy/"), "hello from web")
}

func TestCopy(t *testing.T) {
	s := newSpace(t)
	s.apply(s.busybox("box", sleeper))
	s.waitReady("box")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789abcdef", 64*1024) // 1 MiB
	for name, content := range map[string]string{"tree/a": "one\n", "tree/deep/b": big} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.do("cp", filepath.Join(dir, "tree"), "box:/tmp/tree")
	if got := s.do("exec", "box", "--", "cat", "/tmp/tree/a"); got != "one\n" {
		t.Errorf("copied file holds %q", got)
	}
	s.do("cp", "box:/tmp/tree/deep/b", filepath.Join(dir, "back"))
	if back, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(back) != big {
		t.Errorf("copied back %d bytes, want %d (%v)", len(back), len(big), err)
	}
}

func TestApplyEditPatch(t *testing.T) {
	s := newSpace(t)
	s.wantContains(s.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: one, b: two}\n"), "configmap/settings created")
	s.wantContains(s.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: one, b: two}\n"), "unchanged")
	s.wantContains(s.apply(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"a":"three"}}`), "configured")
	data := func() string { return s.do("get", "configmap", "settings", "-o", "jsonpath={.data}") }
	if got := data(); got != `{"a":"three"}` {
		t.Errorf("after apply data is %s: a key left out must go", got)
	}
	// Server-side apply: each field has an owner, and a clash is a conflict.
	s.wantContains(s.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {x: one}\n", "--server-side", "--field-manager=first"), "serverside-applied")
	_, err := s.cluster.kubectlStdin("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {x: two}\n", "-n", s.name, "apply", "-f", "-", "--server-side", "--field-manager=second")
	if err == nil || !strings.Contains(err.Error(), "conflict") || !strings.Contains(err.Error(), "first") {
		t.Errorf("an apply over another manager's field gave %v, want a conflict with \"first\"", err)
	}

	s.do("patch", "configmap", "settings", "--type=merge", "-p", `{"data":{"m":"merge"}}`)
	s.do("patch", "configmap", "settings", "--type=json", "-p", `[{"op":"add","path":"/data/j","value":"json"}]`)
	s.do("patch", "configmap", "settings", "--type=strategic", "-p", `{"data":{"a":null}}`)
	if got := data(); got != `{"j":"json","m":"merge"}` {
		t.Errorf("after three patches data is %s", got)
	}
	editor := filepath.Join(t.TempDir(), "editor")
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nsed -i 's/m: merge/m: edited/' \"$1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := output([]string{"KUBECONFIG=" + s.kubeconfig, "KUBE_EDITOR=" + editor}, "", binary("kubectl"), "-n", s.name, "edit", "configmap", "settings"); err != nil {
		t.Error(err)
	}
	if got := data(); got != `{"j":"json","m":"edited"}` {
		t.Errorf("after edit data is %s", got)
	}
	s.wantContains(s.do("diff", "-f", writeFile(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ssa}\ndata: {x: one}\n")), "")
}

func TestDeploymentCommands(t *testing.T) {
	s := newSpace(t)
	s.do("create", "deployment", "web", "--image="+s.demo, "--replicas=2")
	s.wantContains(s.do("rollout", "status", "deployment/web", "--timeout=60s"), "successfully rolled out")
	s.wantContains(s.do("get", "deployment,replicaset", "-o", "wide"), "UP-TO-DATE", "AVAILABLE", "2/2", "SELECTOR", "DESIRED", "app=web")
	s.wantContains(s.do("scale", "deployment/web", "--replicas=3"), "scaled")
	s.wantContains(s.do("rollout", "status", "deployment/web", "--timeout=60s"), "successfully rolled out")
	s.do("set", "env", "deployment/web", "STEP=two")
	s.do("rollout", "status", "deployment/web", "--timeout=90s")
	s.wantContains(s.do("rollout", "history", "deployment/web"), "REVISION", "1", "2")
	s.wantContains(s.do("rollout", "undo", "deployment/web"), "rolled back")
	s.do("rollout", "status", "deployment/web", "--timeout=90s")
	if env := s.do("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env}"); env != "" {
		t.Errorf("after undo the template still has env %s", env)
	}
	s.do("rollout", "restart", "deployment/web")
	s.do("rollout", "status", "deployment/web", "--timeout=90s")
	s.do("wait", "--for=condition=Available", "deployment/web", "--timeout=30s")
	s.do("expose", "deployment", "web", "--port=80", "--target-port=8080")
	s.eventually(20*time.Second, func() error {
		out, err := s.kubectl("get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", "jsonpath={.items[*].endpoints[*].addresses[0]}")
		if n := len(strings.Fields(out)); err == nil && n != 3 {
			return fmt.Errorf("EndpointSlice has %d endpoints, want 3: %s", n, out)
		}
		return err
	})
	s.wantContains(s.do("get", "services"), "CLUSTER-IP", "web", "80/TCP")
	s.do("delete", "deployment", "web")
	s.eventually(60*time.Second, func() error {
		out, err := s.kubectl("get", "pods,replicasets", "-o", "name")
		if err == nil && out != "" {
			return fmt.Errorf("after the Deployment is deleted these are left: %s", out)
		}
		return err
	})
}

func TestDiscoveryCommands(t *testing.T) {
	s := newSpace(t)
	s.wantContains(s.do("api-resources"), "NAME", "SHORTNAMES", "pods", "po", "deployments", "apps/v1", "leases")
	s.wantContains(s.do("explain", "pod.spec.containers.resources"), "KIND:       Pod", "FIELD: resources", "limits", "requests")
	s.wantContains(s.do("version"), "Server Version: v1.")
	s.wantContains(s.do("auth", "can-i", "create", "pods"), "yes")
	out, err := s.kubectl("auth", "can-i", "delete", "nodes", "--as=system:serviceaccount:"+s.name+":default")
	if exitCode(err) != 1 || !strings.Contains(out, "no") {
		t.Errorf("can a service account delete nodes? %q (%v), want no", out, err)
	}
	s.wantContains(s.do("auth", "whoami"), "system:masters")
	s.wantContains(s.do("create", "role", "reader", "--verb=get,list", "--resource=pods"), "created")
	s.do("create", "rolebinding", "reader", "--role=reader", "--serviceaccount="+s.name+":default")
	s.eventually(10*time.Second, func() error {
		_, err := s.kubectl("auth", "can-i", "list", "pods", "--as=system:serviceaccount:"+s.name+":default")
		return err
	})
	token := strings.TrimSpace(s.do("create", "token", "default"))
	if _, err := output(nil, "", binary("kubectl"), "--kubeconfig=/dev/null", "--server", fmt.Sprintf("https://127.0.0.1:%d", s.apiPort),
		"--insecure-skip-tls-verify", "--token", token, "-n", s.name, "get", "pods"); err != nil {
		t.Errorf("a service account's token with a role: %v", err)
	}
}

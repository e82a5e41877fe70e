#!/usr/bin/env bash
# Brings up a whole cluster on this machine: registry, containerd, control plane, agent, and a demo Deployment.
# Every step is idempotent; run again after a failure, it goes on where it stopped.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root up
need_ours up

demo_ready() {
  [ "$(kubectl get deployment demo -o jsonpath='{.status.availableReplicas}' 2>/dev/null)" = 2 ]
}
all_up() {
  local s
  for s in "${services[@]}" coracle-registry; do alive "$s" || return 1; done
  kubectl get --raw /readyz && demo_ready
}

fetch_line() { # one line from the first demo pod, over its own address
  local ip
  ip=$(kubectl get pods -l app=demo -o jsonpath='{.items[0].status.podIP}')
  curl --silent --show-error --fail --noproxy '*' --max-time 5 "http://$ip:8080/"
}

next_steps() {
  cat <<END

Try next:
  export KUBECONFIG=$kubeconfig PATH=$bin:\$PATH
  kubectl run web --image=$registry/demo:1 && kubectl get pods -o wide --watch
  kubectl logs -f deployment/demo
  sudo make down
END
}

if [ -f "$kubeconfig" ] && all_up >/dev/null 2>&1; then
  say "already up: nothing to do"
  kubectl get nodes,pods -o wide
  next_steps
  exit 0
fi

claim
ensure_containerd

say "registry: serving images from run/registry at $registry"
cat >"$run/registry.yml" <<END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $run/registry}}
http: {addr: "$registry"}
END
if ! alive coracle-registry && curl --silent --noproxy '*' --max-time 2 "http://$registry/v2/" >/dev/null; then
  if has_systemd && systemctl is-active --quiet docker-registry; then
    fail "the service of the package docker-registry serves at $registry" \
      "only its program is needed here; if it is of no other use: systemctl disable --now docker-registry"
  fi
  fail "something else already serves at $registry" "stop it, or set another address in scripts/lib.sh"
fi
start coracle-registry "$(command -v docker-registry)" serve "$run/registry.yml"
wait_for 30 curl --silent --fail --noproxy '*' "http://$registry/v2/" ||
  fail "the registry did not answer at http://$registry/v2/ within 30 s" "see: $(the_log coracle-registry)"
"$bin/coracle-image" "$bin/coracle-demo" "$registry/demo:1" ||
  fail "the demo image could not be pushed to $registry" "see: $(the_log coracle-registry)"

say "control plane: API on https://127.0.0.1:6443, gateway on 6444"
start coracle-controlplane "$bin/coracle-controlplane" serve --data-dir "$run/controlplane" --kubeconfig "$kubeconfig"
wait_for 90 kubectl get --raw /readyz ||
  fail "the control plane was not ready within 90 s" "see: $(the_log coracle-controlplane)" \
    "a port in use or a data folder of another user are the usual causes"

say "agent: this machine is the node $(hostname | tr '[:upper:]' '[:lower:]')"
mkdir -p "$run/cni"
cat >"$run/agent.yaml" <<END
server: 127.0.0.1:6444
stateDir: $run/agent
rootDir: $run/kubelet
runDir: $sockets/agent
logDir: $run/log/pods
# A demo comes up on a disk that is fuller than a server's should be, too.
evictionHard: {nodefs.available: 2%, imagefs.available: 2%}
containerd:
  socket: $containerd_socket
  namespace: $containerd_namespace
cni:
  confDir: $run/cni
END
if [ ! -s "$run/agent/pki/node.pem" ]; then
  token=$("$bin/coracle-controlplane" token create --kubeconfig "$kubeconfig" --data-dir "$run/controlplane" --ttl 10m --print token) ||
    fail "a join token could not be made" "see: $(the_log coracle-controlplane)"
  hash=$("$bin/coracle-controlplane" token create --kubeconfig "$kubeconfig" --data-dir "$run/controlplane" --ttl 1m --print ca-hash)
  "$bin/coracle-agent" join --config "$run/agent.yaml" --token "$token" --ca-hash "$hash" >/dev/null ||
    fail "the agent could not join" "the lines above say why; $bin/coracle-agent check --config $run/agent.yaml looks at this machine"
fi
start coracle-log-writer "$bin/coracle-agent" log-writer --config "$run/agent.yaml"
start coracle-agent "$bin/coracle-agent" run --config "$run/agent.yaml"
node_ready() { kubectl wait --for=condition=Ready node --all --timeout=1s; }
wait_for 60 node_ready ||
  fail "the node was not Ready within 60 s" "see: $(the_log coracle-agent)" \
    "and: $bin/coracle-agent check --config $run/agent.yaml"

say "demo: two replicas of $registry/demo:1"
kubectl apply -f "$root/scripts/demo/demo.yaml" >/dev/null || fail "the demo could not be applied"
kubectl rollout status deployment/demo --timeout=120s ||
  fail "the demo was not available within 120 s" "see: $bin/kubectl --kubeconfig $kubeconfig describe pods -l app=demo"

kubectl get nodes,pods -o wide
echo
# After a reboot the pods that the API knows may still be starting.
line=$(wait_for 30 fetch_line && fetch_line) || fail "a demo pod did not answer" "see: $bin/kubectl --kubeconfig $kubeconfig logs -l app=demo"
say "a pod says: $line"
next_steps

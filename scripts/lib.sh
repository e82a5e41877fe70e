# Shared by up.sh and down.sh: where things are, how they are said, how processes are kept running.
# Sourced, not run. Where systemd runs, each process is a unit of its own in /run/systemd, which a reboot forgets;
# elsewhere supervise.sh keeps it, with a .pid and a .log file in run/.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run=$root/run             # all state of `make up`, ignored by git
sockets=/run/coracle      # sockets and namespaces: short paths, gone at a reboot
owner=$sockets/made-by    # names the checkout whose `make up` made $sockets
bin=$root/bin
kubeconfig=$run/admin.kubeconfig
registry=127.0.0.1:5000
services=(coracle-controlplane coracle-log-writer coracle-agent)
containerd_namespace=coracle-up

say() { printf '==> %s\n' "$*"; }
fail() {
  printf '%s: %s\n' "$(basename "$0" .sh)" "$1" >&2
  shift
  [ $# -eq 0 ] || printf '    %s\n' "$@" >&2
  exit 1
}
need_root() {
  [ "$(id -u)" -eq 0 ] || fail "this must run as root: it makes namespaces, mounts and cgroups" "try: sudo make ${1}"
}
kubectl() { "$bin/kubectl" --kubeconfig "$kubeconfig" "$@"; }

has_systemd() { [ -d /run/systemd/system ]; }

# alive NAME: is the process that supervise.sh or systemd keeps running there?
alive() {
  if has_systemd; then
    systemctl is-active --quiet "$1"
  else
    local pid
    pid=$(cat "$run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && grep -qz supervise.sh "/proc/$pid/cmdline" 2>/dev/null
  fi
}

# foreign NAME: is NAME a unit that this machine has from elsewhere, such as a package?
foreign() {
  local fragment
  has_systemd || return 1
  fragment=$(systemctl show --property FragmentPath --value "$1.service")
  [ -n "$fragment" ] && [[ $fragment != /run/systemd/* ]]
}

# made_by_us: did this checkout make the folder of the sockets? An installed agent has its namespaces in the same one.
made_by_us() { [ "$(cat "$owner" 2>/dev/null)" = "$root" ]; }

# need_ours COMMAND: refuse where a package or another checkout runs what COMMAND would start or stop.
need_ours() {
  local s
  for s in "${services[@]}"; do
    ! foreign "$s" || fail "this machine has a $s.service of its own: $(systemctl show --property FragmentPath --value "$s")" \
      "'make $1' is for machines without an installed Coracle; nothing was touched"
  done
  [ ! -e "$owner" ] || made_by_us ||
    fail "the checkout $(cat "$owner") is up on this machine" "run 'make down' there first"
}

# start NAME COMMAND…: keep COMMAND running under NAME, through a unit of systemd or through supervise.sh.
start() {
  local name=$1
  shift
  alive "$name" && return 0
  if ! has_systemd; then
    setsid "$root/scripts/supervise.sh" "$run/$name.pid" "$run/$name.log" "$@" </dev/null >/dev/null 2>&1 &
    return 0
  fi
  if [ -f "$root/systemd/$name.service" ]; then
    with_command "$@" <"$root/systemd/$name.service" >"/run/systemd/system/$name.service"
    systemctl daemon-reload
    systemctl start "$name" || fail "$name did not start" "see: $(the_log "$name")"
    return 0
  fi
  # Like the machine's own containerd: when it ends, the shims in its group live on.
  local properties=(--property Restart=always --property RestartSec=1 --property StartLimitIntervalSec=0
    --property KillMode=process --property Delegate=yes --property TasksMax=infinity --property LimitNOFILE=1048576)
  systemd-run --quiet --collect --unit "$name" "${properties[@]}" "$@" || fail "$name did not start" "see: $(the_log "$name")"
}

# with_command COMMAND…: copy a unit from stdin to stdout, with COMMAND in place of the installed program.
with_command() {
  local line word exec=
  for word in "$@"; do
    word=${word//\\/\\\\}
    word=${word//\"/\\\"}
    word=${word//%/%%}
    [ -z "$exec" ] || word=${word//\$/\$\$} # variables are replaced in arguments only
    exec+=" \"$word\""
  done
  while IFS= read -r line; do
    case $line in
      ExecStart=*) printf 'ExecStart=%s\n' "${exec# }" ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
}

# stop NAME: end what start began, and wait until it is gone.
stop() {
  local name=$1 pid
  if has_systemd; then
    ! foreign "$name" || return 0
    systemctl stop "$name" 2>/dev/null || true
    rm -f "/run/systemd/system/$name.service"
    systemctl daemon-reload
    systemctl reset-failed "$name" 2>/dev/null || true
    return 0
  fi
  pid=$(cat "$run/$name.pid" 2>/dev/null) || return 0
  alive "$name" && kill -TERM "$pid" 2>/dev/null
  wait_for 20 dead "$pid" || kill -KILL "$pid" 2>/dev/null || true
  rm -f "$run/$name.pid"
}
dead() { ! kill -0 "$1" 2>/dev/null; }

# wait_for SECONDS COMMAND…: until COMMAND succeeds; false when the time is up.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

# the_log NAME: how to read what NAME printed.
the_log() {
  if has_systemd; then echo "journalctl -u $1 -n 50"; else echo "tail -n 50 $run/$1.log"; fi
}

# ensure_containerd: one that answers at $containerd_socket: the machine's own, else one with its state in run/.
ensure_containerd() {
  containerd_socket=/run/containerd/containerd.sock
  if [ ! -f "$run/containerd.toml" ] && containerd_answers; then
    say "containerd: using the one that runs at $containerd_socket"
    return 0
  fi
  if [ ! -f "$run/containerd.toml" ] && foreign containerd; then
    say "containerd: starting its unit"
    touch "$run/containerd-started"
    systemctl start containerd && wait_for 30 containerd_answers ||
      fail "containerd did not start" "see: journalctl -u containerd -n 50"
    return 0
  fi
  containerd_socket=$sockets/containerd/containerd.sock
  say "containerd: running one with its state in run/"
  cat >"$run/containerd.toml" <<END
version = 2
root = "$run/containerd"
state = "$sockets/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$containerd_socket"
END
  start coracle-containerd "$(command -v containerd)" --config "$run/containerd.toml" --log-level warn
  wait_for 30 containerd_answers ||
    fail "containerd did not answer at $containerd_socket within 30 s" "see: $(the_log coracle-containerd)"
}
containerd_answers() { [ -S "$containerd_socket" ] && ctr_run version; } >/dev/null 2>&1
ctr_run() { ctr --address "$containerd_socket" --namespace "$containerd_namespace" "$@"; }

# claim: make the folders of `make up`.
claim() {
  mkdir -p "$run" "$sockets"
  chmod 700 "$run"
  echo "$root" >"$owner"
}

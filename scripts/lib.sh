# Shared by up.sh and down.sh: where things are, how they are said, how processes are kept running.
# Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
run=$root/run             # all state of `make up`, ignored by git
sockets=/run/coracle      # sockets and namespaces: short paths, gone at a reboot
bin=$root/bin
kubeconfig=$run/admin.kubeconfig
registry=127.0.0.1:5000
services=(coracle-controlplane coracle-log-writer coracle-agent)

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'up: %s\n' "$1" >&2
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

# start NAME COMMAND…: keep COMMAND running under NAME, through a unit of systemd or through supervise.sh.
start() {
  local name=$1
  shift
  alive "$name" && return 0
  if has_systemd; then
    if [ -f "$root/systemd/$name.service" ]; then
      # The shipped unit, with the paths of this checkout; in /run, so that a reboot forgets it.
      sed -E "s#^ExecStart=.*#ExecStart=$*#" "$root/systemd/$name.service" >"/run/systemd/system/$name.service"
      systemctl daemon-reload
      systemctl start "$name"
    else
      systemd-run --quiet --unit "$name" --property Restart=always "$@"
    fi
  else
    setsid "$root/scripts/supervise.sh" "$run/$name.pid" "$run/$name.log" "$@" </dev/null >/dev/null 2>&1 &
  fi
}

# stop NAME: end what start began, and wait until it is gone.
stop() {
  local name=$1 pid
  if has_systemd; then
    systemctl stop "$name" 2>/dev/null || true
    rm -f "/run/systemd/system/$name.service"
    systemctl daemon-reload
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

#!/usr/bin/env bash
# Keeps one command running where there is no systemd: supervise.sh PIDFILE LOGFILE COMMAND…
# The command is restarted when it ends, sooner at first and at most every 10 s; SIGTERM ends both.
set -u
pidfile=$1 log=$2
shift 2
echo $$ >"$pidfile"
child=
stopping=
trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM INT
pause=0
while [ -z "$stopping" ]; do
  began=$SECONDS
  # Should this script be killed, the command ends too: nobody would know its pid.
  setpriv --pdeathsig TERM -- "$@" >>"$log" 2>&1 </dev/null &
  child=$!
  wait "$child"
  code=$?
  # wait returns early when a signal arrives: the child is still ending.
  while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
  [ -z "$stopping" ] || break
  [ $((SECONDS - began)) -lt 30 ] || pause=0
  echo "supervise: $(basename "$1") ended with code $code; starting it again in $pause s" >>"$log"
  sleep "$pause"
  pause=$((pause < 5 ? pause + 1 : 10))
done
rm -f "$pidfile"

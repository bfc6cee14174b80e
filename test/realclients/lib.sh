# What the tests are made of: checks, bounded waits, and the processes. Sourced by run.

passed=0
failed=0

ok() {
  passed=$((passed + 1))
  printf 'ok %s\n' "$1"
}

# bad NAME LINE...: what was wrong, indented.
bad() {
  failed=$((failed + 1))
  printf 'FAILED %s\n' "$1"
  shift
  printf '  %s\n' "$@"
}

# same NAME WANT GOT: the same bytes.
same() {
  if [ "$2" = "$3" ]; then ok "$1"; else bad "$1" "want: $2" "got:  $3"; fi
}

# await COMMAND...: until it succeeds, or patience is over.
patience=60
await() {
  local deadline=$((SECONDS + patience))
  until "$@"; do
    if [ $SECONDS -ge $deadline ]; then return 1; fi
    sleep 0.1
  done
}

# must WHAT COMMAND...: a step without which going on has no sense.
must() {
  local what=$1
  shift
  if ! await "$@"; then
    bad "$what" "did not happen within $patience s"
    exit 1
  fi
}

has_line() { grep -Fxq -e "$2" "$1" 2>/dev/null; }
has_text() { grep -Fq -e "$2" "$1" 2>/dev/null; }
lines() { grep -Fxc -e "$2" "$1" 2>/dev/null || true; }

# arrives NAME TOPIC PAYLOAD [RECORD]: the broker passed on exactly this, with QoS 1, not retained.
arrives() {
  local record=${4:-$work/cloud.record}
  if await has_line "$record" "$2 1 0 $3"; then
    ok "$1"
  else
    bad "$1" "want: $2 1 0 $3" "seen: $(grep -F "$2 " "$record" | tail -n 3)"
  fi
}

# publish TOPIC PAYLOAD: what the cloud sends of its own accord.
publish() { mosquitto_pub -V mqttv5 -h 127.0.0.1 -p "$mqtt_port" -q 1 -t "$1" -m "$2"; }

# request SUBJECT PAYLOAD [FLAG...]: prints the answer; what else nats says goes to a file.
request() {
  local subject=$1 payload=$2
  shift 2
  "$NATS" req --raw --no-templates "$@" "$subject" "$payload" 2>"$work/request.err" || true
}

# stored STREAM SUBJECT: prints what a stream holds for a subject, a payload a line, and ends.
stored() { "$NATS" sub --raw --stream "$1" --all --terminate-at-end "$2" 2>/dev/null | sed '/^$/d'; }

# The processes. Each is told by its number, and ended by it.

pid_broker= pid_bridge= pid_cloud= pid_watcher= pid_live= pid_handler=

answers_mqtt() { mosquitto_pub -V mqttv5 -h 127.0.0.1 -p "$mqtt_port" -t realclients/probe -n 2>/dev/null; }
answers_ready() { curl -sf -o /dev/null "http://127.0.0.1:$http_port/readyz"; }
answers_nats() { curl -sf -o /dev/null "http://127.0.0.1:$http_port/healthz"; }

start_broker() {
  "$MOSQUITTO" -c "$work/mosquitto.conf" >>"$work/mosquitto.log" 2>&1 &
  pid_broker=$!
  must 'mosquitto runs' answers_mqtt
}

stop_broker() {
  kill -TERM "$pid_broker"
  wait "$pid_broker" || true
  pid_broker=
}

# start_bridge [CONDITION]: until it is ready, or another condition holds.
start_bridge() {
  "$FLEETBRIDGE" run --config "$work/fleetbridge.yaml" >>"$work/fleetbridge.log" 2>&1 &
  pid_bridge=$!
  must 'the bridge runs' "${1:-answers_ready}"
}

# stop_bridge NAME: as a service manager would.
stop_bridge() {
  local code=0 began=$SECONDS
  kill -TERM "$pid_bridge"
  wait "$pid_bridge" || code=$?
  pid_bridge=
  if [ $code -eq 0 ] && [ $((SECONDS - began)) -le 10 ]; then
    ok "$1"
  else
    bad "$1" "exit code $code after $((SECONDS - began)) s"
  fi
}

kill_bridge() {
  kill -KILL "$pid_bridge"
  wait "$pid_bridge" 2>/dev/null || true
  pid_bridge=
}

# finish ends what still runs and says how it went.
finish() {
  local code=$? pid try
  trap - EXIT
  for pid in $pid_live $pid_handler $pid_bridge $pid_cloud $pid_watcher $pid_broker; do
    kill -TERM "$pid" 2>/dev/null || continue
    for try in $(seq 100); do # a client without its server may not listen to that
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ $failed -gt 0 ] || [ $code -ne 0 ]; then
    code=1
    for log in fleetbridge.log cloud.log mosquitto.log; do
      printf -- '--- %s\n' "$log"
      tail -n 40 "$work/$log" 2>/dev/null || true
    done
  fi
  rm -rf "$work"
  printf '%d passed, %d failed\n' "$passed" "$failed"
  exit $code
}

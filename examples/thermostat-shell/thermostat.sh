#!/usr/bin/env bash
# A thermostat that is a Thing in EMQX Fleets, as an ordinary NATS program.
#
# It reports its state, sends an event when it gets too warm, follows the target temperature that the
# cloud asks for, serves the command setTemperature, and does the jobs that it is given.
set -uo pipefail

coldest=5 hottest=30 too_warm=28
pause=${PAUSE:-5} # seconds between two measurements
export NATS_URL=${NATS_URL:-nats://127.0.0.1:4222}

# nats takes NATS_URL, NATS_USER and NATS_PASSWORD from the environment, but not the inbox prefix.
nats() { command nats ${NATS_INBOX_PREFIX:+--inbox-prefix "$NATS_INBOX_PREFIX"} "$@"; }

# token NAME: as one word of a subject: every byte but A-Z a-z 0-9 _ - is written =XX.
token() {
  local LC_ALL=C out='' byte i
  for ((i = 0; i < ${#1}; i++)); do
    byte=${1:i:1}
    [[ $byte == [A-Za-z0-9_-] ]] || printf -v byte '=%02X' "'$byte"
    out+=$byte
  done
  printf '%s' "$out"
}
thing=$(token "${THING:-thermostat-001}")

# publish TAIL PAYLOAD: when this returns, the gateway has the message and will not lose it.
# nats req ends with 0 when nothing has answered; only the PubAck tells.
publish() {
  local id=$EPOCHREALTIME-$BASHPID-$RANDOM answer
  until answer=$(nats req --raw --no-templates -H "Nats-Msg-Id:$id" "fleets.up.$thing.$1" "$2" 2>&1) &&
    jq -e .seq <<<"$answer" >/dev/null 2>&1; do
    echo "$1: ${answer:-no answer}, trying again" >&2 # the same id is not stored twice
    sleep 1
  done
}

report() { publish shadow.update "{\"state\":{\"reported\":$1}}"; }

# ask TAIL PAYLOAD: prints the cloud's answer, or fails and says what went wrong.
ask() {
  local answer
  answer=$(nats req --raw --no-templates --timeout 15s -H Fleets-Worker:thermostat "fleets.req.$thing.$1" "$2" 2>&1)
  if jq -e 'has("message") | not' <<<"$answer" >/dev/null 2>&1; then
    echo "$answer"
  else
    echo "$1: ${answer:-no answer}" >&2
    return 1
  fi
}

# apply [VALUE]: does what the device can, not what it is told, and reports what came of it.
apply() {
  if [[ -z ${1:-} ]]; then return; fi
  local target
  target=$(jq -n "[[$1, $coldest] | max, $hottest] | min")
  echo "$target" >"$state/target.$BASHPID"
  mv "$state/target.$BASHPID" "$state/target" # at once: who reads it never finds it empty
  report "{\"targetTemperature\":$target}"
}

# command: serves one command, for nats reply; what it prints is the response, errors too.
command_set_temperature() {
  local value
  if value=$(jq -e ".params.value | numbers | select(. >= $coldest and . <= $hottest)" <<<"$NATS_REQUEST_BODY" 2>/dev/null); then
    apply "$value" 2>/dev/null
    echo "{\"status\":\"SUCCEEDED\",\"result\":{\"targetTemperature\":$value}}"
  else
    echo "{\"status\":\"FAILED\",\"result\":{\"error\":\"params.value is no number from $coldest to $hottest\",\"code\":400}}"
  fi
}

# catch_up: does what the cloud asked for while this program was not listening.
catch_up() {
  echo job >&3
  apply "$(ask shadow.get '{}' | jq '.delta.targetTemperature? | numbers')"
}

# listen: deltas and hints; nats tells of its connection among them.
listen() {
  local line
  while :; do
    nats sub --raw --trace "fleets.down.$thing.shadow.update.delta" "fleets.down.$thing.jobs.notify-next" 2>&1 |
      while read -r line; do
        case $line in
        *' Connected to '*) sleep 0.5; catch_up ;; # it is subscribed a moment later
        *'Reconnected to'*) catch_up ;;
        '{'*'"state"'*) apply "$(jq '.state.targetTemperature | numbers' <<<"$line")" ;;
        '{'*) echo job >&3 ;;
        esac
      done
    sleep 1 # there is no gateway yet
  done
}

serve() {
  while :; do
    nats reply --queue thermostat --command "'$0' command" "fleets.cmd.$thing.setTemperature" >/dev/null 2>&1
    sleep 1
  done
}

# work: does the jobs that wait, after each hint. What failed is tried again.
work() {
  while read -r -u 3; do
    until jobs_done; do sleep "$pause"; done
  done
}

jobs_done() {
  local next name update
  while next=$(ask jobs.start-next '{}') || return 1; name=$(jq -r '.execution.jobId // empty' <<<"$next"); [[ -n $name ]]; do
    echo "job $name"
    update=jobs.$(token "$name").update
    ask "$update" '{"status":"IN_PROGRESS","statusDetails":{"progress":"50 %"}}' >/dev/null || return 1
    sleep "$(jq '.execution.jobDocument.seconds? // 0' <<<"$next")"
    ask "$update" '{"status":"SUCCEEDED","statusDetails":{"progress":"done"}}' >/dev/null || return 1
  done
}

# measure: the temperature follows the target.
measure() {
  local before=$temperature
  temperature=$(jq -n "(($before + ($(<"$state/target") - $before) * 0.2) * 100 | round) / 100")
  if [[ $temperature != "$before" ]]; then report "{\"temperature\":$temperature}"; fi
  if jq -en "$before <= $too_warm and $temperature > $too_warm" >/dev/null; then
    publish events.overheated "{\"eventType\":\"overheated\",\"severity\":\"warn\",\"data\":{\"temperature\":$temperature}}"
  fi
}

run() {
  temperature=18
  report '{"temperature":18,"targetTemperature":20}'
  while sleep "$pause"; do measure; done
}

if [[ ${1:-} == command ]]; then # nats reply calls this program again
  command_set_temperature
  exit
fi

state=$(mktemp -d)
export state
echo 20 >"$state/target"
mkfifo "$state/hints"
exec 3<>"$state/hints"
set -m # each of these with its children is a process group
listen & groups=-$!
serve & groups+=" -$!"
work & groups+=" -$!"
run & groups+=" -$!"
set +m
trap 'kill -- $groups; wait; rm -rf "$state"; exit 0' INT TERM
wait

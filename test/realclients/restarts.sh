# Restarts of everything, in the worst moments: nothing that was acknowledged is lost, and order holds.

# ticks NAME FROM TO: events in this range arrived, the first time each in order.
ticks() {
  local got
  got=$(grep -oE '"tick","severity":"info","data":\{"n":[0-9]+' "$work/cloud.record" | grep -oE '[0-9]+$' |
    awk -v a="$2" -v b="$3" '$1 >= a && $1 <= b && !seen[$1]++' | tr '\n' ' ')
  same "$1" "$(seq "$2" "$3" | tr '\n' ' ')" "$got"
}
# tick FROM TO: publishes them; fails when one is not acknowledged.
tick() {
  seq "$1" "$2" | awk '{ printf "{\"eventType\":\"tick\",\"severity\":\"info\",\"data\":{\"n\":%d},\"timestamp\":%.0f}\n", $1, 1780000000000 + $1 }' |
    "$NATS" pub -J -q --no-templates --force-stdin --send-on newline fleets.up.pump-07.events.tick >"$work/pub.log" 2>&1
}
ticked() { has_text "$work/cloud.record" "\"data\":{\"n\":$1}"; }
queued() { "$NATS" kv get FLEETS_STATUS pump-07 --raw 2>/dev/null | grep -Fq "\"queued\":$1,"; }

# The broker goes, programs go on; the bridge is started anew meanwhile.
stop_broker
offline() { ! answers_ready; }
must 'the bridge notices that the broker is gone' offline
same 'programs publish while there is no broker' 0 "$(tick 1 100; echo $?)"
same 'what waits is counted' 0 "$(await queued 100; echo $?)"
same 'a question is refused' '{"code":503,"message":"thing \"pump-07\" is not connected to the broker"}' "$(request fleets.req.pump-07.jobs.get '')"
stop_bridge 'the bridge stops in time, without a broker'
start_bridge answers_nats
same 'programs publish to the new one' 0 "$(tick 101 120; echo $?)"
start_broker
await ticked 120 || true
ticks 'all of it arrives, in order' 1 120

# Killed in the middle of sending.
stop_broker
same 'programs publish once more' 0 "$(tick 201 1000; echo $?)"
start_broker
await ticked 201 || true
kill_bridge
if ticked 1000; then bad 'the bridge was killed in the middle' 'it had sent everything'; else ok 'the bridge was killed in the middle'; fi
start_bridge
await ticked 1000 || true
ticks 'after a kill all of it arrives, in order' 201 1000

# The bridge is away, the cloud goes on, and so does the broker, with a restart of its own.
must 'the command handler is back' serves
stop_bridge 'the bridge stops in time'
for n in $(seq 1 50); do echo "{\"jobs\":{},\"timestamp\":$n}"; done >"$work/notes"
mosquitto_pub -V mqttv5 -h 127.0.0.1 -p "$mqtt_port" -q 1 -t "$things/jobs/notify" -l <"$work/notes"
publish "$things/shadow/update/delta" '{"version":20,"timestamp":1780000000,"state":{"rpm":900}}'
publish "$executions/e-9/request" '{"commandId":"c-9","action":"purge","ttl":600}'
stop_broker
start_broker
start_bridge
arrives 'a command that came meanwhile is served' "$executions/e-9/response" '{"status":"SUCCEEDED","result":{"litres":12345678901234567890}}'
notes() { stored FLEETS_DOWN fleets.down.pump-07.jobs.notify | tail -n 50 | cmp -s - "$work/notes"; }
same 'notifications that came meanwhile are stored, in order' 0 "$(await notes; echo $?)"
same 'a delta that came meanwhile is stored' '{"version":20,"timestamp":1780000000,"state":{"rpm":900}}' \
  "$(stored FLEETS_DOWN fleets.down.pump-07.shadow.update.delta | tail -n 1)"

# State outlives it all.
request fleets.up.pump-07.shadow.update '{"state":{"reported":{"t":22}}}' >/dev/null
arrives 'the merged report is still whole' "$things/shadow/update" '{"state":{"reported":{"rpm":1480,"t":22,"valve":{"open":true}}}}'
publish "$executions/e-1/request" '{"commandId":"c-1","action":"purge","params":{"sec":10},"ttl":60}'
publish "$executions/e-10/request" '{"commandId":"c-10","action":"purge"}'
arrives 'the next command is served' "$executions/e-10/response" '{"status":"SUCCEEDED","result":{"litres":12345678901234567890}}'
same 'e-1 still has one response' 1 "$(grep -c 'executions/e-1/response ' "$work/cloud.record" || true)"
same 'everything has been acknowledged' 0 "$(await queued 0; echo $?)"
stop_bridge 'the bridge stops in time, at the end'

# How this test is set up, its bad messages, the broker's absence, and the kill are worth a warning.
same 'the log warns of nothing else' '' "$(grep -E 'level=(WARN|ERROR)' "$work/fleetbridge.log" |
  grep -vE 'is http: anybody on the way|which other tools may refuse|cannot connect|connection lost|nats: Filestore|messages become dead letters|record of a stream was torn|for a Thing that is not configured' || true)"

# local → cloud: what programs publish arrives as it was sent.

# numberless is request, with N for the number of a PubAck.
numberless() { request "$@" | sed -E 's/"seq":[1-9][0-9]*/"seq":N/'; }

same 'a report is answered with its PubAck' '{"stream":"FLEETS_UP_TELEMETRY","seq":N}' \
  "$(numberless fleets.up.pump-07.shadow.update '{"state":{"reported":{"rpm":1480,"t":21.50}},"clientToken":"r-1"}')"
arrives 'the report arrives' "$things/shadow/update" '{"state":{"reported":{"rpm":1480,"t":21.50}},"clientToken":"r-1"}'

request fleets.up.pump-07.shadow.update '{"state":{"reported":{"valve":{"open":true}}}}' >/dev/null
arrives 'a second report is merged with the first' "$things/shadow/update" \
  '{"state":{"reported":{"rpm":1480,"t":21.50,"valve":{"open":true}}}}'

event='{"eventType":"dryRun","severity":"warn","data":{"big":12345678901234567890,"f":1.10,"s":"é→"},"timestamp":1780000000123}'
same 'nats pub -J stores an event' 0 \
  "$("$NATS" pub -J --no-templates fleets.up.pump-07.events.dryRun "$event" >"$work/pub.log" 2>&1; echo $?)"
arrives 'the event arrives byte for byte' "$things/events/dryRun" "$event"

same 'a checked event is answered with its PubAck' '{"stream":"FLEETS_UP_TELEMETRY","seq":N}' \
  "$(numberless fleets.req.pump-07.events.boot '{"eventType":"boot","severity":"info","timestamp":1780000000124}')"
arrives 'the checked event arrives' "$things/events/boot" '{"eventType":"boot","severity":"info","timestamp":1780000000124}'

request fleets.up.pump-07.events.noTime '{"eventType":"noTime","severity":"info"}' >/dev/null
stamped() { grep -Eqx "\\\$emqx/things/pump-07/events/noTime 1 0 \{\"eventType\":\"noTime\",\"severity\":\"info\",\"timestamp\":[0-9]{13}\}" "$work/cloud.record"; }
if await stamped; then ok 'an event without a timestamp is given one'; else bad 'an event without a timestamp is given one' "$(grep noTime "$work/cloud.record")"; fi

same 'a name with a dot and a space' '{"stream":"FLEETS_UP_TELEMETRY","seq":N}' \
  "$(numberless 'fleets.up.pump=208.events.a=2Eb' '{"eventType":"a.b","severity":"info","timestamp":1780000000125}')"
arrives 'its event arrives' '$emqx/things/pump 8/events/a.b' '{"eventType":"a.b","severity":"info","timestamp":1780000000125}' "$work/watcher.record"

same 'a bad report is refused' \
  '{"code":400,"message":"/state/reported: is missing, add an object","details":[{"pointer":"/state/reported","message":"is missing, add an object"}]}' \
  "$(request fleets.req.pump-07.shadow.update '{"state":{}}')"
"$NATS" req --no-templates fleets.req.pump-07.shadow.update '{"state":{}}' >"$work/headers" 2>&1 || true
same 'with the headers of a NATS service' 'Nats-Service-Error-Code: 400' "$(grep -o 'Nats-Service-Error-Code: .*' "$work/headers")"

same 'a Thing that is not configured has no service' \
  '{"code":404,"message":"thing \"other\" is not configured here: add it to things"}' \
  "$(request fleets.req.other.jobs.get '{}')"
same 'nor a stream' '' "$(request fleets.up.other.events.a '{"eventType":"a","severity":"info"}')"
if has_text "$work/request.err" 'No responders'; then ok 'so a publish fails at once'; else bad 'so a publish fails at once' "$(cat "$work/request.err")"; fi
if has_text "$work/fleetbridge.log" 'a Thing that is not configured'; then ok 'and the log says so'; else bad 'and the log says so' "$(tail -5 "$work/fleetbridge.log")"; fi

request fleets.up.pump-07.events.dryRun '{"eventType":"dryRun","severity":"warning"}' >/dev/null
dead() { stored FLEETS_DEAD 'fleets.dead.up.>' >"$work/dead"; has_line "$work/dead" '{"eventType":"dryRun","severity":"warning"}'; }
if await dead; then ok 'a bad event is a dead letter'; else bad 'a bad event is a dead letter' "$(cat "$work/dead")"; fi
same 'which says why' 'Fleets-Error-Code: schema' \
  "$("$NATS" stream get FLEETS_DEAD --last-for fleets.dead.up.pump-07.events.dryRun 2>&1 | grep -o 'Fleets-Error-Code: .*')"
same 'nothing bad went up' 0 "$(grep -c '"severity":"warning"' "$work/cloud.record" || true)"

# cloud → local: what the cloud publishes reaches live programs at once, and late ones by replay.

"$NATS" sub --raw 'fleets.down.>' realclients.probe >"$work/live" 2>"$work/live.err" &
pid_live=$!
probe() { "$NATS" pub -q realclients.probe probe >/dev/null 2>&1 && has_line "$work/live" probe; }
must 'a program listens' probe

# came NAME PAYLOAD: the live program has seen it.
came() {
  if await has_line "$work/live" "$2"; then ok "$1"; else bad "$1" "want: $2" "seen: $(tail -n 3 "$work/live")"; fi
}

desired='{"state":{"desired":{"rpm":1500,"big":12345678901234567890}},"clientToken":"pump-07","version":12}'
publish "$things/shadow/update" "$desired"
came 'a desired push comes down' "$desired"

delta='{"version":12,"timestamp":1780000000,"state":{"rpm":1500},"metadata":{"rpm":{"timestamp":1780000000}}}'
publish "$things/shadow/update/delta" "$delta"
came 'a delta comes down' "$delta"

publish "$things/shadow/update/delta" "$delta"
publish "$things/jobs/notify" '{"jobs":{"QUEUED":[{"jobId":"job-1"}]},"timestamp":1}'
came 'a notification comes down' '{"jobs":{"QUEUED":[{"jobId":"job-1"}]},"timestamp":1}'
same 'a delta that comes twice is delivered once' 1 "$(lines "$work/live" "$delta")"

same 'a late program replays it' "$delta" \
  "$("$NATS" stream get FLEETS_DOWN --last-for fleets.down.pump-07.shadow.update.delta 2>&1 | grep '^{')"
"$NATS" stream get FLEETS_DOWN --last-for fleets.down.pump-07.shadow.update.delta >"$work/headers" 2>&1
for header in 'Fleets-Thing: pump-07' 'Fleets-Channel: shadow.delta' 'Fleets-Topic: $emqx/things/pump-07/shadow/update/delta'; do
  if has_text "$work/headers" "$header"; then ok "header $header"; else bad "header $header" "$(cat "$work/headers")"; fi
done

# The delta that was pending when the bridge connected came from the HTTP API.
same 'the pending delta was fetched and delivered' '{"version":3,"timestamp":1780272000,"state":{"rpm":1200}}' \
  "$(stored FLEETS_DOWN fleets.down.pump-07.shadow.update.delta | head -n 1)"

publish "$things/jobs/get/accepted" 'not JSON'
dead() { stored FLEETS_DEAD 'fleets.dead.down.>' >"$work/dead"; has_line "$work/dead" 'not JSON'; }
if await dead; then ok 'what is not JSON is a dead letter'; else bad 'what is not JSON is a dead letter' "$(cat "$work/dead")"; fi
same 'and is not delivered' 0 "$(lines "$work/live" 'not JSON')"

# The dead letters, by the bridge's own command line.
same 'fleetbridge dead ls' '1 up pump-07 event schema, 2 down pump-07 jobs.get.accepted json, ' \
  "$("$FLEETBRIDGE" dead ls --nats "$NATS_URL" | awk 'NR > 1 {printf "%s %s %s %s %s, ", $1, $4, $5, $6, $7}')"
"$FLEETBRIDGE" dead show 1 --config "$work/fleetbridge.yaml" >"$work/shown" 2>&1 || true
if has_line "$work/shown" '{"eventType":"dryRun","severity":"warning"}'; then ok 'fleetbridge dead show'; else bad 'fleetbridge dead show' "$(cat "$work/shown")"; fi
"$FLEETBRIDGE" dead replay 2 --nats "$NATS_URL" >"$work/shown" 2>&1 || true
came 'fleetbridge dead replay sends it on' 'not JSON'
same 'and removes it' '1 ' "$("$FLEETBRIDGE" dead ls --nats "$NATS_URL" | awk 'NR > 1 {printf "%s ", $1}')"

# Questions: each caller has the cloud's answer, with the token that the caller sent.

listed='{"inProgressJobs":[],"queuedJobs":[{"jobId":"job-1","queuedAt":1780000000,"versionNumber":1}],"timestamp":1780000000'
same 'jobs.get with a token' "$listed,\"clientToken\":\"mine\"}" "$(request fleets.req.pump-07.jobs.get '{"clientToken":"mine"}')"
same 'jobs.get with nothing' "$listed}" "$(request fleets.req.pump-07.jobs.get '')"
asked() { grep -Eqx '\$emqx/things/pump-07/jobs/get 1 0 \{"clientToken":"fb-[0-9a-f]+-[0-9]+","thingName":"pump-07"\}' "$work/cloud.record"; }
if await asked; then ok 'the wire has a token of the bridge'; else bad 'the wire has a token of the bridge' "$(grep -F 'jobs/get ' "$work/cloud.record")"; fi

document='{"url":"https://example.com/fw.bin","big":12345678901234567890,"rate":1.50}'
job="{\"jobId\":\"job-1\",\"status\":\"IN_PROGRESS\",\"executionNumber\":1780000000000123,\"versionNumber\":1,\"jobDocument\":$document}"
started="{\"execution\":$job,\"timestamp\":1780000000,\"clientToken\":\"s\"}"
same 'start-next for a worker' "$started" \
  "$(request fleets.req.pump-07.jobs.start-next '{"clientToken":"s"}' -H Fleets-Worker:updater)"
same 'the same worker has it again' "$started" \
  "$(request fleets.req.pump-07.jobs.start-next '{"clientToken":"s"}' -H Fleets-Worker:updater)"
same 'another worker does not' '{"code":409,"message":"job \"job-1\" is leased to worker \"updater\" until its final update"}' \
  "$(request fleets.req.pump-07.jobs.start-next '{"clientToken":"s"}' -H Fleets-Worker:other)"
same 'job.get' "{\"execution\":$job}" "$(request fleets.req.pump-07.jobs.job-1.get '')"
same 'another worker may not update it' '{"code":409,"message":"job \"job-1\" is leased to worker \"updater\" until its final update"}' \
  "$(request fleets.req.pump-07.jobs.job-1.update '{"status":"FAILED"}' -H Fleets-Worker:other)"
same 'its worker ends it' '{"executionState":{"status":"SUCCEEDED","versionNumber":2},"clientToken":"u"}' \
  "$(request fleets.req.pump-07.jobs.job-1.update '{"status":"SUCCEEDED","expectedVersion":1,"clientToken":"u"}' -H Fleets-Worker:updater)"
same 'then another worker has the next' "$started" \
  "$(request fleets.req.pump-07.jobs.start-next '{"clientToken":"s"}' -H Fleets-Worker:other)"

same 'a version conflict is 409' '{"code":409,"message":"VersionMismatch: expected 1, is 4"}' \
  "$(request fleets.req.pump-07.jobs.changed.update '{"status":"SUCCEEDED","expectedVersion":1}')"
same 'another refusal is 502' '{"code":502,"message":"ResourceNotFound: no such job"}' \
  "$(request fleets.req.pump-07.jobs.unknown.update '{"status":"SUCCEEDED"}')"
same 'no answer is 504' '{"code":504,"message":"no answer from the cloud within 500ms"}' \
  "$(request fleets.req.pump-07.jobs.silent.get '' -H Fleets-Timeout:500ms)"

same 'shadow.get' '{"reported":{},"desired":{"rpm":1200},"delta":{"rpm":1200},"version":3,"updatedAt":"2026-06-01T00:00:00Z"}' \
  "$(request fleets.req.pump-07.shadow.get '')"

# The raw twin: the token goes up as it is, and the answer comes down to everybody.
request fleets.up.pump-07.jobs.get '{"thingName":"pump-07","clientToken":"raw-1"}' >/dev/null
came 'the raw jobs.get is answered on its down subject' "$listed,\"clientToken\":\"raw-1\"}"

# What an operator sees.
"$NATS" micro ls >"$work/micro" 2>&1
if has_text "$work/micro" 'fleetbridge'; then ok 'nats micro ls'; else bad 'nats micro ls' "$(cat "$work/micro")"; fi
"$NATS" micro info fleetbridge >"$work/micro" 2>&1
subjects=$(grep -o 'fleets\.req\..*' "$work/micro" | sort | tr '\n' ' ')
same 'nats micro info' 'fleets.req.*.commands.*.response fleets.req.*.events.* fleets.req.*.jobs.*.get fleets.req.*.jobs.*.update fleets.req.*.jobs.get fleets.req.*.jobs.start-next fleets.req.*.shadow.get fleets.req.*.shadow.update ' "$subjects"
"$NATS" micro stats fleetbridge >"$work/micro" 2>&1
same 'nats micro stats counts requests' 4 "$(grep -F 'jobs-start-next' "$work/micro" | grep -oE '│ [0-9]+ ' | head -n 1 | tr -dc 0-9)"
same 'nats stream ls' 'FLEETS_DEAD FLEETS_DOWN ' "$("$NATS" stream ls --names 2>/dev/null | grep -v '^KV_' | sort | tr '\n' ' ')"
same 'nats kv get FLEETS_STATUS' '"connected":true "subscribed":true "shadow":"known" ' \
  "$("$NATS" kv get FLEETS_STATUS pump-07 --raw 2>/dev/null | grep -oE '"(connected|subscribed|shadow)":[^,]+' | tr '\n' ' ')"
reported() { "$NATS" kv get FLEETS_SHADOW pump-07 --raw 2>/dev/null | grep -oE '"reported":.*,"desired"'; }
same 'nats kv get FLEETS_SHADOW' '"reported":{"rpm":1480,"t":21.50,"valve":{"open":true}},"desired"' "$(reported)"

# Commands: a program serves one with nats reply; its reply is the response.

"$NATS" reply fleets.cmd.pump-07.purge '{"status":"SUCCEEDED","result":{"litres":12345678901234567890}}' >"$work/handler.log" 2>&1 &
pid_handler=$!
serves() { [ -n "$("$NATS" req --raw --timeout 1s fleets.cmd.pump-07.purge probe 2>/dev/null)" ]; }
must 'a program serves purge' serves

publish "$executions/e-1/request" '{"commandId":"c-1","action":"purge","params":{"sec":10},"ttl":60}'
arrives 'a command is served' "$executions/e-1/response" '{"status":"SUCCEEDED","result":{"litres":12345678901234567890}}'
came 'the raw request comes down, too' '{"commandId":"c-1","action":"purge","params":{"sec":10},"ttl":60}'
if has_text "$work/handler.log" '{"commandId":"c-1","action":"purge","params":{"sec":10},"ttl":60}'; then
  ok 'the program sees the request unchanged'
else
  bad 'the program sees the request unchanged' "$(cat "$work/handler.log")"
fi
publish "$executions/e-1/request" '{"commandId":"c-1","action":"purge","params":{"sec":10},"ttl":60}'

publish "$executions/e-2/request" '{"commandId":"c-2","action":"fly"}'

publish "$executions/e-3/request" '{"commandId":"c-3","action":"purge","timestamp":1780000000,"ttl":5}'
# answered ID PATTERN: its response, where a part of it is words.
answered() { grep -Eqx "\\\$emqx/commands/things/pump-07/executions/$1/response 1 0 $2" "$work/cloud.record"; }
must 'a command that is too late is answered' answered e-3 '\{"status":"TIMED_OUT","result":\{"error":"[^"]+"\}\}'
ok 'a command that is too late is answered'

publish "$executions/e-4/request" '{"commandId":"c-4","params":{}}'
must 'a command without an action is rejected' answered e-4 '\{"status":"REJECTED","result":\{"error":"/action: is missing[^"]*"\}\}'
ok 'a command without an action is rejected'

publish "$executions/e-5/request" '{"commandId":"c-5","action":"slow"}'
came 'a program may answer on the raw subject' '{"commandId":"c-5","action":"slow"}'
request fleets.req.pump-07.commands.e-5.response '{"status":"FAILED","result":{"code":17}}' >/dev/null
arrives 'with a response of its own' "$executions/e-5/response" '{"status":"FAILED","result":{"code":17}}'

arrives 'a command that nobody serves is rejected' "$executions/e-2/response" '{"status":"REJECTED","result":{"error":"no handler for fly"}}'
same 'e-1 ran once' 1 "$(grep -c 'Fleets-Execution: e-1' "$work/handler.log" || true)"
same 'e-1 has one response' 1 "$(grep -c 'executions/e-1/response ' "$work/cloud.record" || true)"
same 'e-3 did not run' 0 "$(grep -c 'Fleets-Execution: e-3' "$work/handler.log" || true)"

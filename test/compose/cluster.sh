# Three bridges that share six Things on three NATS servers; a part of run, which sources it.

begin 'the profile cluster: three NATS servers, three bridges'
export COMPOSE_PROFILES=cluster,drive THING=thermostat-001
compose --profile cluster up -d >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; exit 1; }
declare -A member=([gw-a]=$(container fleetbridge-a) [gw-b]=$(container fleetbridge-b) [gw-c]=$(container fleetbridge-c))
# bridges COMMAND...: asks one that runs, whichever.
bridges() {
  local id
  for id in gw-a gw-b gw-c; do
    if engine exec "${member[$id]}" /usr/local/bin/fleetbridge "$@" --config /etc/fleetbridge/fleetbridge.yaml 2>/dev/null; then return; fi
  done
  return 1
}
# sharing N: so many bridges have all six Things, each some of them, and all are connected.
sharing() {
  bridges cluster ls --json | jq -es --argjson n "$1" 'flatten | map(select(.state == "active"))
    | length == $n and all(.things > 0) and (map(.things) | add) == 6 and (map(.connected) | add) == 6' >/dev/null
}
wait_for 90 sharing 3
bridges cluster ls | sed 's/^/  /'

begin 'numbered events, while the bridge that has the Thing and then a NATS server are killed'
compose run --rm -T --name fleetbridge-events drive-cluster events >"$work/load.log" 2>&1 &
load=$!
events=1000000 # as many as it takes
owner() { bridges things where "$THING" | sed -n "s/^$THING  *at \\(gw-[a-c]\\), connected.*/\\1/p" | grep .; }
known() { first=$(owner); }
wait_for 30 known
server=$(container nats-1)
further 60
said "docker kill $first, which has $THING"
killed=$SECONDS
engine kill "${member[$first]}" >/dev/null
other() { second=$(owner) && [ "$second" != "$first" ] && sharing 2; }
wait_for 60 other
said "$second has $THING, and all six Things are connected, $((SECONDS - killed)) s later"
further 40
said 'docker kill nats-1'
engine kill "$server" >/dev/null
further 60
wait_for 60 sharing 2
bridges cluster ls | sed 's/^/  /'
engine kill -s TERM fleetbridge-events >/dev/null
wait $load || { tail -5 "$work/load.log" >&2; exit 1; }
grep -e '^all' -e '^events:' "$work/load.log" | sed 's/^/  /'
grep -q '^events: [0-9]* confirmed, 0 lost, 0 out of order' "$work/load.log"

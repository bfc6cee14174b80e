# Three bridges on three NATS servers; a part of run, which sources it.

begin 'the profile cluster: three NATS servers, three bridges'
export COMPOSE_PROFILES=cluster,drive THING=thermostat-001
compose --profile cluster up -d >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; exit 1; }
declare -A member=([gw-a]=$(container fleetbridge-a) [gw-b]=$(container fleetbridge-b) [gw-c]=$(container fleetbridge-c))
# bridges ARG...: asks one that runs, whichever.
bridges() {
  local id
  for id in gw-a gw-b gw-c; do
    if engine exec "${member[$id]}" /usr/local/bin/fleetbridge cluster "$@" --config /etc/fleetbridge/fleetbridge.yaml 2>/dev/null; then return; fi
  done
  return 1
}
# active: the id of the bridge that has all its Things connected.
active() { bridges ls --json | jq -er 'select(.state == "active" and .things > 0 and .connected == .things) | .id'; }
three() { [ "$(bridges ls --json | jq -r 'select(.state == "active" or .state == "standby") | .id' | sort | xargs)" = 'gw-a gw-b gw-c' ] && active >/dev/null; }
wait_for 90 three
bridges ls | sed 's/^/  /'

begin 'numbered events, while the active bridge and then a NATS server are killed'
compose run --rm -T --name fleetbridge-events drive-cluster events >"$work/load.log" 2>&1 &
load=$!
events=1000000 # as many as it takes
known() { first=$(active); }
wait_for 30 known
server=$(container nats-1)
further 60
said "docker kill $first, which is active"
killed=$SECONDS
engine kill "${member[$first]}" >/dev/null
other() { second=$(active) && [ "$second" != "$first" ]; }
wait_for 60 other
said "$second has all Things, $((SECONDS - killed)) s later"
further 40
said 'docker kill nats-1'
engine kill "$server" >/dev/null
further 60
wait_for 60 active >/dev/null
bridges ls | sed 's/^/  /'
engine kill -s TERM fleetbridge-events >/dev/null
wait $load || { tail -5 "$work/load.log" >&2; exit 1; }
grep -e '^all' -e '^events:' "$work/load.log" | sed 's/^/  /'
grep -q '^events: [0-9]* confirmed, 0 lost, 0 out of order' "$work/load.log"

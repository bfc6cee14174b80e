# The steps on the running stack; a part of run, which sources it.

begin 'docker compose up: simulator, bridge, sample program'
compose up -d >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; exit 1; }
wait_for 90 health fleetbridge healthy
bridge=$(container fleetbridge)

begin 'the container is locked up'
engine inspect -f '  user {{.Config.User}}, read-only root {{.HostConfig.ReadonlyRootfs}}, dropped {{.HostConfig.CapDrop}}, {{.HostConfig.SecurityOpt}}' "$bridge"
[ "$(engine inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}' "$bridge")" = '65532:65532 true [ALL]' ]
if engine exec "$bridge" /bin/sh -c true >/dev/null 2>&1; then echo "there is a shell in the image" >&2; exit 1; fi
engine exec "$bridge" /usr/local/bin/fleetbridge version | sed 's/^/  /'
wait_for 30 engine exec "$bridge" /usr/local/bin/fleetbridge healthcheck --ready --config /etc/fleetbridge/fleetbridge.yaml | tail -1 | sed 's/^/  ready: /'

begin 'Prometheus watches'
sed -e "s/:9321/:$HTTP_PORT/" -e 's/15s/1s/' "$source/deploy/prometheus/prometheus.yml" >"$work/prometheus.yml"
cp "$source/deploy/prometheus/fleetbridge.rules.yml" "$work/"
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/prometheus" --web.listen-address="127.0.0.1:$prometheus_port" >"$work/prometheus.log" 2>&1 &
prometheus_pid=$! watched=$SECONDS

begin 'a shadow, a command and a job from another container'
drive() { compose run --rm -T drive "$@" 2>&1 | grep --line-buffered -v -e '^Creating' -e '^ *Container' -e '^ *Network'; }
drive flows | sed 's/^/  /'

begin 'events, commands and jobs, while things break'
events=600
drive load $events >"$work/load.log" &
load=$!
project_network=${COMPOSE_PROJECT_NAME}_cloud
unplug() { engine network disconnect "$project_network" "$(container fleetsim)"; }
plug() { engine network connect --alias broker --alias fleets --alias fleetsim "$project_network" "$(container fleetsim)"; }
further 60
said 'the broker loses its network'
unplug
further 60
said 'the bridge is restarted meanwhile'
compose restart fleetbridge >/dev/null 2>&1
further 40
said 'the network is back'
plug
further 60
said 'the bridge is killed'
pid=$(engine inspect -f '{{.State.Pid}}' "$bridge")
kill -9 "$pid" 2>/dev/null || engine kill -s KILL "$bridge" >/dev/null
restarted() { [ "$(engine inspect -f '{{.State.Running}}' "$bridge")" = true ] && [ "$(engine inspect -f '{{.State.Pid}}' "$bridge")" != "$pid" ]; }
wait_for 30 restarted || engine start "$bridge" >/dev/null
further 60
said 'the container of the bridge is thrown away; another has its volume'
compose up -d --no-deps --force-recreate fleetbridge >/dev/null 2>&1
further 40
wait $load || { tail -5 "$work/load.log" >&2; exit 1; }
grep -v '^confirmed' "$work/load.log" | sed 's/^/  /'
grep -q "^events: $events confirmed, 0 lost, 0 out of order" "$work/load.log"

begin 'the sample program is restarted, too'
compose restart thermostat >/dev/null 2>&1
drive flows | tail -1 | sed 's/^/  /'

begin 'every panel of the dashboard has data'
"$source/deploy/grafana/draw.py" --prometheus "http://127.0.0.1:$prometheus_port" --seconds $((SECONDS - watched)) \
  "$source/deploy/grafana/fleetbridge.json" "${PICTURE:-$work/dashboard.svg}"

begin 'dead letters: none'
letters=$(engine exec "$(container fleetbridge)" /usr/local/bin/fleetbridge dead ls --config /etc/fleetbridge/fleetbridge.yaml)
echo "$letters" | sed 's/^/  /'

begin 'a stop in good order'
bridge=$(container fleetbridge)
compose stop fleetbridge thermostat >/dev/null 2>&1
code=$(engine inspect -f '{{.State.ExitCode}}' "$bridge")
[ "$code" = 0 ] || { echo "the bridge ended with exit code $code" >&2; exit 1; }

begin 'the profile gateway: broker by the environment, secrets as files'
export MQTT_SERVER=mqtt://broker:1883 MQTT_USERNAME=gateway FLEETS_URL=http://fleets:8080 FLEETS_API_KEY=key THING=pump-7
compose --profile gateway up -d gateway >"$work/up.log" 2>&1 || { cat "$work/up.log" >&2; exit 1; }
wait_for 60 health gateway healthy
wait_for 30 engine exec "$(container gateway)" /usr/local/bin/fleetbridge healthcheck --ready --config /etc/fleetbridge/fleetbridge.yaml | tail -1 | sed 's/^/  ready: /'

# A Docker engine of our own, for as long as a script runs: sourced by the scripts beside it. With DOCKER_HOST
# set, that engine is used instead and left as it is.

# The client that came with the engine speaks BuildKit by itself; a newer one needs a plugin for it.
docker=/usr/bin/docker
[ -x "$docker" ] || docker=docker
export DOCKER_BUILDKIT=1 BUILDKIT_PROGRESS=plain

# start_engine DIR: returns when it answers. There is no way to go on without.
start_engine() {
  if [ -n "${DOCKER_HOST:-}" ]; then
    engine version --format '  engine: Docker {{.Server.Version}}, yours'
    return
  fi
  PATH=$PATH:/usr/sbin:/sbin
  command -v dockerd >/dev/null || { echo "compose: dockerd is missing, install docker.io and iptables" >&2; return 1; }
  export DOCKER_HOST=unix://$1/docker.sock
  dockerd --host "$DOCKER_HOST" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/docker.pid" >"$1/dockerd.log" 2>&1 &
  engine_pid=$! engine_dir=$1
  local try
  for try in $(seq 120); do
    if engine version >/dev/null 2>&1; then
      engine version --format '  engine: Docker {{.Server.Version}}, started for this test'
      return
    fi
    kill -0 "$engine_pid" 2>/dev/null || break
    sleep 0.5
  done
  echo "compose: the engine did not start:" >&2
  tail -30 "$1/dockerd.log" >&2
  return 1
}

engine() { "$docker" "$@"; }

# stop_engine ends what start_engine started, with all that runs on it.
stop_engine() {
  [ -n "${engine_pid:-}" ] || return 0
  engine ps -aq | xargs -r "$docker" rm -fv >/dev/null 2>&1 || true
  kill "$engine_pid" 2>/dev/null || true
  wait "$engine_pid" 2>/dev/null || true
  # What an engine that was cut off has left mounted.
  awk -v d="$engine_dir/" 'index($2, d) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount 2>/dev/null || true
}

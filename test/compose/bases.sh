# The base images: pulled, or, where no registry can be reached, imported from this machine's own tree under
# the same name. Sourced by the scripts beside it.

# base_image NAME FUNCTION: FUNCTION writes a file system as tar, and its changes go into $changes.
base_image() {
  local name=$1
  if engine image inspect "$name" >/dev/null 2>&1; then return; fi
  if timeout 300 "$docker" pull -q "$name" >/dev/null 2>&1; then
    echo "  $name: pulled"
    return
  fi
  changes=(); local began=$SECONDS
  "$2" >"$work/base.tar"
  engine import "${changes[@]}" "$work/base.tar" "$name" >/dev/null
  rm "$work/base.tar"
  echo "  $name: no registry, imported from this machine in $((SECONDS - began)) s"
}

# libraries FILE...: the shared libraries that they load, as paths without the first slash.
libraries() {
  { ldd "$@" 2>/dev/null | grep -o '/[^ :)]*\.so[^ :)]*' || true; } | sort -u | while read -r lib; do
    lib=$(realpath "$(dirname "$lib")")/$(basename "$lib")
    echo "$lib"
    realpath "$lib"
  done | grep -v /lib-dynload/ | sed 's,^/,,' | sort -u
}

# merged lists what a root directory of Debian has as links into /usr.
merged() { local dir; for dir in bin lib lib64; do if [ -L "/$dir" ]; then echo "$dir"; fi; done; }

certificates=etc/ssl/certs/ca-certificates.crt

# go_base: the Go tree, a shell, and the modules, as a proxy has them, so that a build needs no network.
go_base() {
  local root modules=$work/root/modules
  root=$(go env GOROOT) root=${root#/}
  mkdir -p "$modules" "$work/root/tmp"
  (cd "$source" && go mod download -json) | python3 -c '
import json, os, shutil, sys
text, at, decode = sys.stdin.read(), 0, json.JSONDecoder().raw_decode
cache, out = sys.argv[1:]
while text[at:].strip():
    module, end = decode(text[at:].lstrip())
    at = len(text) - len(text[at:].lstrip()) + end
    for path in (module.get("Info"), module.get("GoMod"), module.get("Zip")):
        if path:
            to = os.path.join(out, os.path.relpath(path, cache))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(path, to)' "$(go env GOMODCACHE)/cache/download" "$modules"
  changes=(--change 'ENV PATH=/usr/local/go/bin:/usr/bin:/bin' --change 'ENV GOPATH=/go GOTOOLCHAIN=local'
    --change 'ENV GOPROXY=file:///modules,https://proxy.golang.org' --change 'ENV GOFLAGS=')
  { merged; libraries /bin/sh /bin/mkdir; echo usr/bin/sh; realpath /bin/sh | cut -c2-; echo usr/bin/mkdir; echo "$certificates"; } |
    tar -c -C / --transform "s,^$root,usr/local/go," --transform "s,^${work#/}/root/,," \
      --exclude "$root/test" --exclude "$root/doc" --exclude "$root/api" -T - "$root" "${modules#/}" "${work#/}/root/tmp"
  rm -r "$work/root"
}

# python_base: Debian's Python, a shell, and pip as the wheel that Debian keeps for new environments.
python_base() {
  local version pip
  version=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
  pip=$(echo /usr/share/python-wheels/pip-*.whl)
  mkdir -p "$work/root/tmp"
  changes=(--change 'ENV PATH=/usr/bin:/bin' --change "ENV PIP_CERT=/$certificates PYTHONPATH=$pip")
  { merged; libraries /bin/sh /bin/cat "/usr/bin/$version" "/usr/lib/$version"/lib-dynload/*.so
    printf 'usr/bin/%s\n' sh cat python3 "$version"; realpath /bin/sh | cut -c2-; echo "usr/lib/$version"; echo "${pip#/}"; echo "$certificates"; } |
    tar -c -C / --exclude __pycache__ --exclude "usr/lib/$version/test" --exclude EXTERNALLY-MANAGED \
      --transform "s,^${work#/}/root/,," -T - "${work#/}/root/tmp"
  rm -r "$work/root"
}

# drive_base: the driver alone.
drive_base() {
  CGO_ENABLED=0 go build -C "$source" -trimpath -o "$work/drive" ./test/compose/drive
  changes=(--change 'ENTRYPOINT ["/drive"]' --change 'USER 65532:65532')
  tar -c -C "$work" drive
}

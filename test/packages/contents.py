"""Compares what a package holds with the table below: every file is in it, with this mode and owner, and no other.
Exit code 1 when something differs.

    python3 contents.py FILE.deb|FILE.rpm|FILE.apk
"""
import os
import re
import subprocess
import sys

DEB, RPM, APK = ".deb", ".rpm", ".apk"
ALL = {DEB, RPM, APK}

# path, mode, in which packages. A path is a regular expression that at least one file must match.
TABLE = [
    (r"/usr/bin/fleetbridge", "-rwxr-xr-x", ALL),
    (r"/usr/bin/fleetsim", "-rwxr-xr-x", ALL),
    (r"/etc/fleetbridge", "drwxr-xr-x", ALL),
    (r"/etc/fleetbridge/fleetbridge\.yaml", "-rw-r-----", ALL),
    (r"/lib/systemd/system/fleetbridge\.service", "-rw-r--r--", {DEB}),
    (r"/usr/lib/systemd/system/fleetbridge\.service", "-rw-r--r--", {RPM}),
    (r"/usr/lib/sysusers\.d/fleetbridge\.conf", "-rw-r--r--", ALL),
    (r"/usr/share/man/man1/fleet(bridge|sim)[a-z-]*\.1\.gz", "-rw-r--r--", ALL),
    (r"/usr/share/bash-completion/completions/(fleetbridge|fleetsim)", "-rw-r--r--", ALL),
    (r"/usr/share/zsh/vendor-completions/_(fleetbridge|fleetsim)", "-rw-r--r--", {DEB}),
    (r"/usr/share/zsh/site-functions/_(fleetbridge|fleetsim)", "-rw-r--r--", {RPM, APK}),
    (r"/usr/share/fish/vendor_completions\.d/(fleetbridge|fleetsim)\.fish", "-rw-r--r--", ALL),
    (r"/usr/share/doc/fleetbridge/(copyright|changelog\.gz)", "-rw-r--r--", {DEB}),
    (r"/usr/share/licenses/fleetbridge/LICENSE", "-rw-r--r--", {RPM, APK}),
    (r"/usr/share/lintian/overrides/fleetbridge", "-rw-r--r--", {DEB}),
    (r"/usr/share/doc/fleetbridge/(CHANGELOG\.md\.gz|configuration\.md)", "-rw-r--r--", ALL),
    (r"/usr/share/doc/fleetbridge/examples/fleetbridge\.(rules\.yml|json)", "-rw-r--r--", ALL),
]
SHARED = re.compile(r"/(lib|etc|usr)(/(bin|lib|share)(/[a-z_.-]+){0,3})?|/lib/systemd(/system)?|/usr/share/man/man1")  # directories of the system, or of documents


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def listed(package, kind):
    """mode, owner and path of each file."""
    if kind == RPM:
        query = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]"
        for line in run("rpm", "-qp", "--qf", query, package).splitlines():
            yield line.split(" ", 2)
        return
    lines = run("dpkg-deb", "-c", package) if kind == DEB else run("tar", "--ignore-zeros", "-tvzf", package)
    for line in lines.splitlines():
        mode, owner, _, _, _, path = line.split(None, 5)
        path = "/" + path.removeprefix("./").strip("/")
        if kind == APK and path.startswith("/."):
            continue  # what apk itself reads
        yield mode, owner, path


def main(package):
    kind = os.path.splitext(package)[1]
    wrong, seen = [], set()
    files = 0
    for mode, owner, path in listed(package, kind):
        rules = [r for r in TABLE if kind in r[2] and re.fullmatch(r[0], path)]
        if owner not in ("root/root", "0/0"):
            wrong.append(f"{path} belongs to {owner}")
        if not rules:
            if path != "/" and (mode != "drwxr-xr-x" or not SHARED.fullmatch(path)):
                wrong.append(f"{mode} {path} is not in the table")
            continue
        files += 1
        seen.add(rules[0][0])
        if mode != rules[0][1]:
            wrong.append(f"{path} is {mode}, want {rules[0][1]}")
    wrong += [f"{path} is missing" for path, _, kinds in TABLE if kind in kinds and path not in seen]
    if wrong:
        sys.exit(f"{package}:\n  " + "\n  ".join(wrong))
    print(f"  {os.path.basename(package)}: {files} files with their modes, and no others")


if __name__ == "__main__":
    main(sys.argv[1])

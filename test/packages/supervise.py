"""Runs a unit's ExecStart as systemd would, as far as a program sees it: its user, its state directory, its
notification socket and its watchdog. Exit code 1 when something is missing.

    python3 supervise.py /lib/systemd/system/fleetbridge.service
"""
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

WATCHDOG = 3.0  # seconds; the unit's is longer, and this would take as long


def unit(path):
    with open(path, encoding="utf-8") as f:
        return dict(re.findall(r"^(\w+)=(.*)$", f.read(), re.M))


class Supervisor:
    def __init__(self, settings):
        user = pwd.getpwnam(settings["User"])
        self.state = os.path.join("/var/lib", settings["StateDirectory"])
        os.makedirs(self.state, 0o700, exist_ok=True)
        shutil.chown(self.state, user.pw_uid, user.pw_gid)
        self.dir = tempfile.mkdtemp()
        os.chmod(self.dir, 0o755)
        path = os.path.join(self.dir, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o666)
        self.log = open(os.path.join(self.dir, "log"), "w+", encoding="utf-8")
        environment = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": path, "WATCHDOG_USEC": str(int(WATCHDOG * 1e6))}
        self.process = subprocess.Popen(settings["ExecStart"].split(), cwd=self.state, user=user.pw_uid, group=user.pw_gid,
                                        extra_groups=[], umask=0o077, env=environment, stdin=subprocess.DEVNULL, stderr=self.log)

    def next(self, seconds):
        """The next notification, or None."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(4096).decode()
        except TimeoutError:
            return None

    def expect(self, wanted, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if (got := self.next(left)) == wanted:
                return
            if got not in (None, "WATCHDOG=1"):
                self.fail(f"{got} came instead of {wanted}")
        self.fail(f"{wanted} did not come within {seconds} s")

    def fail(self, why):
        self.log.seek(0)
        sys.exit(f"supervise: {why}\n{self.log.read()}")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir)


def main():
    settings = unit(sys.argv[1])
    s = Supervisor(settings)
    try:
        s.expect("READY=1", 60)
        print(f"  READY as {settings['User']}, though the broker of the example is nowhere")
        for _ in range(3):
            s.expect("WATCHDOG=1", WATCHDOG)
        print(f"  WATCHDOG three times, each within {WATCHDOG:.0f} s")
        subprocess.run(["fleetbridge", "healthcheck", "--config", "/etc/fleetbridge/fleetbridge.yaml"], check=True, stdout=subprocess.DEVNULL)
        ready = subprocess.run(["fleetbridge", "healthcheck", "--ready", "--config", "/etc/fleetbridge/fleetbridge.yaml"], capture_output=True, text=True)
        if ready.returncode != 1 or "not connected to the broker" not in ready.stderr:
            s.fail(f"healthcheck --ready: {ready.returncode} {ready.stderr}")
        print("  healthcheck: works, and is not ready because the broker is away")

        s.process.send_signal(signal.SIGSTOP)
        while s.next(0.2):  # sent before
            pass
        if got := s.next(WATCHDOG):
            s.fail(f"{got} came from a process that is stopped")
        print(f"  no ping from a process that is stopped: systemd would end it after WatchdogSec={settings['WatchdogSec']}")
        s.process.send_signal(signal.SIGCONT)
        s.expect("WATCHDOG=1", 2 * WATCHDOG)

        began = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        s.expect("STOPPING=1", 10)
        code = s.process.wait(15)
        if code != 0:
            s.fail(f"exit code {code}")
        print(f"  STOPPING, and the end after {time.monotonic() - began:.1f} s with exit code 0")
        paths = [os.path.join(at, n) for at, _, names in os.walk(s.state) for n in names]
        modes = {os.stat(p).st_mode & 0o077 for p in paths if not os.path.islink(p)}
        if modes - {0}:
            s.fail("others may read what is in the state directory")
        print("  the store is in the state directory, for its user only")
    finally:
        s.close()


if __name__ == "__main__":
    main()

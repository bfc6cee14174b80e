"""A thermostat that is a Thing in EMQX Fleets, as an ordinary NATS program.

It reports its state, sends an event when it gets too warm, follows the target temperature that the
cloud asks for, serves the command setTemperature, and does the jobs that it is given.
"""
import asyncio
import contextlib
import json
import os
import signal
import uuid

import nats
import nats.errors
import nats.micro
from nats.js.errors import NoStreamResponseError
from nats.micro.request import ServiceError


def token(name):
    """A name as one word of a subject: every byte but A-Z a-z 0-9 _ - is written =XX."""
    return "".join(chr(b) if chr(b).isalnum() and b < 128 or b in b"_-" else f"={b:02X}" for b in name.encode())


THING = token(os.environ.get("THING", "thermostat-001"))
PAUSE = float(os.environ.get("PAUSE", "5"))  # seconds between two measurements
WORKER = {"Fleets-Worker": "thermostat"}  # a job that has begun stays with this name
COLDEST, HOTTEST, TOO_WARM = 5, 30, 28


def ending():
    """Tells whether this task is to end: Python 3.11 can lose a cancellation that comes together with an answer."""
    return asyncio.current_task().cancelling() > 0


class Thermostat:
    def __init__(self, nc):
        self.nc, self.js = nc, nc.jetstream()
        self.temperature, self.target = 18.0, 20.0
        self.hint = asyncio.Event()  # a job may wait

    async def publish(self, tail, payload):
        """When this returns, the gateway has the message and will not lose it."""
        data, once = json.dumps(payload).encode(), {"Nats-Msg-Id": uuid.uuid4().hex}
        while True:
            try:
                return await self.js.publish(f"fleets.up.{THING}.{tail}", data, headers=once)
            except NoStreamResponseError:
                raise SystemExit(f"{THING} is not configured at the gateway")
            except nats.errors.ConnectionClosedError:
                raise SystemExit("the gateway does not want this program")
            except nats.errors.Error as err:  # it is being restarted; the same id is not stored twice
                print(f"{tail}: {err}, trying again", flush=True)
                await asyncio.sleep(1)

    async def report(self, **state):
        await self.publish("shadow.update", {"state": {"reported": state}})

    async def ask(self, tail, payload, headers=None):
        """Returns the cloud's answer, or raises what went wrong."""
        data = json.dumps(payload).encode()
        answer = await self.nc.request(f"fleets.req.{THING}.{tail}", data, timeout=15, headers=headers)
        if answer.headers and "Nats-Service-Error" in answer.headers:
            raise RuntimeError(f"{tail}: {answer.headers['Nats-Service-Error']}")
        return json.loads(answer.data)

    async def measure(self):
        await self.report(temperature=self.temperature, targetTemperature=self.target)
        while not ending():
            await asyncio.sleep(PAUSE)
            before = self.temperature
            self.temperature = round(before + (self.target - before) * 0.2, 2)
            if self.temperature != before:
                await self.report(temperature=self.temperature)
            if before <= TOO_WARM < self.temperature:
                await self.publish("events.overheated", {
                    "eventType": "overheated", "severity": "warn", "data": {"temperature": self.temperature}})

    async def apply(self, delta):
        value = delta.get("targetTemperature")
        if isinstance(value, (int, float)):
            self.target = min(max(value, COLDEST), HOTTEST)  # what it can do, not what it is told
            await self.report(targetTemperature=self.target)

    async def on_delta(self, msg):
        await self.apply(json.loads(msg.data)["state"])

    async def set_temperature(self, request):
        """Serves the command. An error of the service is a command that FAILED."""
        value = (json.loads(request.data).get("params") or {}).get("value")
        if not isinstance(value, (int, float)) or not COLDEST <= value <= HOTTEST:
            raise ServiceError("400", f"params.value: {json.dumps(value)} is no number from {COLDEST} to {HOTTEST}")
        await self.apply({"targetTemperature": value})
        await request.respond(json.dumps({"status": "SUCCEEDED", "result": {"targetTemperature": self.target}}).encode())

    async def work(self):
        """Does the jobs that wait, now and after each hint. What failed is tried again."""
        while not ending():
            try:
                self.hint.clear()
                while execution := (await self.ask("jobs.start-next", {}, WORKER)).get("execution"):
                    await self.job(execution["jobId"], execution.get("jobDocument") or {})
                if not ending():
                    await self.hint.wait()
            except (RuntimeError, nats.errors.Error) as err:
                print(f"jobs: {err}", flush=True)
                await asyncio.sleep(PAUSE)

    async def job(self, name, document):
        print(f"job {name}: {json.dumps(document)}", flush=True)
        update = f"jobs.{token(name)}.update"
        await self.ask(update, {"status": "IN_PROGRESS", "statusDetails": {"progress": "50 %"}}, WORKER)
        await asyncio.sleep(document.get("seconds", PAUSE))
        await self.ask(update, {"status": "SUCCEEDED", "statusDetails": {"progress": "done"}}, WORKER)

    async def catch_up(self):
        """Does what the cloud asked for while this program was not listening."""
        self.hint.set()
        try:
            await self.apply((await self.ask("shadow.get", {})).get("delta") or {})
        except (RuntimeError, nats.errors.Error) as err:  # nothing is known yet; what comes is a delta
            print(f"shadow: {err}", flush=True)

    async def run(self):
        async def on_notify(_):
            self.hint.set()
        await self.nc.subscribe(f"fleets.down.{THING}.shadow.update.delta", cb=self.on_delta)
        await self.nc.subscribe(f"fleets.down.{THING}.jobs.notify-next", cb=on_notify)
        service = await nats.micro.add_service(self.nc, name="thermostat", version="1.0.0")
        await service.add_group(name=f"fleets.cmd.{THING}").add_endpoint(name="setTemperature", handler=self.set_temperature)
        async with asyncio.TaskGroup() as tasks:
            for part in (self.measure(), self.work(), self.catch_up()):
                tasks.create_task(part)


async def main():
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asyncio.current_task().cancel)

    async def on_error(err):
        print(f"error: {err}", flush=True)

    async def on_reconnect():
        await thermostat.catch_up()

    nc = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), user=os.environ.get("NATS_USER"),
        password=os.environ.get("NATS_PASSWORD"), inbox_prefix=os.environ.get("NATS_INBOX_PREFIX", "_INBOX").encode(),
        max_reconnect_attempts=-1, drain_timeout=2, error_cb=on_error, reconnected_cb=on_reconnect)
    thermostat = Thermostat(nc)
    try:
        await thermostat.run()
    finally:
        with contextlib.suppress(OSError):  # the gateway may just be going away
            await (nc.drain() if nc.is_connected else nc.close())


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        pass

"""A thermostat that is a Thing in EMQX Fleets, as an ordinary NATS program.

It reports its state, follows the target temperature that the cloud asks for, serves the command
setTemperature, sends an event when it gets too warm, and does the jobs that it is given.
"""
import asyncio
import json
import os
import uuid

import nats
from nats.errors import TimeoutError
from nats.js.errors import NoStreamResponseError

THING = os.environ.get("THING", "thermostat-001")  # a name with other characters than A-Z a-z 0-9 _ - is escaped
LIMITS = (5, 30)


class Thermostat:
    def __init__(self, nc):
        self.nc = nc
        self.js = nc.jetstream()
        self.temperature, self.target = 18.0, 20.0
        self.behind = True  # may have missed what the cloud asked for

    async def publish(self, tail, payload):
        """When this returns, the gateway has the message and will not lose it."""
        data, once = json.dumps(payload).encode(), {"Nats-Msg-Id": uuid.uuid4().hex}
        while True:
            try:
                return await self.js.publish(f"fleets.up.{THING}.{tail}", data, headers=once)
            except TimeoutError:  # the gateway is being restarted; the same id is not stored twice
                print("waiting for the gateway", flush=True)

    async def ask(self, tail, payload=None, **headers):
        """Returns the cloud's answer, or raises what went wrong."""
        data = b"" if payload is None else json.dumps(payload).encode()
        answer = await self.nc.request(f"fleets.req.{THING}.{tail}", data, timeout=15, headers=headers or None)
        if answer.headers and "Nats-Service-Error-Code" in answer.headers:
            raise RuntimeError(answer.headers["Nats-Service-Error"])
        return json.loads(answer.data)

    async def report(self, **state):
        await self.publish("shadow.update", {"state": {"reported": state}})

    async def set_target(self, value):
        self.target = min(max(float(value), LIMITS[0]), LIMITS[1])  # what it can do, not what it is told
        print(f"target is {self.target}", flush=True)
        await self.report(targetTemperature=self.target)

    async def on_delta(self, msg):
        state = json.loads(msg.data)["state"]
        if "targetTemperature" in state:
            await self.set_target(state["targetTemperature"])

    async def on_command(self, msg):
        params = json.loads(msg.data).get("params") or {}
        if "value" not in params:
            await msg.respond(b'{"status":"REJECTED","result":{"error":"params.value is missing"}}')
            return
        await self.set_target(params["value"])
        await msg.respond(json.dumps({"status": "SUCCEEDED", "result": {"targetTemperature": self.target}}).encode())

    async def on_notify(self, _msg=None):
        """Does every job that is waiting. The lease keeps a second worker from doing one twice."""
        worker = {"Fleets-Worker": "thermostat"}
        while execution := (await self.ask("jobs.start-next", **worker)).get("execution"):
            job = execution["jobId"]
            print(f"job {job}: {json.dumps(execution.get('jobDocument'))}", flush=True)
            await self.ask(f"jobs.{job}.update", {"status": "SUCCEEDED"}, **worker)

    async def catch_up(self):
        """Does what the cloud asked for while this program was not listening."""
        self.behind = False
        try:
            delta = (await self.ask("shadow.get")).get("delta") or {}
            if "targetTemperature" in delta:
                await self.set_target(delta["targetTemperature"])
            await self.on_notify()
        except RuntimeError as err:  # there is no connection to the cloud; what is pending comes with it
            print(err, flush=True)

    async def run(self, pause):
        down, cmd = f"fleets.down.{THING}", f"fleets.cmd.{THING}"
        await self.nc.subscribe(f"{down}.shadow.update.delta", cb=self.on_delta)
        await self.nc.subscribe(f"{down}.jobs.notify", cb=self.on_notify)
        await self.nc.subscribe(f"{cmd}.setTemperature", queue="thermostat", cb=self.on_command)
        await self.report(temperature=self.temperature, targetTemperature=self.target)
        while True:
            if self.behind:
                await self.catch_up()
            await asyncio.sleep(pause)
            before = self.temperature
            self.temperature = round(before + (self.target - before) * 0.2, 2)
            if self.temperature != before:
                await self.report(temperature=self.temperature)
            if before <= 28 < self.temperature:
                await self.publish("events.highTemperature", {
                    "eventType": "highTemperature", "severity": "warn", "data": {"currentTemp": self.temperature}})


async def main():
    async def on_error(err):
        print(f"error: {err}", flush=True)

    async def on_reconnect():
        thermostat.behind = True

    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), error_cb=on_error,
                            reconnected_cb=on_reconnect, max_reconnect_attempts=-1)
    thermostat = Thermostat(nc)
    try:
        await thermostat.run(float(os.environ.get("PAUSE", "5")))
    except NoStreamResponseError:
        raise SystemExit(f"{THING} is not configured at the gateway")
    finally:
        await nc.drain()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass

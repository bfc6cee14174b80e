// A thermostat that is a Thing in EMQX Fleets, as an ordinary NATS program.
//
// It reports its state, sends an event when it gets too warm, follows the target temperature that the
// cloud asks for, serves the command setTemperature, and does the jobs that it is given.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { jetstream } from "@nats-io/jetstream";
import { connect, errors, headers, type Msg } from "@nats-io/transport-node";

type Settings = { targetTemperature?: unknown };
type Execution = { jobId: string; jobDocument?: { seconds?: number } };

const env = process.env;
const thing = token(env.THING ?? "thermostat-001");
const pause = Number(env.PAUSE ?? "5") * 1000; // between two measurements
const [coldest, hottest, tooWarm] = [5, 30, 28];

// A name as one word of a subject: every byte but A-Z a-z 0-9 _ - is written =XX.
function token(name: string): string {
  const spell = (byte: number) => "=" + byte.toString(16).toUpperCase().padStart(2, "0");
  return name.replace(/[^A-Za-z0-9_-]/gu, (c) => [...Buffer.from(c)].map(spell).join(""));
}

const connecting = connect({
  servers: env.NATS_URL ?? "nats://127.0.0.1:4222",
  user: env.NATS_USER,
  pass: env.NATS_PASSWORD,
  inboxPrefix: env.NATS_INBOX_PREFIX,
  maxReconnectAttempts: -1,
  waitOnFirstConnect: true,
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    await Promise.race([connecting.then((nc) => nc.drain()), sleep(2000)]); // what has come is answered
    process.exit(0);
  });
}
const nc = await connecting;
const js = jetstream(nc);
let [temperature, target] = [18, 20];
let hinted = true; // a job may wait
let wake = () => {};

// When this returns, the gateway has the message and will not lose it.
async function publish(tail: string, payload: unknown) {
  const msgID = randomUUID();
  for (;;) {
    try {
      return await js.publish(`fleets.up.${thing}.${tail}`, JSON.stringify(payload), { msgID, timeout: 5000 });
    } catch (err) {
      const { cause } = err as Error;
      if (cause instanceof errors.RequestError && cause.isNoResponders()) {
        console.error(`${thing} is not configured at the gateway`);
        process.exit(1);
      }
      console.error(`${tail}: ${err}, trying again`); // it is being restarted; the same id is not stored twice
      await sleep(1000);
    }
  }
}

const report = (state: object) => publish("shadow.update", { state: { reported: state } });

// Returns the cloud's answer, or throws what went wrong.
async function ask(tail: string, payload: unknown = {}): Promise<any> {
  const worker = headers();
  worker.set("Fleets-Worker", "thermostat"); // a job that has begun stays with this name
  const answer = await nc.request(`fleets.req.${thing}.${tail}`, JSON.stringify(payload), { timeout: 15000, headers: worker });
  const error = answer.headers?.get("Nats-Service-Error");
  if (error) throw new Error(`${tail}: ${error}`);
  return answer.json();
}

async function measure() {
  await report({ temperature, targetTemperature: target });
  for (;;) {
    await sleep(pause);
    const before = temperature;
    temperature = Math.round((before + (target - before) * 0.2) * 100) / 100;
    if (temperature !== before) await report({ temperature });
    if (before <= tooWarm && temperature > tooWarm) {
      await publish("events.overheated", { eventType: "overheated", severity: "warn", data: { temperature } });
    }
  }
}

async function apply(settings: Settings) {
  if (typeof settings.targetTemperature !== "number") return;
  target = Math.min(Math.max(settings.targetTemperature, coldest), hottest); // what it can do, not what it is told
  await report({ targetTemperature: target });
}

// Serves the command. The headers of a service's error make it FAILED.
async function setTemperature(request: Msg) {
  const value = request.json<{ params?: { value?: unknown } }>().params?.value;
  if (typeof value !== "number" || value < coldest || value > hottest) {
    const error = headers();
    error.set("Nats-Service-Error-Code", "400");
    error.set("Nats-Service-Error", `params.value: ${JSON.stringify(value)} is no number from ${coldest} to ${hottest}`);
    request.respond("", { headers: error });
    return;
  }
  await apply({ targetTemperature: value });
  request.respond(JSON.stringify({ status: "SUCCEEDED", result: { targetTemperature: value } }));
}

// Does the jobs that wait, now and after each hint. What failed is tried again.
async function work() {
  for (;;) {
    hinted = false;
    try {
      for (let next; (next = (await ask("jobs.start-next")).execution); ) await job(next);
      if (!hinted) await new Promise<void>((resolve) => (wake = resolve));
    } catch (err) {
      console.error(`jobs: ${err}`);
      await sleep(pause);
    }
  }
}

async function job({ jobId, jobDocument }: Execution) {
  console.log(`job ${jobId}`);
  const update = `jobs.${token(jobId)}.update`;
  await ask(update, { status: "IN_PROGRESS", statusDetails: { progress: "50 %" } });
  await sleep((jobDocument?.seconds ?? 0) * 1000);
  await ask(update, { status: "SUCCEEDED", statusDetails: { progress: "done" } });
}

function hint() {
  hinted = true;
  wake();
}

// Does what the cloud asked for while this program was not listening.
async function catchUp() {
  hint();
  try {
    await apply((await ask("shadow.get")).delta ?? {});
  } catch (err) {
    console.error(`shadow: ${err}`); // nothing is known yet; what comes is a delta
  }
}

nc.closed().then((err) => {
  if (err) console.error(`connection: ${err}`);
  process.exit(err ? 1 : 0);
});

nc.subscribe(`fleets.down.${thing}.shadow.update.delta`, {
  callback: (_, msg) => void apply(msg.json<{ state: Settings }>().state),
});
nc.subscribe(`fleets.down.${thing}.jobs.notify-next`, { callback: hint });
nc.subscribe(`fleets.cmd.${thing}.setTemperature`, {
  queue: "thermostat",
  callback: (_, msg) => void setTemperature(msg),
});

(async () => {
  for await (const status of nc.status()) if (status.type === "reconnect") catchUp();
})();
await Promise.all([measure(), work(), catchUp()]);

//! A thermostat that is a Thing in EMQX Fleets, as an ordinary NATS program.
//!
//! It reports its state, sends an event when it gets too warm, follows the target temperature that the
//! cloud asks for, serves the command setTemperature, and does the jobs that it is given.
use std::{env, error::Error, time::Duration};

use async_nats::jetstream::{self, context::PublishErrorKind, message::PublishMessage};
use async_nats::service::{self, ServiceExt, endpoint::Endpoint};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Request, Subscriber};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::{interval, sleep, timeout};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const COLDEST: f64 = 5.0;
const HOTTEST: f64 = 30.0;
const TOO_WARM: f64 = 28.0;

struct Thermostat {
    nc: Client,
    js: jetstream::Context,
    thing: String,
    pause: Duration, // between two measurements
    hint: Notify,    // a job may wait
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.into())
}

/// A name as one word of a subject: every byte but A-Z a-z 0-9 _ - is written =XX.
fn token(name: &str) -> String {
    let spell = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => char::from(b).to_string(),
        _ => format!("={b:02X}"),
    };
    name.bytes().map(spell).collect()
}

impl Thermostat {
    /// When this returns, the gateway has the message and will not lose it.
    async fn publish(&self, tail: &str, payload: Value) -> Result<()> {
        let (subject, id) = (format!("fleets.up.{}.{tail}", self.thing), self.nc.new_inbox()); // any unique id
        loop {
            let message = PublishMessage::build().payload(payload.to_string().into()).message_id(&id);
            let answer = match self.js.send_publish(subject.clone(), message).await {
                Ok(ack) => ack.await,
                Err(err) => Err(err),
            };
            match answer {
                Ok(_) => return Ok(()),
                Err(err) if err.kind() == PublishErrorKind::StreamNotFound => {
                    return Err(format!("{} is not configured at the gateway", self.thing).into());
                }
                Err(err) => eprintln!("{tail}: {err}, trying again"), // the same id is not stored twice
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn report(&self, state: Value) -> Result<()> {
        self.publish("shadow.update", json!({"state": {"reported": state}})).await
    }

    /// Returns the cloud's answer, or what went wrong.
    async fn ask(&self, tail: &str, payload: Value) -> Result<Value> {
        let mut headers = HeaderMap::new();
        headers.insert("Fleets-Worker", "thermostat"); // a job that has begun stays with this name
        let question = Request::new().payload(payload.to_string().into()).headers(headers).timeout(Some(Duration::from_secs(15)));
        let answer = self.nc.send_request(format!("fleets.req.{}.{tail}", self.thing), question).await?;
        match answer.headers.as_ref().and_then(|h| h.get("Nats-Service-Error")) {
            Some(error) => Err(format!("{tail}: {error}").into()),
            None => Ok(serde_json::from_slice(&answer.payload)?),
        }
    }

    /// Has the temperature follow the target, and reports both.
    async fn run(&self, mut targets: mpsc::Receiver<f64>) -> Result<()> {
        let (mut temperature, mut target) = (18.0, 20.0);
        self.report(json!({"temperature": temperature, "targetTemperature": target})).await?;
        let mut tick = interval(self.pause);
        loop {
            tokio::select! {
                Some(wanted) = targets.recv() => {
                    target = wanted.clamp(COLDEST, HOTTEST); // what it can do, not what it is told
                    self.report(json!({"targetTemperature": target})).await?;
                }
                _ = tick.tick() => {
                    let before = temperature;
                    temperature = ((before + (target - before) * 0.2) * 100.0).round() / 100.0;
                    if temperature != before {
                        self.report(json!({"temperature": temperature})).await?;
                    }
                    if before <= TOO_WARM && temperature > TOO_WARM {
                        let event = json!({"eventType": "overheated", "severity": "warn", "data": {"temperature": temperature}});
                        self.publish("events.overheated", event).await?;
                    }
                }
            }
        }
    }

    async fn follow(&self, mut deltas: Subscriber, targets: mpsc::Sender<f64>) -> Result<()> {
        while let Some(message) = deltas.next().await {
            let delta: Value = serde_json::from_slice(&message.payload)?;
            if let Some(target) = delta["state"]["targetTemperature"].as_f64() {
                targets.send(target).await?;
            }
        }
        Ok(())
    }

    /// Serves the command. An error of the service is a command that FAILED.
    async fn serve(&self, mut commands: Endpoint, targets: mpsc::Sender<f64>) -> Result<()> {
        while let Some(request) = commands.next().await {
            let command: Value = serde_json::from_slice(&request.message.payload)?;
            let value = &command["params"]["value"];
            let response = match value.as_f64() {
                Some(target) if (COLDEST..=HOTTEST).contains(&target) => {
                    targets.send(target).await?;
                    Ok(json!({"status": "SUCCEEDED", "result": {"targetTemperature": target}}).to_string().into())
                }
                _ => {
                    let status = format!("params.value: {value} is no number from {COLDEST} to {HOTTEST}");
                    Err(service::error::Error { status, code: 400 })
                }
            };
            request.respond(response).await?;
        }
        Ok(())
    }

    /// Does the jobs that wait, now and after each hint. What failed is tried again.
    async fn work(&self) {
        loop {
            match self.job().await {
                Ok(true) => {}
                Ok(false) => self.hint.notified().await,
                Err(err) => {
                    eprintln!("jobs: {err}");
                    sleep(self.pause).await;
                }
            }
        }
    }

    /// Does the next job, and tells whether there was one.
    async fn job(&self) -> Result<bool> {
        let next = self.ask("jobs.start-next", json!({})).await?;
        let Some(name) = next["execution"]["jobId"].as_str() else { return Ok(false) };
        println!("job {name}");
        let update = format!("jobs.{}.update", token(name));
        self.ask(&update, json!({"status": "IN_PROGRESS", "statusDetails": {"progress": "50 %"}})).await?;
        sleep(Duration::from_secs_f64(next["execution"]["jobDocument"]["seconds"].as_f64().unwrap_or(0.0))).await;
        self.ask(&update, json!({"status": "SUCCEEDED", "statusDetails": {"progress": "done"}})).await?;
        Ok(true)
    }

    /// Passes hints on; after each connection, does what the cloud asked for while nobody was listening.
    async fn catch_up(&self, mut hints: Subscriber, mut connected: mpsc::Receiver<()>, targets: mpsc::Sender<f64>) -> Result<()> {
        loop {
            tokio::select! {
                Some(_) = hints.next() => self.hint.notify_one(),
                Some(_) = connected.recv() => {
                    self.hint.notify_one();
                    match self.ask("shadow.get", json!({})).await {
                        Ok(shadow) => if let Some(target) = shadow["delta"]["targetTemperature"].as_f64() {
                            targets.send(target).await?;
                        },
                        Err(err) => eprintln!("shadow: {err}"), // nothing is known yet; what comes is a delta
                    }
                }
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let thing = token(&variable("THING", "thermostat-001"));
    let (tell, connected) = mpsc::channel(1);
    let on_event = move |event| {
        if event == Event::Connected {
            let _ = tell.try_send(());
        }
        async {}
    };
    let mut options = ConnectOptions::new().custom_inbox_prefix(variable("NATS_INBOX_PREFIX", "_INBOX")).max_reconnects(None);
    if let (Ok(user), Ok(password)) = (env::var("NATS_USER"), env::var("NATS_PASSWORD")) {
        options = options.user_and_password(user, password);
    }
    let options = options.retry_on_initial_connect().event_callback(on_event);
    let nc = options.connect(variable("NATS_URL", "nats://127.0.0.1:4222")).await?;

    let deltas = nc.subscribe(format!("fleets.down.{thing}.shadow.update.delta")).await?;
    let hints = nc.subscribe(format!("fleets.down.{thing}.jobs.notify-next")).await?;
    let service = nc.service_builder().start("thermostat", "1.0.0").await.map_err(|err| err.to_string())?;
    let commands =
        service.group(format!("fleets.cmd.{thing}")).endpoint("setTemperature").await.map_err(|err| err.to_string())?;

    let pause = Duration::from_secs_f64(variable("PAUSE", "5").parse()?);
    let t = Thermostat { js: jetstream::new(nc.clone()), nc, thing, pause, hint: Notify::new() };
    let (targets, wanted) = mpsc::channel(16);
    tokio::select! {
        result = t.run(wanted) => result?,
        result = t.follow(deltas, targets.clone()) => result?,
        result = t.serve(commands, targets.clone()) => result?,
        result = t.catch_up(hints, connected, targets) => result?,
        _ = t.work() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let _ = timeout(Duration::from_secs(2), t.nc.flush()).await; // what was answered gets out
    Ok(())
}

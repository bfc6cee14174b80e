// Is my gateway all right?
import { html, nothing } from '../part/lit.js';
import { to } from '../route.js';
import { command } from '../part/act.js';
import { failed, waiting } from '../part/message.js';
import { meter, spark } from '../part/spark.js';
import { ago, bytes, clock, count, many, now, plain, rate, span, took } from '../part/text.js';

export function open(ctx) {
  const o = { history: null, events: null, error: null };
  ctx.follow(o, 'history', 'history', { every: 10000 });
  ctx.follow(o, 'events', 'events?limit=12');
  return { title: () => 'Overview', twin: () => 'fleetbridge status --watch', render: () => page(ctx, o) };
}

function page(ctx, { history, events, error }) {
  const o = ctx.overview, s = history?.series ?? {};
  if (!o) return html`<h1 class="quiet">Overview</h1>${waiting}`;
  const t = o.things, not = t.all - t.connected, down = o.streams?.find((x) => x.stream.endsWith('_DOWN')), m = o.machine ?? {};
  const passed = ['up', 'down'].some((d) => o[d].delivered || o[d].dead || o[d].duplicate);
  return html`<h1 class="quiet">Overview</h1>${failed(error)}
  ${o.problems?.length ? html`<section class="panel" aria-label="Why it is not ready"><h2>Why it is not ready</h2><ul class="problems">${o.problems.map((p) => html`<li>
    <span class="bad">✗ ${plain(p.reason)}</span>${p.things ? html`<span class="things">${many(p.things, 'Thing')}, such as
    <a href=${to(['things'], { state: 'notready' })}>${plain(p.example)}</a></span>` : nothing}</li>`)}</ul>
    <div class="pad"><p class="dim">${ctx.may('doctor') ? html`<a href=${to(['gateway'], { tab: 'doctor' })}>Examine the whole way to the cloud</a>; it says what mends it. On the gateway this does the same:` : 'On the gateway this looks at the whole way to the cloud, and says what mends it:'}</p>${command('fleetbridge doctor')}</div></section>` : nothing}
  <div class="cards">
    <a class="card" href=${to(['things'], not ? { state: 'down' } : {})}><h2>Cloud link</h2>
      <div class="big"><strong>${count(t.connected)} <small>of ${count(t.all)} connected</small></strong>${spark(s.connected, 'Connected Things', count)}</div>
      <dl class="facts"><dt>not connected</dt><dd class=${not ? 'bad' : ''}>${not ? '✗ ' : ''}${count(not)}</dd><dt>not ready</dt><dd class=${t.all - t.ready ? 'bad' : ''}>${count(t.all - t.ready)}</dd></dl></a>
    <a class="card" href=${to(['things'], { state: o.queued ? 'queued' : '', sort: o.queued ? 'queued' : '' })}><h2><span><span class="up" aria-hidden="true">▲</span> Up, to the cloud</span></h2>
      <div class="big"><strong>${rate(o.up.rate)}<small>/s</small></strong>${spark(s.upDelivered, 'Messages up each second', rate)}</div>
      <dl class="facts"><dt>delivered</dt><dd>${count(o.up.delivered)}</dd>${speed(o.up)}<dt>queued</dt><dd class=${o.queued ? 'warn' : ''}>${count(o.queued)}${o.oldest ? html`, oldest ${span((now() - Date.parse(o.oldest)) / 1000)}` : nothing}</dd></dl></a>
    <a class="card" href=${to(['tail'], { direction: 'down' })}><h2><span><span class="down" aria-hidden="true">▼</span> Down, to programs</span></h2>
      <div class="big"><strong>${rate(o.down.rate)}<small>/s</small></strong>${spark(s.downDelivered, 'Messages down each second', rate)}</div>
      <dl class="facts"><dt>delivered</dt><dd>${count(o.down.delivered)}${o.down.duplicate ? html`, ${many(o.down.duplicate, 'duplicate')}` : nothing}</dd>${speed(o.down)}
        <dt>kept to read again</dt><dd>${down ? html`${bytes(down.bytes)}${down.maxBytes > 0 ? ` of ${bytes(down.maxBytes)}` : ''}` : '–'}</dd></dl></a>
    <a class="card" href=${to(['dead'])}><h2>Dead letters</h2>
      <div class="big"><strong class=${o.dead?.stored ? 'bad' : ''}>${count(o.dead?.stored)} <small>kept</small></strong>${spark(s.upDead?.map((n, i) => n + (s.downDead?.[i] ?? 0)), 'Dead letters each second', rate)}</div>
      <dl class="facts">${o.dead?.since?.length ? o.dead.since.slice(0, 3).map((d) => html`<dt>${d.direction} ${plain(d.code)}</dt><dd>${count(d.count)} since the start</dd>`)
        : html`<dt>since the start</dt><dd>none</dd>`}</dl></a>
    <a class="card" href=${to(['tail'], { channel: 'command.request' })}><h2>Work</h2>
      <div class="big"><strong>${count(o.work?.commands)} <small>open ${o.work?.commands === 1 ? 'command' : 'commands'}</small></strong></div>
      <dl class="facts"><dt>next deadline</dt><dd>${o.work?.nextDeadline ? left(o.work.nextDeadline) : 'none'}</dd><dt>wait for the cloud</dt><dd>${count(o.queued)}</dd></dl></a>
    <a class="card" href=${to(['gateway'], { tab: 'history' })}><h2>Machine</h2>
      <div class="big"><strong>${bytes(m.memory)} <small>memory</small></strong>${spark(s.memory, 'Memory', bytes)}</div>
      <dl class="facts"><dt>disk free</dt><dd>${bytes(m.diskFree)} of ${bytes(m.diskTotal)}</dd>${expires(o.certificates?.[0])}</dl>
      ${m.diskTotal ? meter(1 - m.diskFree / m.diskTotal, 'disk used') : nothing}</a>
  </div>
  ${passed ? nothing : html`<section class="card" aria-label="First steps"><h2>No message has passed yet. Three things to try:</h2>
    ${first(ctx).map(command)}</section>`}
  <section class="panel" aria-labelledby="happened"><h2 id="happened">What happened</h2>
    ${events?.items?.length ? log(events.items) : html`<p class="empty">${events ? 'Nothing yet.' : 'Loading'}</p>`}
    ${events?.next ? html`<p class="pad right"><a href=${to(['gateway'], { tab: 'events' })}>All of it</a></p>` : nothing}</section>`;
}

// How long messages took lately: half of them, and 99 of 100.
const speed = (f) => f.p50Ms === undefined ? nothing : html`<dt title="of the last minute's messages, estimated: half took at most the first time, 99 of 100 the second">took</dt><dd>p50 ${took(f.p50Ms)}, p99 ${took(f.p99Ms)}</dd>`;

// A certificate that expires within 30 days, or has.
function expires(c) {
  const s = c ? (Date.parse(c.expires) - now()) / 1000 : Infinity;
  return s < 30 * 86400 ? html`<dt>${plain(c.use)}</dt><dd class=${s > 0 ? 'warn' : 'bad'}>${s > 0 ? `! expires in ${span(s)}` : `✗ expired ${ago(c.expires)}`}</dd>` : nothing;
}

const left = (at) => {
  const s = (Date.parse(at) - now()) / 1000;
  return s > 0 ? `in ${span(s)}` : html`<span class="bad">passed ${ago(at)}</span>`;
};

function first(ctx) {
  const p = ctx.index?.prefix ?? 'fleets', thing = ctx.overview?.problems?.[0]?.example || 'THING';
  return [`nats sub '${p}.down.>'`, `nats req ${p}.req.${thing}.shadow.update '{"state":{"reported":{"temperature":21.5}}}'`,
    `nats req ${p}.req.${thing}.events.started '{"eventType":"started","severity":"info"}'`];
}

/** Lines of the bridge's log. */
export const log = (items) => html`<ol class="log">${items.map((e) => html`<li><time class="dim mono" datetime=${e.at} title=${e.at}>${clock(e.at, false)}</time>
  <span>${e.thing ? html`<a href=${to(['things', e.token ?? e.thing])}>${plain(e.thing)}</a>` : html`<span class="dim">gateway</span>`}</span>
  <span><span class=${e.level === 'ERROR' ? 'bad' : e.level === 'WARN' ? 'warn' : ''}>${e.level === 'INFO' ? '' : html`${e.level === 'ERROR' ? '✗' : '!'} <span class="quiet">${e.level} </span>`}${plain(e.message)}</span>
  <small>${Object.entries(e.attrs ?? {}).filter(([k]) => k !== 'thing').map(([k, v]) => html` ${plain(k)}=${plain(typeof v === 'string' ? v : JSON.stringify(v))}`)}</small></span></li>`)}</ol>`;

// The gateway itself: what it is configured to do, its streams, the last hour and day, its log, and an examination of all it needs.
import { html, nothing } from '../part/lit.js';
import { post, url } from '../api.js';
import { to } from '../route.js';
import { copyButton } from '../part/act.js';
import { facts, failed, waiting } from '../part/message.js';
import { chart, meter } from '../part/spark.js';
import { ago, block, bytes, count, many, now, plain, rate, span, when } from '../part/text.js';
import { log } from './overview.js';

const tabs = [['config', 'Configuration'], ['streams', 'Streams'], ['history', 'History'], ['events', 'Events'], ['doctor', 'Doctor'], ['about', 'About']];
const charts = [['connected', 'Connected Things', count], ['upDelivered', 'Up, delivered each second', rate], ['downDelivered', 'Down, delivered each second', rate], ['queued', 'Queued for the cloud', count],
  ['upDead', 'Dead up, each second', rate], ['downDead', 'Dead down, each second', rate], ['downDuplicate', 'Duplicates down, each second', rate], ['accepted', 'Accepted from programs, each second', rate], ['memory', 'Memory', bytes]];

export function open(ctx) {
  const o = { data: null, error: null, at: -1 };
  let tab, key, following;
  function show(q) {
    const next = tabs.some(([t]) => t === q.tab) ? q.tab : operator(ctx) ? 'config' : 'streams', k = `${next}|${q.before}|${q.span}`;
    if (k === key) return;
    [key, tab] = [k, next];
    following?.stop();
    Object.assign(o, { data: null, error: null, at: -1 });
    const path = { config: operator(ctx) ? 'config' : '', history: url('history', { span: q.span }), events: url('events', { before: q.before, limit: 100 }), doctor: operator(ctx) ? 'doctor' : '' }[tab];
    following = path ? ctx.follow(o, 'data', path, { every: { events: 4000, doctor: 1000 }[tab] ?? 10000, then: (d) => { if (tab === 'doctor' && !d.running) following.stop(); } }) : null;
  }
  async function examine() {
    if (o.data?.running) return;
    try {
      const begun = await post('doctor');
      key = '';
      show(ctx.query);
      o.data = begun;
    } catch (e) { o.error = e; }
    ctx.update();
  }
  show(ctx.query);
  const twins = { config: 'fleetbridge check', streams: 'nats stream ls', history: 'curl -s http://127.0.0.1:9321/metrics', events: 'journalctl -u fleetbridge -n 100', doctor: 'fleetbridge doctor', about: 'fleetbridge version' };
  return { title: () => 'Gateway', twin: () => twins[tab], copy: () => tab === 'config' ? o.data?.yaml : undefined, queried: show,
    keys: tabs.map(([t, label], i) => [String(i + 1), label, () => { location.hash = to(['gateway'], { tab: t }); }]), render: () => page(ctx, o, tab, examine) };
}

const operator = (ctx) => ctx.role === 'operator';

function page(ctx, o, tab, examine) {
  return html`<h1>${plain(ctx.overview?.host || 'Gateway')}</h1>
  <nav class="tabs" aria-label="Parts of the gateway">${tabs.map(([t, label]) => html`<a href=${to(['gateway'], { tab: t })} aria-current=${t === tab ? 'page' : nothing}>${label}</a>`)}</nav>
  ${failed(o.error)}${{ config, streams, history, events, doctor, about }[tab](ctx, o, examine)}`;
}

const operators = (what) => html`<p class="empty">${what}<span><code>fleetbridge console --operator</code> prints a link for one.</span></p>`;

function config(ctx, o) {
  if (!operator(ctx)) return operators('Operators see the configuration, without its secrets.');
  if (!o.data) return o.error ? nothing : waiting;
  const { reload, warnings = [], yaml } = o.data;
  return html`${reload ? html`<p class="note ${reload.ok ? 'ok' : 'bad'}">${reload.ok ? '✓ Last reloaded' : '✗ The last reload was refused'} ${ago(reload.at)}${reload.error ? html`: ${plain(reload.error)}` : ''}</p>` : nothing}
    ${warnings.length ? html`<ul class="note warn">${warnings.map((w) => html`<li>! ${plain(w)}</li>`)}</ul>` : nothing}
    <pre class="json tall" tabindex="0" role="region" aria-label="Configuration">${block(yaml)}</pre><div class="tools">${copyButton(yaml, 'Copy', 'Configuration copied')}</div>`;
}

function streams(ctx) {
  const list = ctx.overview?.streams;
  if (!list) return html`<p class="empty">${ctx.overview ? 'The NATS server is away.' : 'Loading'}</p>`;
  return html`<div class="panel"><div class="scroll" tabindex="0" role="region" aria-label="Streams"><table><caption class="quiet">Streams</caption><thead><tr><th scope="col">Stream</th><th scope="col" class="right">Messages</th><th scope="col" class="right">Size</th><th scope="col" class="right">Limit</th><th scope="col">Fill</th><th scope="col" class="hide-s">When it is full</th></tr></thead>
    <tbody>${list.map((s) => html`<tr><td class="mono">${plain(s.stream)}</td>${s.exists ? html`<td class="num">${count(s.messages)}</td><td class="num">${bytes(s.bytes)}</td><td class="num">${s.maxBytes > 0 ? bytes(s.maxBytes) : 'none'}</td>
      <td class="fill">${s.maxBytes > 0 ? html`${meter(s.bytes / s.maxBytes, s.stream)}<small>${Math.round(s.bytes / s.maxBytes * 100)} %</small>` : '–'}</td><td class="hide-s">${s.discards ? 'the oldest go' : 'new ones are refused'}</td>` : html`<td colspan="5" class="dim">not there</td>`}</tr>`)}</tbody></table></div></div>`;
}

function history(ctx, o) {
  const day = ctx.query.span === '24h', { series, start } = o.data ?? {};
  const point = (at) => { if (at !== o.at) { o.at = at; ctx.update(); } };
  return html`<div class="facets" role="group" aria-label="Time">${[['', 'Last hour'], ['24h', '24 hours']].map(([span, label]) => html`<a class="facet" href=${to(['gateway'], { tab: 'history', span })}
    aria-current=${day === Boolean(span) ? 'true' : nothing}>${label}</a>`)}</div>
  ${!start ? o.error ? nothing : o.data ? html`<p class="empty">Nothing yet.</p>` : waiting
    : html`<p class="dim">From ${when(start, false)}, a value every ${o.data.step} s${day ? ': the fewest that were connected, the most that was queued' : ''}. It begins when the bridge starts; for longer there are the metrics and a dashboard.</p>
    <div class="cards">${charts.filter(([k]) => series[k]).map(([k, name, say]) => chart(series[k], o.data, name, say, o.at, point))}</div>`}`;
}

function events(ctx, o) {
  if (!o.data) return o.error ? nothing : waiting;
  return html`<section class="panel" aria-label="Events">${o.data.items.length ? log(o.data.items) : html`<p class="empty">Nothing.</p>`}</section>
  <div class="tools">${ctx.query.before ? html`<a class="button" href=${to(['gateway'], { tab: 'events' })}>Newest</a>` : nothing}${o.data.next ? html`<a class="button" href=${to(['gateway'], { tab: 'events', before: o.data.next })}>Older</a>` : nothing}</div>`;
}

function doctor(ctx, o, examine) {
  if (!operator(ctx)) return operators('Operators can have the whole way to the cloud examined.');
  const d = o.data, bad = d?.findings.filter((f) => f.status === 'fail' || f.status === 'warn') ?? [], rest = d?.findings.filter((f) => !bad.includes(f)) ?? [];
  const finding = (f) => html`<li><span class=${f.status === 'fail' ? 'bad' : f.status === 'warn' ? 'warn' : ''}>${{ ok: '✓', warn: '!', fail: '✗', skip: '–' }[f.status]} <span class="word">${f.status} ${plain(f.check)}</span></span>
    <span>${f.subject ? html`<strong>${plain(f.subject)}</strong>: ` : nothing}${plain(f.detail)}${f.mend ? html`<br>→ ${plain(f.mend)}` : nothing}</span></li>`;
  return html`<p class="dim">This examines everything that the configuration names: servers, certificates, clock, every Thing's link, queues, disk. It changes nothing, and ends within two minutes.</p>
  <div class="tools">${ctx.may('doctor') ? html`<button type="button" class="main" aria-disabled=${d?.running ? 'true' : 'false'} @click=${examine}>${d?.began ? 'Examine again' : 'Examine'}</button>` : html`<p class="dim"><code>doctor</code> is not in <code>console.actions</code>.</p>`}
    <span role="status">${!d?.began ? nothing : d.running ? html`<span class="spin">Looking</span>, ${many(rest.length + bad.length, 'finding')}` : html`<span class=${d.healthy ? 'ok' : 'bad'}>${d.healthy ? '✓ Nothing has failed' : `✗ ${d.counts.fail} failed`}</span>, ${many(d.counts.warn, 'warning')}, ${count(d.counts.ok)} well, ${count(d.counts.skip)} not looked at; ${ago(d.ended)}`}</span></div>
  ${bad.length ? html`<section class="panel" aria-labelledby="wrong"><h2 id="wrong">What is wrong, and what mends it</h2><ul class="findings">${bad.map(finding)}</ul></section>` : nothing}
  ${rest.length ? html`<section class="panel" aria-labelledby="rest"><h2 id="rest">The rest</h2><ul class="findings">${rest.map(finding)}</ul></section>` : nothing}
  ${d?.left ? html`<p class="dim">${count(d.left)} more are not shown; <code>fleetbridge doctor</code> prints all.</p>` : nothing}`;
}

const expiry = (at) => { const s = (Date.parse(at) - now()) / 1000; return s > 0 ? html`<span class=${s < 30 * 86400 ? 'warn' : ''}>${s < 30 * 86400 ? '! ' : ''}${span(s)} left</span>` : html`<span class="bad">✗ expired ${ago(at)}</span>`; };

function about(ctx) {
  const i = ctx.index, certificates = ctx.overview?.certificates ?? [];
  if (!i) return waiting;
  return html`<div class="cards"><div class="card">${facts([['Version', plain(i.version)], ['Commit', plain(i.commit)], ['Started', when(i.started, false)], ['Instance', html`<code>${plain(i.instance)}</code>`], ['Subjects begin with', html`<code>${plain(i.prefix)}.</code>`], ['Largest payload', bytes(i.limits?.payload)]], '')}</div>
  ${certificates.length ? html`<div class="card"><h2>Certificates in use</h2>${facts(certificates.map((c) => [html`<code>${plain(c.file)}</code> <small>${plain(c.use)}</small>`, expiry(c.expires)]), '')}</div>` : nothing}
  <div class="card plain"><p>This page draws with <a href="vendor/lit-html/LICENSE">lit-html, BSD-3-Clause</a>. It asks only this bridge, by <code>api/v1/</code>; scripts may use the same.</p></div></div>`;
}

// The gateway itself: what it is configured to do, its streams, the last hour and day, its log.
import { html, nothing } from '../part/lit.js';
import { url } from '../api.js';
import { to } from '../route.js';
import { copyButton } from '../part/act.js';
import { facts, failed, waiting } from '../part/message.js';
import { chart, meter } from '../part/spark.js';
import { ago, block, bytes, count, now, plain, rate, span, when } from '../part/text.js';
import { log } from './overview.js';

const tabs = [['config', 'Configuration'], ['streams', 'Streams'], ['history', 'History'], ['events', 'Events'], ['about', 'About']];
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
    const path = { config: operator(ctx) ? 'config' : '', history: url('history', { span: q.span }), events: url('events', { before: q.before, limit: 100 }) }[tab];
    following = path ? ctx.follow(o, 'data', path, { every: tab === 'events' ? 4000 : 10000 }) : null;
  }
  show(ctx.query);
  const twins = { config: 'fleetbridge check', streams: 'nats stream ls', history: 'curl -s http://127.0.0.1:9321/metrics', events: 'journalctl -u fleetbridge -n 100', about: 'fleetbridge version' };
  return { title: () => 'Gateway', twin: () => twins[tab], copy: () => tab === 'config' ? o.data?.yaml : undefined, queried: show,
    keys: tabs.map(([t, label], i) => [String(i + 1), label, () => { location.hash = to(['gateway'], { tab: t }); }]), render: () => page(ctx, o, tab) };
}

const operator = (ctx) => ctx.role === 'operator';

function page(ctx, o, tab) {
  return html`<h1>${plain(ctx.overview?.host || 'Gateway')}</h1>
  <nav class="tabs" aria-label="Parts of the gateway">${tabs.map(([t, label]) => html`<a href=${to(['gateway'], { tab: t })} aria-current=${t === tab ? 'page' : nothing}>${label}</a>`)}</nav>
  ${failed(o.error)}${{ config, streams, history, events, about }[tab](ctx, o)}`;
}

function config(ctx, o) {
  if (!operator(ctx)) return html`<p class="empty">Operators see the configuration, without its secrets.<span><code>fleetbridge console --operator</code> prints a link for one.</span></p>`;
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

const expiry = (at) => { const s = (Date.parse(at) - now()) / 1000; return s > 0 ? html`<span class=${s < 30 * 86400 ? 'warn' : ''}>${s < 30 * 86400 ? '! ' : ''}${span(s)} left</span>` : html`<span class="bad">✗ expired ${ago(at)}</span>`; };

function about(ctx) {
  const i = ctx.index, certificates = ctx.overview?.certificates ?? [];
  if (!i) return waiting;
  return html`<div class="cards"><div class="card">${facts([['Version', plain(i.version)], ['Commit', plain(i.commit)], ['Started', when(i.started, false)], ['Instance', html`<code>${plain(i.instance)}</code>`], ['Subjects begin with', html`<code>${plain(i.prefix)}.</code>`], ['Largest payload', bytes(i.limits?.payload)]], '')}</div>
  ${certificates.length ? html`<div class="card"><h2>Certificates in use</h2>${facts(certificates.map((c) => [html`<code>${plain(c.file)}</code> <small>${plain(c.use)}</small>`, expiry(c.expires)]), '')}</div>` : nothing}
  <div class="card plain"><p>This page draws with <a href="vendor/lit-html/LICENSE">lit-html, BSD-3-Clause</a>. It asks only this bridge, by <code>api/v1/</code>; scripts may use the same.</p></div></div>`;
}

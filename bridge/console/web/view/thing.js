// One Thing: what passes now, its shadow, work, queue, what it received, its dead letters.
import { html, nothing, repeat } from '../part/lit.js';
import { get, stream, url } from '../api.js';
import { change, to } from '../route.js';
import { copyButton } from '../part/act.js';
import { changes, parse, peek, shown, tree, whole } from '../part/payload.js';
import { arrow, body, difference, facts, failed, level, opened, outcome, time, waiting, what } from '../part/message.js';
import { ago, bytes, clock, count, many, now, plain, quote, span, when } from '../part/text.js';
import { link, shadow } from './things.js';

const tabs = [['now', 'Now'], ['shadow', 'Shadow'], ['work', 'Work'], ['queue', 'Queue'], ['received', 'Received'], ['dead', 'Dead letters']];

export function open(ctx) {
  const token = ctx.path[1], here = `things/${encodeURIComponent(token)}`;
  const o = { thing: null, data: null, error: null, open: null, flow: null };
  let tab, key, following;
  ctx.follow(o, 'thing', here);
  function show(q) {
    const next = tabs.some(([t]) => t === q.tab) ? q.tab : 'now', k = [next, q.kind, q.channel, q.before].join('|');
    if (k === key) return;
    key = k;
    tab = next;
    following?.stop();
    o.flow?.stop();
    Object.assign(o, { data: null, open: null, flow: null });
    const path = { shadow: `${here}/shadow`, work: `${here}/work`, queue: url(`${here}/queue`, { kind: q.kind, limit: 50 }),
      received: url(`${here}/stored`, { channel: q.channel, before: q.before, limit: 50 }), dead: url('dead', { thing: token, before: q.before, limit: 50 }) }[tab];
    if (path) following = ctx.follow(o, 'data', path, { every: tab === 'shadow' || tab === 'work' ? 2000 : 5000, exact: tab === 'shadow' || tab === 'work' });
    if (tab === 'now') follow();
  }
  const follow = () => {
    if (o.flow) return;
    const name = o.thing?.thing ?? (token.includes('=') ? null : token);
    if (name) { o.flow = flow(ctx, { thing: name }); ctx.onClose(() => o.flow?.stop()); }
  };
  show(ctx.query);
  const name = () => o.thing?.thing ?? token;
  const twins = { now: () => `fleetbridge tail --thing ${quote(name())}`, shadow: () => `nats req ${ctx.index?.prefix ?? 'fleets'}.req.${token}.shadow.get ''`,
    work: () => `nats sub '${ctx.index?.prefix ?? 'fleets'}.cmd.${token}.>'`, queue: () => `fleetbridge queue show --thing ${quote(name())}${ctx.query.kind ? ` --kind ${ctx.query.kind}` : ''}`,
    received: () => `nats stream view ${ctx.overview?.streams?.find((s) => s.stream.endsWith('_DOWN'))?.stream ?? 'FLEETS_DOWN'} --subject '${ctx.index?.prefix ?? 'fleets'}.down.${token}.>'`, dead: () => `fleetbridge dead ls --thing ${quote(name())}` };
  return {
    title: name,
    twin: () => twins[tab](),
    copy: () => o.open ? JSON.stringify(o.open.item ?? o.open) : undefined,
    queried: show,
    escape() { o.open = null; o.flow?.close(); ctx.update(); },
    keys: tabs.map(([t, label], i) => [String(i + 1), label, () => change({ tab: t === 'now' ? '' : t, kind: '', channel: '', before: '' })]),
    render() { if (tab === 'now' && !o.flow) follow(); return page(ctx, o, tab, token); },
  };
}

function page(ctx, o, tab, token) {
  const t = o.thing;
  if (!t) return html`<h1>${plain(token)}</h1>${o.error ? failed(o.error) : waiting}`;
  const p = ctx.index?.prefix ?? 'fleets';
  return html`<div class="head"><h1>${plain(t.thing)}</h1><span class="chip ${t.ready ? 'ok' : t.connected ? 'warn' : 'bad'}">${link(t)}${t.since ? html` <small>for ${span((now() - Date.parse(t.since)) / 1000)}</small>` : nothing}</span>
    <span class="dim">${t.connected ? t.sessionPresent ? 'session kept by the broker' : 'new session' : ''}</span>
    <div class="end">${copyButton(`nats sub '${p}.*.${token}.>'`, 'Copy nats sub', 'Command copied')}<a class="button" href=${to(['check'], { thing: token })}>${ctx.may('send') ? 'Send a message' : 'Check a payload'}</a></div></div>
  ${t.problems?.length && !(t.problems.length === 1 && !t.connected) ? html`<ul class="note warn">${t.problems.map((x) => html`<li>! ${plain(x)}</li>`)}</ul>` : nothing}
  ${failed(o.error)}
  <nav class="tabs" aria-label="Parts of this Thing">${tabs.map(([name, label]) => html`<a href=${to(['things', token], { tab: name === 'now' ? '' : name })}
    aria-current=${tab === name ? 'page' : nothing}>${label}${number(name, t)}</a>`)}</nav>
  ${tab === 'now' ? html`${overview(t, token)}${o.flow?.render() ?? waiting}` : o.data ? { shadow: shadowTab, work, queue, received, dead }[tab](ctx, o, token) : o.error ? nothing : waiting}`;
}

const number = (name, t) => name === 'queue' && t.queued ? html` <span class="count">${count(t.queued)}</span>` : name === 'dead' && t.deadStored ? html` <span class="count bad">${count(t.deadStored)}</span>` : nothing;

const overview = (t, token) => html`<div class="cards">
  <div class="card">${facts([['Client', html`<code>${plain(t.clientId)}</code>`], ['Subscribed', t.subscribed ? 'yes, all filters' : html`<span class="bad">✗ no</span>`], ['Last error', plain(t.lastError)]], '')}</div>
  <div class="card">${facts([['Up', `${count(t.up?.delivered)} delivered${t.up?.dead ? `, ${count(t.up.dead)} dead` : ''}`], ['Down', `${count(t.down?.delivered)} delivered${t.down?.duplicate ? `, ${many(t.down.duplicate, 'duplicate')}` : ''}`],
    ['Last message', ago(t.last)]], '')}</div>
  <div class="card">${facts([['Shadow', html`<a href=${to(['things', token], { tab: 'shadow' })}>${shadow(t)}</a>`],
    ['Queued', html`${count(t.queued)}${t.oldest ? `, oldest ${span((now() - Date.parse(t.oldest)) / 1000)}` : ''}`], ['Stands still', (t.standing ?? []).map((s) => html`<span class="bad">✗ ${plain(s.kind)}: ${plain(s.reason)} </span>`)]].filter(([, v]) => v?.length !== 0), '')}</div></div>`;

function shadowTab(ctx, o) {
  const d = o.data.document;
  if (!d) return html`<p class="empty">Nothing is known of the shadow yet. The bridge asks the Fleets API at each connection, and hears of each change after it.</p>`;
  const rows = tree([d.reported, d.desired, d.delta]);
  return html`<p class="dim">${d.version ? `Version ${d.version}` : ''}${d.updatedAt ? `, updated ${ago(d.updatedAt)}` : ''}${o.data.state ? `, ${o.data.state}` : ''}</p>
  <div class="panel"><div class="scroll" tabindex="0" role="region" aria-label="Shadow"><table class="tree"><caption class="quiet">Shadow</caption><thead><tr><th scope="col">Member</th><th scope="col">Reported</th><th scope="col">Desired</th><th scope="col">Still to do</th></tr></thead>
    <tbody>${rows.map((r) => { const [rep, des, del] = r.values, differs = del !== undefined && !r.parent;
      const cell = (v) => v === undefined ? '' : r.parent && v !== null && typeof v === 'object' && !JSON.isRawJSON?.(v) ? '' : plain(shown(v));
      return html`<tr class=${differs ? 'differs' : ''}><td>${'  '.repeat(r.depth)}${r.parent ? '▾ ' : '  '}${plain(r.key)}</td><td>${cell(rep)}</td><td>${cell(des)}</td>
        <td>${differs ? html`<span class="warn">≠ ${cell(del)}</span>` : !r.parent && des !== undefined ? html`<span class="ok">=<span class="quiet"> same</span></span>` : ''}</td></tr>`; })}</tbody></table></div>
    ${rows.length ? nothing : html`<p class="empty">The shadow is empty.</p>`}</div>
  <div class="tools">${copyButton(JSON.stringify(d, null, 2), 'Copy JSON', 'Shadow copied')}</div>`;
}

function work(ctx, o) {
  const { open: list = [], answered = [], leases = [] } = o.data;
  const name = (e) => html`<a class="mono" href=${to(['trace'], { q: e.id })}>${plain(e.id)}</a>`;
  const late = (at) => { const s = (Date.parse(at) - now()) / 1000; return s > 0 ? html`${span(s)} left` : html`<span class="bad">✗ passed</span>`; };
  return html`<section class="panel"><h2>Open commands</h2>${list.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Open commands"><table><thead><tr><th scope="col">Execution</th><th scope="col">Action</th><th scope="col">Came</th><th scope="col">Deadline</th><th scope="col">Payload</th></tr></thead>
    <tbody>${list.map((e) => html`<tr><td>${name(e)}</td><td>${plain(e.action)}</td><td class="nowrap">${ago(e.received)}</td><td class="nowrap">${e.deadline ? late(e.deadline) : '–'}</td><td class="payload-line">${peek(body(e))}</td></tr>`)}</tbody></table></div>` : html`<p class="empty">None waits for its answer.</p>`}</section>
  <section class="panel"><h2>Leased jobs</h2>${leases.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Leased jobs"><table><thead><tr><th scope="col">Job</th><th scope="col">Execution</th><th scope="col">Worker</th><th scope="col">Since</th></tr></thead>
    <tbody>${leases.map((l) => html`<tr><td><a class="mono" href=${to(['trace'], { q: l.job })}>${plain(l.job)}</a></td><td class="mono">${shown(l.execution)}</td><td>${plain(l.worker)}</td><td class="nowrap">${l.at ? ago(l.at) : '–'}</td></tr>`)}</tbody></table></div>` : html`<p class="empty">No worker holds a job.</p>`}</section>
  <section class="panel"><h2>Answered commands</h2>${answered.length ? html`<div class="scroll" tabindex="0" role="region" aria-label="Answered commands"><table><thead><tr><th scope="col">Execution</th><th scope="col">Answered</th></tr></thead>
    <tbody>${answered.map((e) => html`<tr><td>${name(e)}</td><td class="nowrap">${when(e.at)} <small>${ago(e.at)}</small></td></tr>`)}</tbody></table></div>` : html`<p class="empty">None that is still remembered.</p>`}</section>`;
}

async function look(ctx, o, m, path) {
  o.open = { item: m };
  ctx.update();
  if (!m.cut) return;
  try {
    const whole = (await get(path)).items?.[0];
    if (whole && o.open?.item === m) { o.open = { item: m, whole }; ctx.update(); }
  } catch (e) { ctx.say(e.message); }
}

function list(ctx, o, label, columns, row, path) {
  const open = o.open?.item, same = (m) => open && m.seq === open.seq && m.kind === open.kind;
  const shut = () => { o.open = null; ctx.update(); };
  return html`<div class="split ${open ? 'open' : ''}"><div class="panel"><div class="scroll"><table><caption class="quiet">${label}</caption><thead><tr>${columns.slice(0, open ? -1 : undefined).map((c) => html`<th scope="col">${c}</th>`)}</tr></thead>
    <tbody>${o.data.items.map((m) => html`<tr data-row tabindex="0" aria-selected=${same(m) ? 'true' : 'false'} @click=${() => look(ctx, o, m, path(m))}>${row(m)}</tr>`)}</tbody></table></div>
    ${o.data.items.length ? nothing : html`<p class="empty">Nothing here.</p>`}</div>
    ${open ? html`<section class="panel" aria-label="The open message">${opened({ ...(o.open.whole ?? open), thing: undefined }, { close: shut })}</section>` : nothing}</div>`;
}

function queue(ctx, o, token) {
  const lanes = o.data.lanes ?? [], kind = ctx.query.kind ?? '';
  return html`<div class="facets" role="group" aria-label="Kind"><a class="facet" href=${to(['things', token], { tab: 'queue' })} aria-current=${kind ? nothing : 'true'}>all</a>${lanes.map((l) => html`<a class="facet"
    href=${to(['things', token], { tab: 'queue', kind: l.kind })} aria-current=${kind === l.kind ? 'true' : nothing}>${l.kind} <b>${count(l.messages)}${l.oldest ? `, ${span((now() - Date.parse(l.oldest)) / 1000)}` : ''}</b></a>`)}</div>
  ${list(ctx, o, 'Messages that wait for the cloud', ['Number', 'Stored', 'Kind', 'Subject', 'Size', 'Payload'], (m) => html`<td class="mono">#${m.seq}</td><td class="nowrap">${when(m.stored)}</td><td>${plain(m.kind)}</td>
    <td class="mono">${plain(m.subject)}</td><td class="nowrap">${bytes(m.bytes)}</td>${o.open ? nothing : html`<td class="payload-line">${peek(body(m), 90)}</td>`}`,
    (m) => url(`things/${encodeURIComponent(token)}/queue`, { kind: m.kind, seq: m.seq }))}
  ${o.data.more ? html`<p class="dim">There are more; these are the oldest.</p>` : nothing}`;
}

function received(ctx, o, token) {
  const q = ctx.query;
  return html`<div class="tools"><label class="tools"><span class="dim">Channel</span> <select @change=${(e) => change({ channel: e.target.value, before: '' })}><option value="">all</option>${(ctx.index?.channels ?? []).map((c) => html`<option ?selected=${q.channel === c}>${c}</option>`)}</select></label></div>
  ${list(ctx, o, 'Messages from the cloud', ['Number', 'Came', 'Channel', 'Size', 'Payload'], (m) => html`<td class="mono">#${m.seq}</td><td class="nowrap">${when(m.stored)}</td><td class="nowrap">${arrow('down')} ${plain(m.channel)} ${plain(m.id)}</td>
    <td class="nowrap">${bytes(m.bytes)}</td>${o.open ? nothing : html`<td class="payload-line">${peek(body(m), 120)}</td>`}`, (m) => url(`things/${encodeURIComponent(token)}/stored`, { seq: m.seq }))}
  ${older(o.data, q, token, 'received')}`;
}

const older = (d, q, token, tab) => html`<div class="tools">${q.before ? html`<a class="button" href=${to(['things', token], { tab, channel: q.channel })}>Newest</a>` : nothing}
  ${d.next ? html`<a class="button" href=${to(['things', token], { tab, channel: q.channel, before: d.next })}>Older</a>` : nothing}</div>`;

function dead(ctx, o, token) {
  return html`<div class="panel"><div class="scroll"><table><caption class="quiet">Dead letters</caption><thead><tr><th scope="col">Number</th><th scope="col">Stored</th><th scope="col">Channel</th><th scope="col">Code</th><th scope="col">Why</th></tr></thead>
    <tbody>${o.data.items.map((l) => html`<tr data-row tabindex="-1" @click=${(e) => { if (!e.target.closest('a')) location.hash = to(['dead', String(l.id)], { thing: token }); }}><td><a class="mono" href=${to(['dead', String(l.id)], { thing: token })}>#${l.id}</a></td>
      <td class="nowrap">${when(l.stored)}</td><td>${arrow(l.direction)} ${plain(l.channel)}</td><td class="bad">${plain(l.code)}</td><td>${plain(l.error)}</td></tr>`)}</tbody></table></div>
    ${o.data.items.length ? nothing : html`<p class="empty">${o.data.next ? 'None among those looked at.' : 'No dead letter of this Thing.'}</p>`}</div>${older(o.data, ctx.query, token, 'dead')}`;
}

// ---- what passes now, the newest first, with what changed

const MOST = 200;
const state = (doc) => doc.state?.reported ?? doc.state?.desired ?? doc.state ?? doc;

export function flow(ctx, filter) {
  const o = { rows: [], state: 'away', error: null, open: null, began: 0 };
  const last = new Map(); // the message of the same kind before
  let gaps = 0;
  const add = (row) => { o.rows.unshift(row); if (o.rows.length > MOST) o.rows.length = MOST; };
  const reading = stream(filter, (event, data) => {
    if (event === 'seen') {
      for (const m of data) {
        const kind = `${m.outcome}|${m.direction}|${m.channel}|${m.channel === 'event' ? m.id : ''}`, doc = m.cut ? undefined : parse(whole(body(m)) || 'null');
        const row = { key: `n${m.n}`, m, before: last.get(kind)?.m, diff: undefined };
        if (/^shadow/.test(m.channel ?? '') && doc && last.get(kind)?.doc) row.diff = changes(state(last.get(kind).doc), state(doc));
        if (doc) last.set(kind, { m, doc });
        add(row);
      }
    } else if (event === 'gap') add({ key: `g${++gaps}`, gap: data.lost || data.by });
    ctx.update();
  }, (state, e) => { o.state = state; o.error = e ?? null; ctx.update(); });
  const shut = () => { o.open = null; ctx.update(); };
  return {
    stop: reading.stop,
    close: shut,
    render: () => html`<section class="panel" aria-label="What passes now"><div class="head"><h2>What passes now</h2><span class="chip ${o.state === 'live' ? 'ok' : 'warn'}">${o.state === 'live' ? '● live' : '! not connected, tries again'}</span>
      <div class="end"><a href=${to(['tail'], { thing: filter.thing })}>Open in the tail</a></div></div>${failed(o.error)}
      ${o.rows.length ? html`<ol class="flow">${repeat(o.rows, (r) => r.key, (r) => one(r, o, ctx, shut))}</ol>`
        : html`<p class="empty">Nothing has passed since you came here. What comes is shown at once.</p>`}</section>`,
  };
}

function one(r, o, ctx, shut) {
  if (r.gap) return html`<li><span class="warn wide gap-line">${r.gap === true ? 'Something is missing here; nobody knows how much' : html`${missed(r.gap, 'were not shown')}: too many at a time`}</span></li>`;
  const m = r.m, open = o.open === r.key;
  const toggle = () => { o.open = open ? null : r.key; ctx.update(); };
  return html`<li><time class="mono dim" datetime=${m.at}>${clock(m.at)}</time>${arrow(m.direction)}
    <button class="bare" type="button" aria-expanded=${open ? 'true' : 'false'} @click=${toggle}>${what(m) || m.outcome}</button>
    <span class="peek">${m.reason ? html`<span class=${level(m)}>${plain(m.reason)}</span> ` : nothing}${r.diff ? r.diff.length ? html`<span class="quiet">changed: </span><span class="changed">${difference(r.diff)}</span>` : 'the same as before' : peek(body(m))}</span>
    <span class="dim nowrap right hide-s">${time(m)}</span><span class="nowrap">${outcome(m)}</span></li>
    ${open ? html`<li class="row-open">${opened({ ...m, thing: undefined }, { before: r.before, close: shut })}</li>` : nothing}`;
}

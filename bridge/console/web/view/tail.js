// The tail: messages as they pass, 5,000 kept here, some sixty drawn.
import { html, kept, live, nothing, repeat } from '../part/lit.js';
import { stream } from '../api.js';
import { change } from '../route.js';
import { arrow, body, failed, missed, opened, outcome, sum, time, what } from '../part/message.js';
import { save } from '../part/act.js';
import { peek } from '../part/payload.js';
import { clock, count, many, plain, quote } from '../part/text.js';

const MOST = 5000, AROUND = 8;
const filters = ['thing', 'channel', 'direction', 'outcome', 'text'];

export function open(ctx) {
  const o = { rows: [], held: [], heldGone: {}, paused: false, bottom: true, state: 'away', error: null, open: null, at: null, high: 26, unseen: 0, rate: 0, instance: '' };
  let reading, typing, key, gaps = 0, arrived = [], box = null, focus = false;

  function put(rows) {
    o.rows.push(...rows);
    const over = o.rows.length - MOST;
    if (over > 0) {
      o.rows.splice(0, over);
      if (!o.bottom && box) box.scrollTop -= over * o.high;
    }
    if (!o.bottom) o.unseen += rows.length;
  }
  const take = (rows) => {
    if (!o.paused) { put(rows); return; }
    o.held.push(...rows);
    const over = o.held.length - MOST;
    if (over > 0) for (const r of o.held.splice(0, over)) {
      for (const [c, n] of Object.entries(r.gap ?? (r.m ? { [r.m.channel ?? 'connection']: 1 } : {}))) o.heldGone[c] = (o.heldGone[c] ?? 0) + n;
    }
  };
  function seen(event, data) {
    if (event === 'hello') {
      if (o.instance && data.instance !== o.instance) take([{ key: `g${++gaps}`, note: 'The bridge was started again. What passed meanwhile was not seen.' }]);
      o.instance = data.instance;
    } else if (event === 'seen') {
      const t = performance.now();
      arrived.push([t, data.length]);
      take(data.map((m) => ({ key: `${o.instance}${m.n}`, m })));
    } else if (event === 'gap' && data.lost) take([{ key: `g${++gaps}`, note: 'Something is missing here; nobody knows how much.' }]);
    else if (event === 'gap') take([{ key: `g${++gaps}`, gap: data.by }]);
    else if (event === 'bye') take([{ key: `g${++gaps}`, note: `The tail ended: ${data.reason}` }]);
    ctx.update();
  }
  function ask(q) {
    const k = JSON.stringify(filters.map((f) => q[f]));
    if (k === key) return;
    key = k;
    reading?.stop();
    Object.assign(o, { rows: [], held: [], heldGone: {}, open: null, at: null, unseen: 0, bottom: true, error: null, state: 'away' });
    reading = stream(Object.fromEntries(filters.map((f) => [f, q[f]])), seen, (state, e) => {
      if (state === 'away' && o.state === 'live') take([{ key: `g${++gaps}`, note: 'The connection to the bridge was lost; what passed meanwhile may be missing.' }]);
      o.state = state;
      o.error = e ?? null;
      ctx.update();
    });
  }
  ask(ctx.query);
  ctx.onClose(() => { clearTimeout(typing); reading?.stop(); });

  const pause = () => {
    o.paused = !o.paused;
    if (!o.paused) {
      const held = o.held, gone = o.heldGone;
      Object.assign(o, { held: [], heldGone: {} });
      if (sum(gone)) put([{ key: `g${++gaps}`, gap: gone, note: missed(gone, 'came during the pause and were not kept') }]);
      put(held);
    }
    ctx.update();
  };
  const toEnd = () => { Object.assign(o, { bottom: true, unseen: 0, at: null }); ctx.update(); };
  const toggle = (r) => { o.open = o.open?.key === r.key ? null : r; o.at = r.key; if (o.open) o.bottom = false; ctx.update(); };
  const scrolled = (e) => {
    box = e.currentTarget;
    const end = box.scrollHeight - box.clientHeight - box.scrollTop < 4;
    if (end) o.unseen = 0;
    o.bottom = end;
    ctx.update();
  };
  return {
    title: () => 'Tail',
    twin: () => `fleetbridge tail${filters.filter((f) => ctx.query[f]).map((f) => ` --${f} ${quote(ctx.query[f])}`).join('')}`,
    copy: () => o.open ? JSON.stringify(o.open.m) : undefined,
    queried: ask,
    escape() { if (o.open) { o.open = null; ctx.update(); } else toEnd(); },
    keys: [['p', 'pause, go on', pause], ['e', 'to the end', toEnd], ['s', 'save what is shown', () => keepFile(o)]],
    move(by) {
      const rows = o.rows.filter((r) => r.m);
      if (!rows.length) return true;
      const i = rows.findIndex((r) => r.key === o.at), r = rows[i < 0 ? rows.length - 1 : Math.max(0, Math.min(rows.length - 1, i + by))];
      o.at = r.key;
      if (o.open) o.open = r;
      o.bottom = false;
      focus = true;
      if (box) {
        const y = o.rows.indexOf(r) * o.high;
        if (y < box.scrollTop) box.scrollTop = y;
        else if (y + 2 * o.high > box.scrollTop + box.clientHeight - 30) box.scrollTop = y + 2 * o.high - box.clientHeight + 30;
      }
      ctx.update();
      return true;
    },
    drawn() {
      box = document.getElementById('tail-rows');
      const one = box?.querySelector('tr[data-row]');
      if (one) o.high = one.getBoundingClientRect().height || o.high;
      if (box && o.bottom) { const end = box.scrollHeight - box.clientHeight; if (box.scrollTop < end) box.scrollTop = end; }
      if (focus) { focus = false; box?.querySelector('tr.at')?.focus({ preventScroll: true }); }
    },
    render() {
      const t = performance.now();
      arrived = arrived.filter(([at]) => t - at < 3000);
      o.rate = arrived.reduce((n, [, k]) => n + k, 0) / 3;
      return page(ctx, o, { pause, toEnd, toggle, scrolled, box, typed: (name) => (e) => { clearTimeout(typing); const v = e.target.value; if (name === 'thing') ctx.suggest(v, 'thing'); typing = setTimeout(() => change({ [name]: v }, { replace: true }), 300); } });
    },
  };
}

const keepFile = (o) => save('fleetbridge-tail.ndjson', o.rows.map((r) => JSON.stringify(r.m ?? { skipped: r.gap && sum(r.gap), by: r.gap, note: r.note })).join('\n') + '\n');

function page(ctx, o, d) {
  const q = ctx.query;
  const select = (name, label, all) => html`<select aria-label=${label} .value=${live(q[name] ?? '')} @change=${(e) => change({ [name]: e.target.value })}><option value="">${label}: all</option>${all.map((c) => html`<option value=${c} ?selected=${q[name] === c}>${c}</option>`)}</select>`;
  const text = (name, label, first) => html`<input type="search" name=${name} list=${first ? 'names' : nothing} ?data-filter=${first} aria-label=${label} placeholder=${label + (first ? ' ( / )' : '')} spellcheck="false" .value=${kept(name, q[name])} @input=${d.typed(name)}>`;
  const state = o.paused ? html`<span class="chip warn">‖ paused, ${count(o.held.length + sum(o.heldGone))} came meanwhile</span>`
    : o.state === 'live' ? html`<span class="chip ok">● live, ${o.rate < 1 ? o.rate.toFixed(1) : count(Math.round(o.rate))}/s</span>` : html`<span class="chip warn">! not connected, tries again</span>`;
  return html`<h1 class="quiet">Tail</h1>
  <div class="tools">${text('thing', 'Thing; * for any', true)}${select('channel', 'Channel', ctx.index?.channels ?? [])}${select('direction', 'Direction', ['up', 'down'])}${select('outcome', 'Outcome', ctx.index?.outcomes ?? [])}${text('text', 'Text in it', false)}</div>
  <div class="tools">${state}<button type="button" aria-pressed=${o.paused ? 'true' : 'false'} @click=${d.pause}>${o.paused ? 'Go on' : 'Pause'} <kbd>p</kbd></button>
    ${!o.bottom && o.rows.length ? html`<button type="button" @click=${d.toEnd}>${o.unseen ? `${count(o.unseen)} new ↓` : 'To the end ↓'}</button>` : nothing}
    <button type="button" ?disabled=${!o.rows.length} @click=${() => keepFile(o)}>Save .ndjson</button><span class="dim" role="status">${o.rows.length >= MOST ? `the last ${count(MOST)} are kept here` : many(o.rows.length, 'row')}</span></div>
  ${failed(o.error)}
  <div class="split ${o.open ? 'open' : ''}">
    <div class="panel"><div class="scroll tall" id="tail-rows" tabindex="0" role="region" aria-label="Messages" @scroll=${d.scrolled}>${table(o, d)}
      ${o.rows.length ? nothing : html`<p class="empty">${o.state === 'live' ? 'Waiting for the next message. Nothing of before is shown; dead letters, queues and what came down are on their own pages.' : 'Not connected'}</p>`}</div></div>
    ${o.open ? html`<section class="panel" aria-label="The open message">${openRow(o, d)}</section>` : nothing}</div>`;
}

function table(o, d) {
  const n = o.rows.length, view = d.box?.clientHeight || 600, top = o.bottom ? Math.max(0, n * o.high - view) : d.box?.scrollTop ?? 0;
  const from = Math.max(0, Math.min(n - 1, Math.floor(top / o.high) - AROUND)), end = Math.min(n, Math.ceil((top + view) / o.high) + AROUND);
  const pad = (rows) => rows > 0 ? html`<tr class="pad" aria-hidden="true"><td colspan="4" height=${Math.round(rows * o.high)}></td></tr>` : nothing;
  return html`<table class="fixed tail" aria-rowcount=${n}><caption class="quiet">Messages as they pass</caption><thead><tr><th scope="col" class="c-time">Time</th><th scope="col" class="c-thing">Thing</th><th scope="col" class="c-what">Message</th><th scope="col" class="c-out"><span class="word">Outcome</span></th><th scope="col" class="c-took right hide-s">Took</th><th scope="col" class="hide-s">Payload or reason</th></tr></thead>
    <tbody>${pad(from)}${repeat(o.rows.slice(from, end), (r) => r.key, (r) => row(r, o, d))}${pad(n - end)}</tbody></table>`;
}

function row(r, o, d) {
  if (!r.m) return html`<tr class="gap"><td colspan="4">${r.note ? plain(r.note) : html`${missed(r.gap, 'were not shown')}: too many at a time, narrow the filter`}</td></tr>`;
  const m = r.m;
  return html`<tr data-row tabindex=${o.at === r.key ? '0' : '-1'} class=${o.at === r.key ? 'at' : ''} @click=${() => d.toggle(r)}><td class="mono">${clock(m.at, false)}<span class="hide-s">${clock(m.at).slice(8)}</span></td><td title=${plain(m.thing)}>${arrow(m.direction)} ${plain(m.thing)}</td>
    <td title=${what(m)}>${what(m)}</td><td>${outcome(m)}</td><td class="right hide-s">${time(m)}</td><td class="payload-line hide-s">${m.reason ? html`<span class="bad">${plain(m.reason)}</span> ` : nothing}${peek(body(m))}</td></tr>`;
}

function openRow(o, d) {
  const m = o.open.m, i = o.rows.indexOf(o.open);
  let before;
  for (let k = i - 1; k >= 0 && !before; k--) { const b = o.rows[k].m; if (b && b.thing === m.thing && b.channel === m.channel && b.direction === m.direction && b.outcome === m.outcome && (m.channel !== 'event' || b.id === m.id)) before = b; }
  return opened(m, { before, close: () => d.toggle(o.open), extra: [['Outcome', outcome(m)], ['Why', plain(m.reason)], ['Took', time(m)]] });
}

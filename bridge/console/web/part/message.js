// Words for what a message is and what became of it.
import { html, nothing } from './lit.js';
import { to } from '../route.js';
import { copyButton } from './act.js';
import { changes, parse, payload, shown, whole } from './payload.js';
import { bytes, count, plain, took, when } from './text.js';

/** ▲ up, ▼ down, ● the connection: a sign with a word. */
export const arrow = (d) => d === 'up' ? html`<span class="up" title="up, to the cloud">▲<span class="quiet"> up</span></span>`
  : d === 'down' ? html`<span class="down" title="down, from the cloud">▼<span class="quiet"> down</span></span>`
    : html`<span class="dim" title="the connection">●<span class="quiet"> connection</span></span>`;

/** Whether an outcome is good, to be looked at, or bad. */
export function level(m) {
  if (m.outcome === 'dead' || m.outcome === 'disconnected') return 'bad';
  if (m.outcome === 'answered' || m.outcome === 'replied') return m.code ? 'bad' : 'ok';
  if (m.outcome === 'decided') return m.code === 'TIMED_OUT' || m.code === 'REJECTED' ? 'bad' : 'warn';
  if (m.outcome === 'duplicate') return 'warn';
  return m.outcome === 'delivered' || m.outcome === 'connected' ? 'ok' : '';
}
const signs = { bad: '✗ ', ok: '✓ ', warn: '! ', '': '· ' };

/** ✗ dead schema */
export const outcome = (m) => html`<span class=${level(m)}>${signs[level(m)]}<span class="word">${m.outcome}${m.code ? ` ${plain(m.code)}` : ''}</span></span>`;

/** event hot */
export const what = (m) => `${m.channel ?? ''}${m.id ? ` ${plain(m.id)}` : ''}`;

export const time = (m) => m.tookMs ? took(m.tookMs) : nothing;

/** An item's payload, whichever member it is in. */
export const body = (m) => m?.payloadBase64 !== undefined ? { base64: m.payloadBase64 } : m?.payload;

/** How many there are in all that are counted by channel. */
export const sum = (by) => Object.values(by ?? {}).reduce((n, k) => n + k, 0);

/** 1,203 more were not shown (event 1,200, connection 3) */
export const missed = (by, end) => `${count(sum(by))} more ${end} (${Object.entries(by).sort((a, b) => b[1] - a[1]).map(([c, n]) => `${c} ${count(n)}`).join(', ')})`;

/** Marks for payload(), of details of a check. */
export const marks = (details) => (details ?? []).filter((d) => d.span).map((d) => ({ from: d.span[0], to: d.span[1], message: d.message }));

/** What a check says, as a list. */
export const reasons = (details) => html`<ul>${(details ?? []).map((d) => html`<li><code>${plain(d.pointer) || '/'}</code> ${plain(d.message)}</li>`)}</ul>`;

/** Why something can't be shown; nothing when it can. */
export const failed = (e) => e ? html`<p class="note ${e.status === 404 ? '' : 'bad'}" role="alert">${plain(e.message)}</p>` : nothing;

/** Nothing yet, or nothing there. */
export const waiting = html`<p class="empty"><span class="spin">Loading</span></p>`;

/** The facts of a message as a list; what is empty is left out. @param {[string, any][]} rows */
export const facts = (rows, cls = 'left') => html`<dl class="facts ${cls}">${rows.filter(([, v]) => v !== undefined && v !== '' && v !== null && v !== nothing)
  .map(([k, v]) => html`<dt>${k}</dt><dd>${v}</dd>`)}</dl>`;

const traced = (id, label) => id ? html`<a href=${to(['trace'], { q: id })}>${plain(label ?? id)}</a>` : '';

/** @param {any} m an item of any list @param {{details?: any[], extra?: [string, any][], buttons?: any, before?: any, close?: () => void}} o */
export function opened(m, { details, extra = [], buttons = nothing, before, close } = {}) {
  const p = body(m), diff = before && parse(whole(body(before))) !== undefined ? changes(parse(whole(body(before))), parse(whole(p))) : undefined;
  return html`<div class="detail">
    <div class="head"><h2>${plain(m.channel ?? m.kind ?? 'message')} ${plain(m.id)}</h2><div class="end">${buttons}
      ${p ? copyButton(() => whole(p), 'Copy payload', 'Payload copied') : nothing}
      ${close ? html`<button type="button" class="bare" aria-label="Close" title="Close (Esc)" @click=${close}>✕</button>` : nothing}</div></div>
    <div class="cols"><div>${payload(p, { marks: marks(details), cut: m.cut, size: m.bytes })}</div>
      <div>${facts([...extra, ['Thing', m.thing ? html`<a href=${to(['things', m.token ?? m.thing])}>${plain(m.thing)}</a>` : ''],
        ['At', m.at || m.stored ? html`<time datetime=${m.at ?? m.stored}>${when(m.at ?? m.stored)}</time>` : ''],
        ['Subject', m.subject ? html`<code>${plain(m.subject)}</code>` : ''], ['Came on', m.origin ? html`<code>${plain(m.origin)}</code>` : ''],
        ['Topic', m.topic ? html`<code>${plain(m.topic)}</code>` : ''], ['Size', m.bytes !== undefined ? bytes(m.bytes) : ''],
        ['Number', m.sequence ?? m.seq ?? ''], ['Trace', traced(m.traceparent)],
        ['Follow', m.id && /^(command|job)/.test(m.channel ?? '') ? traced(m.id, `what became of ${m.id}`) : '']])}</div></div>
    ${diff?.length ? html`<div><h2>Different from the one before</h2>${changed(diff)}</div>` : nothing}</div>`;
}

/** A table of what differs. */
export const changed = (diff) => html`<div class="scroll" tabindex="0" role="region" aria-label="Differences"><table class="tree"><thead><tr><th scope="col">Member</th><th scope="col">Before</th><th scope="col">After</th></tr></thead>
  <tbody>${diff.slice(0, 100).map((d) => html`<tr><td>${plain(d.path) || '/'}</td><td class="dim">${plain(shown(d.before)) || '–'}</td><td>${plain(shown(d.after)) || '–'}</td></tr>`)}</tbody></table></div>`;

/** One line of what differs: speed 1450 → 1500. */
export const difference = (diff) => diff.slice(0, 4).map((d) => `${plain(d.path.slice(1)) || 'all'} ${plain(shown(d.before)) || '–'} → ${plain(shown(d.after)) || '–'}`).join('   ') + (diff.length > 4 ? ` and ${diff.length - 4} more` : '');

// All Things: filtered, sorted and paged on the gateway.
import { html, kept, nothing, repeat } from '../part/lit.js';
import { url } from '../api.js';
import { change, to } from '../route.js';
import { failed, waiting } from '../part/message.js';
import { ago, count, now, plain, span } from '../part/text.js';

const states = [['all', 'all'], ['down', 'down'], ['notready', 'not ready'], ['queued', 'queued'], ['dead', 'dead']];

export function open(ctx) {
  const o = { list: null, error: null };
  let following, typing;
  function ask(q) {
    following?.stop();
    o.error = null;
    following = ctx.follow(o, 'list', url('things', { q: q.q, state: q.state, sort: q.sort, after: q.after, limit: 100 }));
  }
  ask(ctx.query);
  ctx.onClose(() => clearTimeout(typing));
  return {
    title: () => 'Things',
    twin: () => 'fleetbridge status --all',
    queried: ask,
    render: () => page(ctx, o, (e) => {
      clearTimeout(typing);
      const q = e.target.value;
      typing = setTimeout(() => change({ q, after: '' }, { replace: true }), 200);
    }),
  };
}

/** The sign and words of a Thing's link. */
export function link(t) {
  if (!t.connected) return html`<span class="bad">✗ ${plain(t.lastError || t.problems?.[0] || 'not connected')}</span>`;
  if (!t.ready) return html`<span class="warn">! ${plain(t.problems?.[0] || 'not ready')}</span>`;
  return html`<span class="ok">●</span> <span class="word">connected</span>`;
}
const since = (t) => t.since ? html` <small>${span((now() - Date.parse(t.since)) / 1000)}</small>` : nothing;

export const shadow = (t) => html`${t.version ? `v${t.version}` : '–'}${t.shadow && t.shadow !== 'known' ? html` <span class="warn">${plain(t.shadow)}</span>` : nothing}${
  t.delta ? html` <span class="warn" title="the cloud wants something else than what was reported">≠ delta</span>` : nothing}`;

const num = (n, cls = '') => html`<td class="num ${n ? cls : 'zero'}">${count(n)}</td>`;

function page(ctx, { list, error }, typed) {
  const q = ctx.query, sort = q.sort || 'name', state = q.state || 'all';
  const column = (name, label, cls = '') => html`<th scope="col" class=${cls} aria-sort=${sort === name ? (name === 'name' ? 'ascending' : 'descending') : nothing}>
    <button type="button" @click=${() => change({ sort: name === 'name' ? '' : name, after: '' })}>${label}<span aria-hidden="true">${sort === name ? name === 'name' ? '\u00a0▴' : '\u00a0▾' : ''}</span></button></th>`;
  return html`<h1 class="quiet">Things</h1>
  <div class="tools"><input type="search" name="q" data-filter aria-label="Part of the name" placeholder="Part of the name; * for any ( / )" spellcheck="false" .value=${kept('q', q.q)} @input=${typed}>
    <div class="facets" role="group" aria-label="State">${states.map(([s, label]) => html`<a class="facet" href=${to(['things'], { ...q, state: s === 'all' ? '' : s, after: '' })}
      aria-current=${state === s ? 'true' : nothing}>${label} <b>${list?.states ? count(list.states[s]) : ''}</b></a>`)}</div></div>
  ${failed(error)}
  ${!list ? error ? nothing : waiting : html`<div class="panel"><div class="scroll"><table><caption class="quiet">Things</caption><thead><tr>${column('name', 'Thing')}
    ${column('since', 'Link')}<th scope="col" class="hide-s">Shadow</th>${column('queued', 'Queued', 'right')}${column('dead', 'Dead', 'right')}
    <th scope="col" class="right hide-s">Up</th><th scope="col" class="right hide-s">Down</th>${column('last', 'Last message', 'hide-s')}</tr></thead>
    <tbody>${repeat(list.items, (t) => t.token, (t) => html`<tr data-row tabindex="-1" @click=${(e) => { if (!e.target.closest('a')) location.hash = to(['things', t.token]); }}>
      <td><a href=${to(['things', t.token])}>${plain(t.thing)}</a></td><td>${link(t)}${since(t)}</td><td class="hide-s">${shadow(t)}</td>
      ${num(t.queued, 'warn')}${num((t.up?.dead ?? 0) + (t.down?.dead ?? 0), 'bad')}<td class="num hide-s">${count(t.up?.delivered)}</td><td class="num hide-s">${count(t.down?.delivered)}</td>
      <td class="nowrap hide-s ${t.last ? '' : 'dim'}">${ago(t.last)}</td></tr>`)}</tbody></table></div>
    ${list.items.length ? nothing : html`<p class="empty">No Thing matches. <a href=${to(['things'])}>Show all</a></p>`}</div>
  <div class="tools"><span class="dim" role="status">${count(list.matched)} of ${count(list.states?.all)} Things${q.after ? `, from ${count(+q.after + 1)}` : ''}</span>
    ${q.after ? html`<a class="button" href=${to(['things'], { ...q, after: '' })}>First page</a>` : nothing}
    ${list.next ? html`<a class="button" href=${to(['things'], { ...q, after: list.next })}>Next page</a>` : nothing}</div>`}`;
}

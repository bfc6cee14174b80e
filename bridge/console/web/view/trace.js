// What became of one message: a sentence, and the evidence for it.
import { html, kept, nothing } from '../part/lit.js';
import { get, url } from '../api.js';
import { change, to } from '../route.js';
import { body, failed, waiting, what } from '../part/message.js';
import { payload } from '../part/payload.js';
import { plain, quote, took, when } from '../part/text.js';

export function open(ctx) {
  const o = { q: '', said: null, error: null, busy: false };
  let asked = 0;
  async function ask(q) {
    const mine = ++asked;
    Object.assign(o, { q: q.q ?? '', said: null, error: null, busy: Boolean(q.q) });
    ctx.update();
    if (!q.q) return;
    try {
      const said = await get(url('trace', { q: q.q }));
      if (mine === asked) o.said = said;
    } catch (e) { if (mine === asked) o.error = e; }
    if (mine === asked) o.busy = false;
    ctx.update();
  }
  ask(ctx.query);
  return {
    title: () => o.q ? `Trace ${o.q}` : 'Trace',
    twin: () => `fleetbridge trace ${o.q ? quote(o.q) : 'ID'}`,
    copy: () => o.said ? [...(o.said.steps ?? []).map((s) => `${s.at} ${s.text}`), o.said.verdict].join('\n') : undefined,
    queried: ask,
    keys: [['r', 'look again', () => ask(ctx.query)]],
    render: () => page(o),
  };
}

function page(o) {
  return html`<h1>What became of a message?</h1>
  <form class="tools" role="search" @submit=${(e) => { e.preventDefault(); change({ q: e.target.q.value.trim() }); }}>
    <input type="search" name="q" data-filter aria-label="Id" placeholder="Execution id, job id, dead letter number, client token, traceparent ( / )" spellcheck="false" autocomplete="off" class="grow wide-field" .value=${kept('q', o.q)}>
    <button class="main" type="submit">Trace</button></form>
  ${failed(o.error)}${o.busy ? waiting : nothing}
  ${o.said ? html`<section class="card" role="status"><p class="verdict">${o.said.found ? nothing : '? '}${plain(o.said.verdict || 'Nothing is known of this id.')}</p></section>
    ${o.said.steps?.length ? html`<section class="panel" aria-labelledby="evidence"><h2 id="evidence">The evidence</h2><ol class="steps">${o.said.steps.map(step)}</ol></section>` : nothing}
    ${o.said.notes?.length ? html`<ul class="note">${o.said.notes.map((n) => html`<li>${plain(n)}</li>`)}</ul>` : nothing}`
    : !o.q && !o.busy ? html`<div class="empty"><p>Every id of a command or job on these pages leads here. The answer says what can be proved, and what can't be known any more.</p></div>` : nothing}`;
}

function step(s) {
  const place = s.stream ? `${s.stream} #${s.seq}` : s.source === 'live' ? 'seen live' : '';
  const where = s.place === 'dead' && s.seq ? html`<a href=${to(['dead', String(s.seq)])}>${plain(place)}</a>` : plain(place);
  return html`<li><time class="mono dim" datetime=${s.at}>${when(s.at)}</time><strong class=${s.place === 'dead' ? 'bad' : ''}>${plain(s.place)}</strong>
    <span>${plain(s.text)}${s.tookMs ? ` in ${took(s.tookMs)}` : ''} <small>${s.thing ? html`<a href=${to(['things', s.token ?? s.thing])}>${plain(s.thing)}</a> ` : nothing}${what(s)}</small>
      ${body(s) ? html`<details><summary class="dim">payload</summary>${payload(body(s), { cut: s.cut, size: s.bytes })}</details>` : nothing}</span><small>${where}</small></li>`;
}

// Dead letters: why, where they would go, and sending them again.
import { html, kept, live, nothing, repeat } from '../part/lit.js';
import { get, post, url } from '../api.js';
import { change, to } from '../route.js';
import { confirm, copyButton } from '../part/act.js';
import { arrow, body, facts, failed, marks, reasons, waiting } from '../part/message.js';
import { payload, whole } from '../part/payload.js';
import { ago, bytes, count, many, plain, quote, when } from '../part/text.js';

export function open(ctx) {
  const o = { list: null, error: null, letter: null, letterError: null, chosen: new Set(), results: new Map(), edit: null, busy: false };
  let following, key, typing, checking;
  ctx.onClose(() => { clearTimeout(typing); clearTimeout(checking); });

  function ask(q, path = ctx.path) {
    const k = JSON.stringify([q.thing, q.direction, q.code, q.channel, q.before]);
    if (k !== key) {
      key = k;
      following?.stop();
      Object.assign(o, { error: null, list: null });
      o.chosen.clear();
      following = ctx.follow(o, 'list', url('dead', { thing: q.thing, direction: q.direction, code: q.code, channel: q.channel, before: q.before, limit: 100 }), { every: 4000 });
    }
    const id = path[1] ? Number(path[1]) : 0;
    if ((o.letter?.id ?? 0) !== id) load(id);
  }
  async function load(id) {
    Object.assign(o, { letter: id ? { id } : null, letterError: null, edit: null });
    ctx.update();
    if (!id) return;
    try {
      const l = await get(`dead/${id}`);
      if (o.letter?.id === id) o.letter = l;
    } catch (e) { if (o.letter?.id === id) o.letterError = e; }
    ctx.update();
  }
  const shut = () => { location.hash = to(['dead'], ctx.query); };

  async function act(action, ids, { payload: edited, force } = {}) {
    const list = o.list?.items ?? [], picked = ids.map((id) => list.find((l) => l.id === id) ?? (o.letter?.id === id ? o.letter : { id }));
    const codes = Object.entries(Object.groupBy?.(picked, (l) => l.code ?? '?') ?? {}).map(([c, ls]) => `${ls.length} ${c}`).join(', ');
    const things = new Set(picked.map((l) => l.thing)), one = ids.length === 1 ? `dead letter #${ids[0]}` : many(ids.length, 'dead letter');
    const verb = action === 'replay' ? edited !== undefined ? 'Replay the edited' : 'Replay' : 'Discard';
    const yes = await confirm({
      title: `${verb} ${one}?`, yes: verb.split(' ')[0], danger: action === 'discard',
      text: html`<p>${codes ? `${codes}. ` : ''}${things.size === 1 ? `Of ${plain([...things][0])}. ` : `Of ${things.size} Things. `}${action === 'discard' ? 'They are gone for good.'
        : force ? 'They are sent although they would be refused again now.' : 'What would be refused again stays here.'}</p>`,
    });
    if (!yes) return;
    o.busy = true;
    ctx.update();
    try {
      const { results } = await post(`dead/${action}`, { ids, ...(force && { force: true }), ...edited });
      const bad = results.filter((r) => !r.ok);
      for (const r of results) {
        if (r.ok) { o.chosen.delete(r.id); o.results.delete(r.id); } else o.results.set(r.id, r);
      }
      const done = action === 'replay' ? 'sent again' : 'discarded';
      ctx.say(bad.length ? `${results.length - bad.length} ${done}, ${bad.length} not: ${plain(bad[0].error)}` : `${many(results.length, 'dead letter')} ${done}`);
      if (o.letter && results.some((r) => r.ok && r.id === o.letter.id)) shut();
      if (edited !== undefined && bad.length) o.edit = { ...o.edit, details: bad[0].details ?? [], error: bad[0].error };
      if (o.list) o.list = { ...o.list, items: o.list.items.filter((l) => !results.some((r) => r.ok && r.id === l.id)) };
    } catch (e) { ctx.say(e.message); } finally {
      o.busy = false;
      following?.again();
      ctx.update();
    }
  }

  function edit(text) {
    o.edit = { ...(o.edit ?? {}), text };
    clearTimeout(checking);
    checking = setTimeout(async () => {
      const l = o.letter;
      try {
        const said = await post('validate', { at: l.channel, thing: l.token, payload: text });
        if (o.edit?.text === text) o.edit = { text, ...said };
      } catch (e) { if (o.edit?.text === text) o.edit = { text, error: e.message }; }
      ctx.update();
    }, 300);
    ctx.update();
  }

  ask(ctx.query);
  const typed = (e) => { clearTimeout(typing); const thing = e.target.value; ctx.suggest(thing); typing = setTimeout(() => change({ thing, before: '' }, { replace: true }), 250); };
  const flags = () => [['thing', '--thing'], ['code', '--code'], ['channel', '--channel'], ['direction', '--direction']].filter(([k]) => ctx.query[k]).map(([k, f]) => ` ${f} ${quote(ctx.query[k])}`).join('');
  return {
    title: () => o.letter ? `Dead letter ${o.letter.id}` : 'Dead letters',
    twin: () => o.letter ? `fleetbridge dead show ${o.letter.id}` : o.chosen.size && ctx.may('replay') ? `fleetbridge dead replay ${[...o.chosen].join(' ')}` : `fleetbridge dead ls${flags()}`,
    copy: () => o.letter ? whole(body(o.letter)) : undefined,
    queried: ask,
    escape() { if (o.edit) { o.edit = null; ctx.update(); } else if (o.letter) shut(); },
    keys: [['x', 'choose the row', () => { const id = Number(document.activeElement.closest?.('[data-row]')?.dataset.row); if (id && (ctx.may('replay') || ctx.may('discard'))) choose(o, id, !o.chosen.has(id)); ctx.update(); }]],
    render: () => page(ctx, o, { typed, shut, act, edit }),
  };
}

const choose = (o, id, yes) => { if (yes) o.chosen.add(id); else o.chosen.delete(id); };

function page(ctx, o, d) {
  const q = ctx.query, items = o.list?.items ?? [], acts = ctx.may('replay') || ctx.may('discard');
  const facet = (direction, label) => html`<a class="facet" href=${to(['dead'], { ...q, direction, before: '' })} aria-current=${(q.direction ?? '') === direction ? 'true' : nothing}>${label}</a>`;
  const select = (name, label, all) => html`<select aria-label=${label} .value=${live(q[name] ?? '')} @change=${(e) => change({ [name]: e.target.value, before: '' })}>
    <option value="">${label}: all</option>${[...new Set([...all, ...(q[name] ? [q[name]] : [])])].map((c) => html`<option value=${c} ?selected=${q[name] === c}>${c}</option>`)}</select>`;
  const shown = items.length > 0 && items.every((l) => o.chosen.has(l.id)), ids = items.filter((l) => o.chosen.has(l.id)).map((l) => l.id);
  return html`<h1 class="quiet">Dead letters</h1>
  <div class="tools"><input type="search" name="thing" list="names" data-filter aria-label="Thing" placeholder="Thing ( / )" spellcheck="false" .value=${kept('thing', q.thing)} @input=${d.typed}>
    <div class="facets" role="group" aria-label="Direction">${facet('', 'both ways')}${facet('up', html`${arrow('up')} up`)}${facet('down', html`${arrow('down')} down`)}</div>
    ${select('code', 'Code', ctx.index?.codes ?? [])}${select('channel', 'Channel', ctx.index?.channels ?? [])}</div>
  ${acts && items.length ? html`<div class="tools"><label><input type="checkbox" .checked=${live(shown)} .indeterminate=${!shown && ids.length > 0} @change=${(e) => { for (const l of items) choose(o, l.id, e.target.checked); ctx.update(); }}>
      Select all ${count(items.length)} shown</label>
    ${ctx.may('replay') ? html`<button type="button" ?disabled=${!ids.length || o.busy} @click=${() => d.act('replay', ids)}>Replay${ids.length ? ` ${count(ids.length)}` : ''}</button>` : nothing}
    ${ctx.may('discard') ? html`<button type="button" class="danger" ?disabled=${!ids.length || o.busy} @click=${() => d.act('discard', ids)}>Discard${ids.length ? ` ${count(ids.length)}` : ''}</button>` : nothing}
    <span class="dim" role="status">${ids.length ? `${many(ids.length, 'letter')} chosen` : ''}</span></div>` : nothing}
  ${failed(o.error)}
  <div class="split ${o.letter ? 'open' : ''}">${!o.list ? o.error ? nothing : waiting : html`<div class="panel"><div class="scroll"><table><caption class="quiet">Dead letters, the newest first</caption><thead><tr>
      ${acts ? html`<th scope="col"><span class="quiet">Choose</span></th>` : nothing}<th scope="col">Number</th><th scope="col" class=${o.letter ? 'hide-s' : ''}>Stored</th><th scope="col">Thing</th><th scope="col" class="hide-s">Channel</th><th scope="col">Code</th>${o.letter ? nothing : html`<th scope="col" class="hide-s">Why</th>`}</tr></thead>
    <tbody>${repeat(items, (l) => l.id, (l) => row(l, o, ctx, acts))}</tbody></table></div>
    ${items.length ? nothing : html`<p class="empty">${o.list.next ? html`Nothing among the ${count(o.list.looked)} looked at. <a href=${to(['dead'], { ...q, before: o.list.next })}>Look further back</a>`
      : o.list.total ? html`None matches. <a href=${to(['dead'])}>Show all ${count(o.list.total)}</a>` : html`<span class="ok">✓ No dead letters.</span> A message that can never be delivered is kept here, with the reason.`}</p>`}</div>`}
    ${o.letter ? html`<section class="panel" aria-label="The open dead letter">${letter(ctx, o, d)}</section>` : nothing}</div>
  ${o.list ? html`<div class="tools"><span class="dim">${many(o.list.total ?? 0, 'letter')} kept in all</span>
    ${q.before ? html`<a class="button" href=${to(['dead'], { ...q, before: '' })}>Newest</a>` : nothing}${o.list.next ? html`<a class="button" href=${to(['dead'], { ...q, before: o.list.next })}>Older</a>` : nothing}</div>` : nothing}`;
}

// event hot
const named = (l) => plain(l.channel === 'event' && l.topic ? `event ${l.topic.split('/').pop()}` : l.channel);

function row(l, o, ctx, acts) {
  const link = to(['dead', String(l.id)], ctx.query), result = o.results.get(l.id);
  return html`<tr data-row=${l.id} tabindex="-1" class=${o.letter?.id === l.id ? 'at' : ''} @click=${(e) => { if (!e.target.closest('a, input')) location.hash = link; }}>
    ${acts ? html`<td><input type="checkbox" aria-label="Choose ${l.id}" .checked=${live(o.chosen.has(l.id))} @change=${(e) => { choose(o, l.id, e.target.checked); ctx.update(); }}></td>` : nothing}
    <td><a class="mono" href=${link} aria-current=${o.letter?.id === l.id ? 'true' : nothing}>#${l.id}</a></td><td class="nowrap ${o.letter ? 'hide-s' : ''}"><time datetime=${l.stored} title=${l.stored}>${when(l.stored, false)}</time></td>
    <td>${arrow(l.direction)} ${plain(l.thing)}</td><td class="hide-s">${named(l)}</td><td class="bad nowrap">✗ ${plain(l.code)}</td>${o.letter ? nothing : html`<td class="hide-s">${plain(l.error)}${result ? html`<br><span class="bad">Not sent: ${plain(result.error)}</span>` : nothing}</td>`}</tr>`;
}

function letter(ctx, o, d) {
  const l = o.letter;
  if (o.letterError) return html`<div class="detail">${failed(o.letterError)}<div class="tools"><button type="button" @click=${d.shut}>Close</button></div></div>`;
  if (!l.code) return waiting;
  const p = body(l), details = o.edit ? o.edit.details : l.check?.details, text = typeof p === 'string';
  return html`<div class="detail">
    <div class="head"><h2>#${l.id} ${named(l)}</h2><span class="chip bad">✗ ${plain(l.code)}</span><div class="end"><button type="button" class="bare" aria-label="Close" title="Close (Esc)" @click=${d.shut}>✕</button></div></div>
    ${o.results.has(l.id) ? html`<p class="note bad">Not sent: ${plain(o.results.get(l.id).error)}</p>` : nothing}
    ${l.error && !l.check?.details?.some((x) => l.error.includes(x.message)) ? html`<p class="bad">${plain(l.error)}</p>` : nothing}
    ${l.check?.accepted ? html`<p class="note ok">✓ <strong>Would be accepted now.</strong></p>` : l.check ? html`<div class="note bad">✗ Would be refused again now: ${reasons(l.check.details)}</div>` : nothing}
    ${l.truncated ? html`<p class="note warn">! Only its beginning was kept, of ${bytes(l.truncated)}: it can't be sent again as it is.</p>` : nothing}
    <div class="cols"><div>${o.edit ? html`<label class="field"><span>Edited payload; the letter stays until this one is stored</span><textarea spellcheck="false" .value=${live(o.edit.text)} @input=${(e) => d.edit(e.target.value)}></textarea></label>
        <div role="status">${o.edit.error ? html`<p class="bad">✗ ${plain(o.edit.error)}</p>` : o.edit.ok === true ? html`<p class="ok">✓ Would be accepted.</p>` : o.edit.ok === false ? html`<div class="bad">✗ ${reasons(details)}</div>` : html`<p class="dim">Checking</p>`}</div>`
      : payload(p, { marks: marks(details), cut: l.cut, size: l.bytes })}</div>
    ${facts([['Thing', html`<a href=${to(['things', l.token ?? l.thing])}>${plain(l.thing)}</a>`], ['Stored', html`${when(l.stored)} <small>${ago(l.stored)}</small>`], ['Received', l.received ? when(l.received) : ''],
      [l.direction === 'up' ? 'Came on' : 'Would go on', l.subject ? html`<code>${plain(l.subject)}</code>` : ''], [l.direction === 'up' ? 'Would go to' : 'Came on', l.topic ? html`<code>${plain(l.topic)}</code>` : ''], ['Size', bytes(l.bytes)],
      ['Trace', html`<a href=${to(['trace'], { q: l.traceparent || String(l.id) })}>${l.traceparent ? plain(l.traceparent) : 'what is known of it'}</a>`]])}</div>
    <div class="tools">${ctx.may('replay') ? o.edit ? html`<button type="button" class="main" ?disabled=${o.busy || o.edit.ok !== true} @click=${() => d.act('replay', [l.id], { payload: { payload: o.edit.text } })}>Replay the edited</button>
        <button type="button" @click=${() => { o.edit = null; ctx.update(); }}>Cancel</button>`
      : html`${l.truncated ? nothing : l.check && !l.check.accepted ? html`<button type="button" ?disabled=${o.busy} @click=${() => d.act('replay', [l.id], { force: true })}>Replay anyway</button>`
        : html`<button type="button" class="main" ?disabled=${o.busy} @click=${() => d.act('replay', [l.id])}>Replay</button>`}
        ${text && l.direction === 'up' ? html`<button type="button" @click=${() => d.edit(p)}>Edit and replay</button>` : nothing}` : nothing}
      ${ctx.may('discard') && !o.edit ? html`<button type="button" class="danger" ?disabled=${o.busy} @click=${() => d.act('discard', [l.id])}>Discard</button>` : nothing}
      ${p ? copyButton(() => whole(p), 'Copy payload', 'Payload copied') : nothing}
      ${l.direction === 'up' && l.subject && text ? copyButton(() => `nats pub -J ${quote(l.subject)} ${quote(p)}`, 'Copy nats pub', 'Command copied') : nothing}</div></div>`;
}

// The workshop: is this payload right? Checked by the bridge's own rules while it is typed; nothing is stored until an
// operator who may sends it, as a program would.
import { html, kept, live, nothing } from '../part/lit.js';
import { get, post, url } from '../api.js';
import { change, to } from '../route.js';
import { confirm } from '../part/act.js';
import { facts, failed, marks, reasons } from '../part/message.js';
import { payload } from '../part/payload.js';
import { plain, quote } from '../part/text.js';

const examples = {
  event: { eventType: 'overheated', severity: 'warn', data: { celsius: 98 } },
  'shadow.report': { state: { reported: { temperature: 21.5 } } },
};

export function open(ctx) {
  const o = { text: '', said: null, error: null, schema: null, route: null, touched: false, sent: null };
  let typing, key, asked = 0;
  const channel = () => ctx.query.channel || 'event';
  async function check() {
    const mine = ++asked, body = { at: channel(), payload: o.text, ...(ctx.query.thing && { thing: ctx.query.thing }) };
    try {
      const said = await post('validate', body);
      if (mine === asked) Object.assign(o, { said, error: null });
    } catch (e) { if (mine === asked) Object.assign(o, { said: null, error: e }); }
    ctx.update();
  }
  async function send(subject) {
    const text = html`<p>It goes to the cloud, as a program's would, on <code>${plain(subject)}</code>.</p>`;
    if (!await confirm({ title: 'Send this message?', text, yes: 'Send' })) return;
    try { o.sent = { subject, answer: await post('send', { subject, payload: o.text }) }; } catch (e) { o.sent = { subject, error: e }; }
    ctx.update();
  }
  async function about(q) {
    o.on = undefined;
    const k = q.channel ?? '';
    if (k === key) { check(); return; }
    key = k;
    Object.assign(o, { schema: null, route: null });
    const c = channel();
    try {
      const { routes } = await get(url('routes', { at: c }));
      const schema = routes[0]?.schema ? await get(`schemas/${encodeURIComponent(routes[0].schema)}`) : null;
      if (k !== key) return;
      Object.assign(o, { schema, route: routes[0] });
    } catch { /* check says it, too */ }
    if (!o.touched) o.text = JSON.stringify(examples[c] ?? {}, null, 2);
    check();
  }
  about(ctx.query);
  ctx.onClose(() => clearTimeout(typing));
  return {
    title: () => 'Check',
    twin: () => `echo ${quote(o.text.replace(/\s*\n\s*/g, ' ')).slice(0, 300)} | fleetbridge validate ${channel()}`,
    queried: about,
    render: () => page(ctx, o, channel(), (e) => { o.text = e.target.value; o.touched = true; clearTimeout(typing); typing = setTimeout(check, 300); ctx.update(); }, send),
  };
}

// The subject of req with the parts that are known; one that is not stays in braces.
function subject(ctx, o) {
  let type;
  try { type = JSON.parse(o.text).eventType; } catch { /* the check says it */ }
  return o.route?.request?.replace('{t}', () => ctx.query.thing || '{t}').replace('{type}', () => /^[\w=-]+$/.test(type) ? type : '{type}');
}

function sending(ctx, o, send) {
  const on = subject(ctx, o), sent = o.sent;
  return html`<form class="tools" @submit=${(e) => { e.preventDefault(); send(e.target.subject.value.trim()); }}>
    <label class="field grow"><span>Send on, as a program does</span><input type="text" name="subject" class="mono" required spellcheck="false" autocomplete="off" pattern="[^\\s\\{\\}*>]+" title="a subject, with a name in the place of each word in braces" .value=${live(o.on ?? on)} @input=${(e) => { o.on = e.target.value; }}></label>
    <button type="submit" class="main" ?disabled=${!o.said?.ok}>Send</button></form>
  <div role="status">${sent ? sent.error ? html`<div class="note bad">✗ Not sent on <code>${plain(sent.subject)}</code>: ${plain(sent.error.message)}${sent.error.details?.length ? reasons(sent.error.details) : nothing}</div>`
    : html`<div class="note ok">✓ Sent on <code>${plain(sent.subject)}</code>; the answer: ${payload(sent.answer.payload, { label: 'The answer' })}
      ${ctx.query.thing ? html`<a href=${to(['things', ctx.query.thing])}>See what passes</a>` : nothing}</div>` : nothing}</div>`;
}

function page(ctx, o, channel, typed, send) {
  const channels = (ctx.index?.channels ?? [channel]).filter((c) => c !== 'shadow.get'), r = o.route;
  return html`<h1>Is this payload right?</h1>
  <div class="tools"><label class="field"><span>Channel</span><select data-filter .value=${live(channel)} @change=${(e) => { o.touched = false; change({ channel: e.target.value }); }}>${channels.map((c) => html`<option value=${c} ?selected=${c === channel}>${c}</option>`)}</select></label>
    <label class="field"><span>Thing, for its own schemas</span><input type="text" name="thing" list="names" @input=${(e) => ctx.suggest(e.target.value)} spellcheck="false" .value=${kept('thing', ctx.query.thing)} @change=${(e) => change({ thing: e.target.value.trim() })}></label></div>
  <div class="detail pair"><div class="cols"><div><label class="field"><span>Payload</span><textarea class="high" spellcheck="false" .value=${live(o.text)} @input=${typed}></textarea></label></div>
    <div class="stack" role="status">${failed(o.error)}${o.said ? o.said.ok ? html`<p class="note ok">✓ Would be accepted${o.said.schema ? ` by the schema ${plain(o.said.schema)}` : ''}.</p>`
      : html`<div class="note bad">✗ Would be refused: ${reasons(o.said.details)}</div>` : nothing}
      ${o.said?.warnings?.length ? html`<ul class="note warn">${o.said.warnings.map((w) => html`<li>! ${plain(w)}</li>`)}</ul>` : nothing}
      ${o.said?.details?.some((d) => d.span) ? payload(o.text, { marks: marks(o.said.details) }) : nothing}</div></div></div>
  ${ctx.may('send') && r?.request ? sending(ctx, o, send) : nothing}
  ${r ? html`<section class="panel" aria-labelledby="way"><h2 id="way">${r.direction === 'up' ? '▲' : '▼'} ${plain(r.name)}: ${plain(r.about)}</h2><div class="pad">${facts([['Stored on', code(r.store)], ['Ask on', code(r.request)], ['Topic', code(r.topic)], ['Dead letters on', code(r.dead)]])}</div></section>` : nothing}
  ${o.schema ? html`<section class="panel" aria-labelledby="rules"><h2 id="rules">Rules</h2><div class="pad stack">${(o.schema.rules ?? r?.rules)?.length ? html`<ul class="rules">${(o.schema.rules ?? r.rules).map((x) => html`<li>${plain(x)}</li>`)}</ul>` : nothing}
    ${o.schema.schema ? html`<details><summary>JSON Schema</summary>${payload(JSON.stringify(o.schema.schema), { label: 'JSON Schema' })}</details>` : nothing}</div></section>` : nothing}`;
}

const code = (s) => s ? html`<code>${plain(s)}</code>` : '';

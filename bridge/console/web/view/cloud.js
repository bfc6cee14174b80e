// The simulated cloud of the demo: what it can do, and what passes because of it.
import { html, live, nothing } from '../part/lit.js';
import { get, post } from '../api.js';
import { to } from '../route.js';
import { failed, waiting } from '../part/message.js';
import { ago, plain } from '../part/text.js';
import { flow } from './thing.js';

// What each act sends, as it stands in its field.
const texts = { desired: '{"mode":"comfort","targetTemperature":24}', command: '{"action":"setTemperature","params":{"value":19}}', job: '{"firmware":"2.1"}' };
const acts = [['desired', 'Set the desired state', 'The bridge passes the change and the delta on; the thermostat applies what it has, and reports.'],
  ['command', 'Send a command', 'The thermostat serves setTemperature. For another action the bridge answers that nobody does.'],
  ['job', 'Create a job', 'The thermostat takes it on lease, and says when it is done.']];
const troubles = [['cut', 'Cut the link', 'restore', 'Restore the link', 'The broker is out of reach. What programs publish waits, and arrives afterwards.'],
  ['refuse', 'Refuse reports', 'allow', 'Accept reports', 'The broker says "not authorized" to reports, and to nothing else.']];

export function open(ctx) {
  const o = { text: { ...texts }, said: [], error: null, thing: null, flow: null };
  async function act(name, label) {
    o.error = null;
    try {
      const body = name in texts ? JSON.parse(o.text[name]) : undefined;
      const { id } = await post('cloud', { act: name, body });
      o.said.unshift({ label, id, at: new Date().toISOString() });
      o.said.length = Math.min(o.said.length, 6);
    } catch (e) { o.error = e; }
    ctx.update();
  }
  get('things?limit=1').then(({ items }) => {
    o.thing = items[0];
    if (ctx.closed || !o.thing) return;
    o.flow = flow(ctx, { thing: o.thing.thing });
    ctx.onClose(() => o.flow.stop());
    ctx.update();
  }).catch((e) => { o.error = e; ctx.update(); });
  return { title: () => 'Cloud', twin: () => `fleetbridge tail --thing ${o.thing?.thing ?? ''}`, escape() { o.flow?.close(); ctx.update(); }, render: () => page(ctx, o, act) };
}

function page(ctx, o, act) {
  if (!ctx.may('cloud')) return html`<h1>Cloud</h1><p class="empty">Only in <code>fleetbridge demo</code> can an operator act as the cloud.</p>`;
  return html`<h1>Be the cloud</h1><p class="dim">The cloud of this demo is simulated. Whatever you have it do passes below${o.thing ? html`, for <a href=${to(['things', o.thing.token])}>${plain(o.thing.thing)}</a>` : nothing}.</p>
  <div class="cards">${acts.map(([name, label, about]) => html`<form class="card stack" @submit=${(e) => { e.preventDefault(); act(name, label); }}><h2>${label}</h2>
      <textarea class="low" aria-label="${label}: JSON" spellcheck="false" .value=${live(o.text[name])} @input=${(e) => { o.text[name] = e.target.value; }}></textarea>
      <div class="tools"><button type="submit" class="main">${label}</button></div><p class="dim">${about}</p></form>`)}
    <div class="card stack"><h2>Make trouble</h2>${troubles.map(([bad, no, good, yes, about]) => html`<div class="tools"><button type="button" @click=${() => act(bad, no)}>${no}</button><button type="button" @click=${() => act(good, yes)}>${yes}</button></div>
      <p class="dim">${about}</p>`)}</div></div>
  ${failed(o.error)}
  <div role="status">${o.said.map((s) => html`<p class="note ok">✓ ${s.label}, ${ago(s.at)}${s.id ? html`: <a href=${to(['trace'], { q: s.id })}>what became of it</a>` : nothing}</p>`)}</div>
  ${o.flow?.render() ?? waiting}`;
}

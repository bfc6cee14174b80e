// The frame: login, header, footer, keys, and which page is shown.
import { html, nothing, render } from './part/lit.js';
import { follow, get, keep, may, onEnd, post, session, url } from './api.js';
import { route, to } from './route.js';
import { command, confirming, copy, copyIcon, helping, onTell, openHelp, say, shortcuts } from './part/act.js';
import { ago, count, many, plain, skew, span } from './part/text.js';
import * as overview from './view/overview.js';

const menu = [['overview', 'Overview', [], 'o'], ['things', 'Things', ['things'], 't'], ['dead', 'Dead letters', ['dead'], 'd'], ['tail', 'Tail', ['tail'], 'l'],
  ['trace', 'Trace', ['trace'], 'r'], ['check', 'Check', ['check'], 'v'], ['gateway', 'Gateway', ['gateway'], 'g']], cloudly = ['cloud', 'Cloud', ['cloud'], 'c'];
/** Only in the demo there is a cloud to act as. */
const entries = () => may('cloud') ? [...menu, cloudly] : menu;
// Every page but the first comes when somebody goes there.
const pages = { overview: () => overview, things: () => import('./view/things.js'), thing: () => import('./view/thing.js'), dead: () => import('./view/dead.js'), tail: () => import('./view/tail.js'),
  trace: () => import('./view/trace.js'), check: () => import('./view/check.js'), gateway: () => import('./view/gateway.js'), cloud: () => import('./view/cloud.js') };
const root = document.getElementById('app');
const app = { index: null, now: null, trouble: null, started: '', page: null, key: '', toast: '', loginError: '', busy: false };
let polling, toastTimer, waiting = false;

function update() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    render(session ? frame() : login(), root);
    app.page?.drawn?.();
    busy();
    if (app.arrived) document.getElementById('main')?.focus({ preventScroll: true });
    app.arrived = false;
  });
}

/** Says of the page whether it is still to come; until then, what stands there is the page before, or nothing. */
const busy = () => document.getElementById('main')?.setAttribute('aria-busy', !app.page);

onTell((text) => { app.toast = text; clearTimeout(toastTimer); toastTimer = setTimeout(() => { app.toast = ''; update(); }, 4000); update(); });

/** What a page gets to work with. */
function context(name, path) {
  const stops = [];
  return {
    name, path, update, say, may, query: route().query, role: session.role,
    get index() { return app.index; },
    get overview() { return app.now; },
    /** Follows a path and keeps what it says in o[key]; o.error is why it can't. */
    follow(o, key, p, { then, every, exact } = {}) {
      const f = follow(p, (data) => { o[key] = data; then?.(data); update(); }, (e) => { o.error = e; update(); }, { every, exact });
      stops.push(f.stop);
      return f;
    },
    onClose(f) { stops.push(f); },
    /** Offers the Things with a text in their name to who types it; by is the member to type. */
    async suggest(text, by = 'token') {
      if (text.length < 2 || text.includes('*')) return;
      try { app.names = (await get(url('things', { q: text, limit: 8 }))).items.map((t) => t[by]); update(); } catch { /* no offer then */ }
    },
    close() { this.closed = true; stops.splice(0).forEach((f) => f()); },
  };
}

function pageOf(path) {
  if (!path.length) return 'overview';
  if (path[0] === 'things' && path[1]) return 'thing';
  return Object.hasOwn(pages, path[0]) ? path[0] : 'overview';
}

async function moved() {
  const { path, query } = route();
  if (!session) { update(); return; }
  const name = pageOf(path), key = name === 'thing' ? `${name}/${path[1]}` : name;
  if (key === app.key && app.page) {
    Object.assign(app.ctx, { query, path });
    app.page.queried?.(query, path);
  } else {
    app.ctx?.close();
    const first = !app.key, ctx = context(name, path);
    Object.assign(app, { key, ctx, page: null });
    busy();
    let page;
    try { page = await pages[name](); } catch { page = away; }
    if (ctx !== app.ctx) return; // gone on meanwhile
    app.page = page.open(ctx);
    scrollTo(0, 0);
    app.arrived = !first;
  }
  document.title = [app.page.title?.(), app.now?.host || 'fleetbridge'].filter(Boolean).map(plain).join(' · ');
  update();
}

// A page that did not come. A browser may not ask for it again, so all is loaded anew as soon as the bridge answers.
const away = { open() { app.missing = true; return { render: () => html`<p class="note bad" role="alert">This page could not be loaded, because the bridge did not answer.</p>` }; } };

async function enter() {
  polling?.stop();
  polling = follow('overview', (data) => {
    skew.ms = Date.parse(data.now) - Date.now();
    // Another bridge, perhaps with another version of this page.
    if (app.missing || app.instance && data.instance !== app.instance) { location.reload(); return; }
    app.instance = data.instance;
    app.now = data;
    update();
  }, (e) => { app.trouble = e; update(); });
  load();
  moved();
}

async function load() {
  try { app.index = await get(''); } catch { app.index ??= null; }
  update();
}

function leave(error = '') {
  app.ended ||= Boolean(error);
  polling?.stop();
  app.ctx?.close();
  Object.assign(app, { ctx: null, page: null, key: '', now: null, trouble: null, loginError: error, instance: '' });
  document.title = 'fleetbridge';
  ways();
}
onEnd(() => leave('The session has ended.'));

/** Finds out whether anybody has a password. */
async function ways() {
  update();
  try { app.passwords = (await get('session')).passwords; } catch { /* a link does it */ }
  update();
}

const linked = (link) => ({ link: /#login=([^&]+)/.exec(link)?.[1] ?? link.trim() });

async function logIn(body) {
  if (body.link === '') return;
  app.busy = true;
  update();
  try {
    const s = await post('session', body);
    keep(s);
    if (app.ended) { location.reload(); return; } // the bridge may be another version by now
    app.loginError = '';
    enter();
  } catch (e) {
    app.loginError = e.message;
    if (session) { say(e.message); enter(); }
  } finally {
    app.busy = false;
    update();
  }
}

// A link to log in is taken out of the URL at once; the page that was shown before comes back.
function arrived(event) {
  const link = /^#login=(.+)$/.exec(location.hash)?.[1];
  if (!link) { moved(); return; }
  const before = event?.oldURL ? new URL(event.oldURL).hash : '';
  history.replaceState(null, '', before && !before.startsWith('#login=') ? before : '#/');
  logIn(linked(link));
}
addEventListener('hashchange', arrived);
addEventListener('storage', () => { if (session && !app.page) enter(); });
setInterval(() => { if (!document.hidden && session) update(); }, 1000);

// ---- keys

const go = (name) => { const m = entries().find(([n]) => n === name); location.hash = to(m[2]); };
let pending = 0;

function rowMove(by) {
  const rows = [...document.querySelectorAll('[data-row]')];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement.closest?.('[data-row]'));
  rows[Math.max(0, Math.min(rows.length - 1, at + by))].focus();
}

addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || !session) return;
  const inField = e.target.closest?.('input:not([type=checkbox]), textarea, select');
  if (e.key === 'Escape') {
    if (document.querySelector('dialog[open]')) return;
    document.querySelector('.menu[open]')?.removeAttribute('open');
    if (inField) inField.blur(); else app.page?.escape?.();
    return;
  }
  if (inField || document.querySelector('dialog[open]')) return;
  if (e.key === 'Enter' && e.target.matches?.('[data-row]')) { e.preventDefault(); e.target.click(); return; }
  if (e.key === 'ArrowDown' || e.key === 'ArrowUp') {
    if (!e.target.matches?.('[data-row]')) return;
    e.preventDefault();
    if (!app.page.move?.(e.key === 'ArrowDown' ? 1 : -1)) rowMove(e.key === 'ArrowDown' ? 1 : -1);
    return;
  }
  if (!shortcuts()) return;
  if (performance.now() - pending < 1200) {
    pending = 0;
    const m = entries().find(([, , , k]) => k === e.key);
    if (m) { e.preventDefault(); go(m[0]); return; }
  }
  const own = app.page?.keys?.find(([k]) => k === e.key);
  if (own) { e.preventDefault(); own[2](); return; }
  switch (e.key) {
    case '/': { const f = document.querySelector('[data-filter]'); if (f) { e.preventDefault(); f.focus(); f.select?.(); } break; }
    case '?': e.preventDefault(); openHelp(); break;
    case 'c': { const text = app.page?.copy?.() ?? app.page?.twin?.(); if (text) copy(text); break; }
    case 'g': pending = performance.now(); break;
    case 'j': case 'k': e.preventDefault(); if (!app.page.move?.(e.key === 'j' ? 1 : -1)) rowMove(e.key === 'j' ? 1 : -1); break;
  }
});
document.addEventListener('click', (e) => { for (const m of document.querySelectorAll('.menu[open]')) if (!m.contains(e.target)) m.removeAttribute('open'); });

// ---- what is drawn

const logo = html`<svg viewBox="0 0 20 20" aria-hidden="true"><path d="M2 13.5h16M6 16V5.5M14 16V5.5M2 10.5 6 5.5Q10 13.5 14 5.5L18 10.5" fill="none" stroke="currentColor" stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round"></path></svg>`;

function readiness() {
  const o = app.now;
  if (app.trouble?.status === 0) return html`<span class="chip bad" role="status">✗ no answer</span>`;
  if (!o) return html`<span class="chip" role="status"><span class="spin">…</span></span>`;
  if (o.ready) return html`<a class="chip ok" href=${to([])}>● ready</a>`;
  const t = o.things, not = t.all - t.ready;
  return html`<a class="chip bad" href=${not ? to(['things'], { state: 'notready' }) : to([])}><span>✗ not ready${not ? html`<span class="hide-s">: ${count(not)} of ${many(t.all, 'Thing')}</span>` : nothing}</span></a>`;
}

const theme = (v) => { if (v) document.documentElement.dataset.theme = v; else delete document.documentElement.dataset.theme; };
theme(localStorage.getItem('fleetbridge.theme') ?? '');
const setTheme = (v) => { localStorage.setItem('fleetbridge.theme', v); theme(v); update(); };

function frame() {
  const o = app.now, here = app.ctx?.name === 'thing' ? 'things' : app.ctx?.name, chosen = localStorage.getItem('fleetbridge.theme') ?? '';
  const twin = app.page?.twin?.() ?? '';
  return html`
  <a class="skip" href="#main" @click=${(e) => { e.preventDefault(); document.getElementById('main').focus(); }}>Skip to the page</a>
  <header class="top">
    <a class="brand" href=${to([])}>${logo}<span>fleetbridge</span>${o?.host ? html`<small class="dim hide-s">${plain(o.host)}</small>` : nothing}</a>
    <nav class="main" aria-label="Pages">${entries().map(([name, label, path]) => html`<a href=${to(path)} aria-current=${name === here ? 'page' : nothing}>${label}${
      name === 'dead' && o?.dead?.stored ? html`<span class="count bad">${count(o.dead.stored)}</span>` : nothing}</a>`)}</nav>
    ${readiness()}
    <details class="menu"><summary>${session.role}<span class="quiet">, session and looks</span> <span aria-hidden="true">▾</span></summary><div>
      <dl class="facts"><dt>Version</dt><dd>${plain(app.index?.version ?? o?.version)}</dd>
        ${o ? html`<dt>Up since</dt><dd>${span((Date.parse(o.now) - Date.parse(o.started)) / 1000)}</dd>` : nothing}
        <dt>May</dt><dd>${session.role === 'operator' ? (session.actions ?? []).join(', ') || 'look' : 'look'}</dd>
        <dt>Until</dt><dd>${new Date(session.expires).toLocaleTimeString()}</dd></dl>
      <div class="tools" role="group" aria-label="Colours">${[['', 'System'], ['light', 'Light'], ['dark', 'Dark']].map(([v, label]) =>
        html`<button type="button" aria-pressed=${chosen === v} @click=${() => setTheme(v)}>${label}</button>`)}</div>
      <button type="button" @click=${() => openHelp()}>Keys <kbd>?</kbd></button>
      <button type="button" @click=${() => { keep(null); leave(); }}>Log out</button></div></details>
  </header>
  ${app.trouble ? html`<div class="bar ${app.trouble.status ? '' : 'bad'}" role="alert">${app.trouble.status ? plain(app.trouble.message)
    : html`The bridge does not answer. ${o ? html`What you see is from ${ago(o.now)}. ` : nothing}This page tries again.`}</div>` : nothing}
  ${Math.abs(skew.ms) > 2000 ? html`<div class="bar" role="status">The gateway's clock is ${span(Math.abs(skew.ms) / 1000)} ${skew.ms > 0 ? 'ahead of' : 'behind'} this computer's. Times are the gateway's.</div>` : nothing}
  <main id="main" tabindex="-1">${app.page?.render() ?? nothing}</main>
  <footer><div class="twin">${twin ? html`<code title=${plain(twin)}>${plain(twin)}</code>${copyIcon(twin)}` : nothing}</div>
    <button class="bare keys-hint" type="button" @click=${() => openHelp()}><kbd>?</kbd> keys</button></footer>
  <datalist id="names">${(app.names ?? []).map((n) => html`<option value=${n}></option>`)}</datalist>
  ${helping(entries(), app.page?.keys ?? [])}${confirming()}
  <div role="status" class=${app.toast ? 'toast' : 'quiet'}>${app.toast}</div>`;
}

// Where somebody is who has no session.
const login = () => html`<main class="login" id="main"><div class="card">
  <h1>fleetbridge console</h1>
  ${app.loginError ? html`<p class="note bad" role="alert">${plain(app.loginError)}</p>` : nothing}
  ${app.passwords ? html`<form class="stack" method="post" @submit=${(e) => { e.preventDefault(); logIn({ user: e.target.user.value, password: e.target.password.value }); }}>
    <label class="field"><span>Name</span><input type="text" name="user" autocomplete="username" autocapitalize="none" spellcheck="false" required></label>
    <label class="field"><span>Password</span><input type="password" name="password" autocomplete="current-password" required></label>
    <div class="tools"><button class="main" type="submit" ?disabled=${app.busy}>Log in</button></div></form><hr>` : nothing}
  <p>${app.passwords ? 'Or run' : 'Run'} this on the gateway, as the bridge's own user. It prints a link that logs you in, once, for two minutes:</p>
  ${command('fleetbridge console')}
  <p class="dim">With <code>--operator</code> you may also send dead letters again and discard them. From another computer, first
    <code>ssh -L ${location.port || 80}:127.0.0.1:${location.port || 80} GATEWAY</code>, then open the link there.</p>
  <form class="tools" @submit=${(e) => { e.preventDefault(); logIn(linked(e.target.link.value)); e.target.reset(); }}>
    <label class="field grow"><span>Or paste the link here</span><input type="text" name="link" autocomplete="off" spellcheck="false" data-filter></label>
    <button class="main" type="submit" ?disabled=${app.busy}>Log in</button></form>
</div></main>`;

addEventListener('redraw', update);
if (/^#login=/.test(location.hash)) arrived(); else if (session) enter(); else ways();

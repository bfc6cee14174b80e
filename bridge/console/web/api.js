// Requests to the bridge. The token goes in a header, never in a cookie or URL.

const KEY = 'fleetbridge.session';

/** Who is logged in. @type {{token: string, role: string, actions: string[], expires: string} | null} */
export let session = read();
let ended = () => {};

/** Calls f when the bridge takes the token no more. */
export const onEnd = (f) => { ended = f; };

function read() {
  try { return JSON.parse(localStorage.getItem(KEY)); } catch { return null; }
}

/** Remembers a session, or forgets it. */
export function keep(s) {
  session = s;
  if (s) localStorage.setItem(KEY, JSON.stringify(s));
  else localStorage.removeItem(KEY);
}

// Another tab logged in or out.
addEventListener('storage', (e) => { if (e.key === KEY) { session = read(); if (!session) ended(); } });

/** Reports whether the one who is logged in may do an action. */
export const may = (action) => session?.role === 'operator' && (session.actions ?? []).includes(action);

/** What the bridge answered instead of what was asked. status 0: there was no answer. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.message || (status ? `the bridge answers ${status}` : 'the bridge does not answer'));
    this.status = status;
    this.code = body?.code ?? status;
    this.details = body?.details ?? [];
  }
}

async function request(method, path, { body, signal, headers } = {}) {
  const h = { Accept: 'application/json', ...headers };
  if (session) h.Authorization = `Bearer ${session.token}`;
  if (body !== undefined) h['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(`api/v1/${path}`, { method, headers: h, body: body === undefined ? undefined : JSON.stringify(body),
      signal, cache: 'no-store', credentials: 'omit', redirect: 'error' });
  } catch (e) {
    if (e.name === 'AbortError') throw e;
    throw new Refused(0);
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  if (answer.status === 401 && path !== 'session' && session) { keep(null); ended(); }
  throw new Refused(answer.status, said);
}

// With exact, numbers that JavaScript would round stay as they are written, where the browser can do that.
async function parsed(answer, exact) {
  if (!exact || !JSON.rawJSON) return answer.json();
  return JSON.parse(await answer.text(), (_, v, c) => typeof v === 'number' && c.source.length > 15 && String(v) !== c.source ? JSON.rawJSON(c.source) : v);
}

/** Asks once. @returns {Promise<any>} */
export async function call(method, path, body, signal) {
  const answer = await request(method, path, { body, signal });
  return answer.json();
}

export const get = (path, signal) => call('GET', path, undefined, signal);
export const post = (path, body, signal) => call('POST', path, body, signal);

/** A path with a query; what is empty is left out. */
export function url(path, query = {}) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(query)) if (v !== undefined && v !== null && v !== '') q.append(k, v);
  const s = q.toString();
  return s ? `${path}?${s}` : path;
}

/**
 * Asks again and again while the tab is visible, and tells the answer. A hidden tab asks nothing.
 * @param {string} path @param {(data: any) => void} apply @param {(e: Refused | null) => void} failed null: it works again
 * @returns {{stop(): void, again(): Promise<void>}}
 */
export function follow(path, apply, failed, { every = 2000, exact = false } = {}) {
  let timer, asking, stopped = false, wrong = false;
  async function ask() {
    clearTimeout(timer);
    if (stopped || asking) return;
    asking = new AbortController();
    const limit = setTimeout(() => asking.abort('late'), 15000);
    try {
      const data = await parsed(await request('GET', path, { signal: asking.signal }), exact);
      if (!stopped) {
        apply(data);
        if (wrong) failed(null);
        wrong = false;
      }
    } catch (e) {
      const said = e instanceof Refused ? e : new Refused(0);
      if (!stopped) { wrong = true; failed(said); }
    } finally {
      clearTimeout(limit);
      asking = null;
      if (!stopped && !document.hidden && session) timer = setTimeout(ask, every);
    }
  }
  const seen = () => { if (document.hidden) clearTimeout(timer); else ask(); };
  document.addEventListener('visibilitychange', seen);
  if (!document.hidden) ask();
  return {
    again: ask,
    stop() { stopped = true; clearTimeout(timer); asking?.abort(); document.removeEventListener('visibilitychange', seen); },
  };
}

/**
 * Reads the tail until stop: events with data as they come. It connects again by itself, with the number of the last one.
 * @param {object} query @param {(event: string, data: any) => void} on
 * @param {(state: 'live' | 'away' | 'hidden', e?: Refused) => void} state
 */
export function stream(query, on, state) {
  let last = '', abort, timer, stopped = false, wait = 500;
  async function run() {
    clearTimeout(timer);
    if (stopped || abort || document.hidden || !session) return;
    const mine = abort = new AbortController();
    let error;
    try {
      const answer = await request('GET', url('tail', query), { signal: mine.signal,
        headers: { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) } });
      state('live');
      wait = 500;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        rest += value;
        const parts = rest.split('\n\n');
        rest = parts.pop();
        for (const part of parts) {
          let event = 'message', data = '';
          for (const line of part.split('\n')) {
            const at = line.indexOf(':');
            if (at < 1) continue; // a comment
            const name = line.slice(0, at), text = line.slice(at + 1).replace(/^ /, '');
            if (name === 'event') event = text;
            else if (name === 'id') last = text;
            else if (name === 'data') data += text;
          }
          if (data) on(event, JSON.parse(data));
        }
      }
    } catch (e) {
      error = e instanceof Refused ? e : undefined;
    }
    if (abort === mine) abort = null;
    if (stopped || mine.signal.aborted) return;
    state('away', error);
    timer = setTimeout(run, wait);
    wait = Math.min(wait * 2, 8000);
  }
  const seen = () => {
    if (!document.hidden) { run(); return; }
    clearTimeout(timer);
    abort?.abort();
    abort = null;
    state('hidden');
  };
  document.addEventListener('visibilitychange', seen);
  run();
  return { stop() { stopped = true; clearTimeout(timer); abort?.abort(); document.removeEventListener('visibilitychange', seen); } };
}

// Words and numbers for people. Nothing here makes markup.

const odd = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202f\u205f-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const escape = (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Shows what can't be seen, or turns the line around, as escapes. */
export const plain = (s) => s === undefined || s === null ? '' : String(s).replace(odd, escape);

/** plain with line ends and tabs kept, for blocks of text. */
export const block = (s) => String(s ?? '').replace(odd, (c) => c === '\n' || c === '\t' ? c : escape(c));

/** The pieces of a text: what is plain, and what was escaped. */
export function pieces(s) {
  const out = [];
  let at = 0;
  for (const m of s.matchAll(odd)) {
    if (m[0] === '\n' || m[0] === '\t') continue;
    out.push([s.slice(at, m.index), escape(m[0])]);
    at = m.index + m[0].length;
  }
  out.push([s.slice(at), '']);
  return out;
}

const grouped = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
/** 1,204 */
export const count = (n) => grouped.format(n ?? 0);

/** A rate for each second: 412, 3.4, 0.02. */
export function rate(n) {
  if (!n) return '0';
  if (n >= 10) return count(Math.round(n));
  return n >= 0.095 ? n.toFixed(1) : n >= 0.0095 ? n.toFixed(2) : '<0.01';
}

/** 131 MiB */
export function bytes(n) {
  if (n === undefined || n === null) return '–';
  for (const unit of ['B', 'KiB', 'MiB', 'GiB', 'TiB']) {
    if (n < 1024 || unit === 'TiB') return `${n < 10 && unit !== 'B' ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1024;
  }
}

/** 4 ms, 1.2 s */
export function took(ms) {
  if (ms === undefined || ms === null) return '';
  if (ms < 1) return `${ms.toFixed(1)} ms`;
  if (ms < 100) return `${+ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : span(ms / 1000);
}

/** 41 s, 4 min, 3 h, 2 d */
export function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10) return `${+s.toFixed(1)} s`;
  if (s < 100) return `${Math.round(s)} s`;
  if (s < 100 * 60) return `${Math.round(s / 60)} min`;
  return s < 48 * 3600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
}

/** The difference of the gateway's clock to this one, in ms; ages are by the gateway's. */
export const skew = { ms: 0 };
export const now = () => Date.now() + skew.ms;

/** 2 min ago */
export function ago(at) {
  const t = Date.parse(at);
  if (!(t > 0)) return 'never';
  const s = (now() - t) / 1000;
  return s < 2 ? 'now' : `${s < 10 ? Math.round(s) + ' s' : span(s)} ago`;
}

const two = (n) => String(n).padStart(2, '0');
/** 12:04:31.220 */
export function clock(at, milli = true) {
  const d = new Date(at);
  if (Number.isNaN(+d)) return '';
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}${milli ? `.${String(d.getMilliseconds()).padStart(3, '0')}` : ''}`;
}

/** 2026-11-29 12:04:31.220, without the date when it is today's. */
export function when(at, milli = true) {
  const d = new Date(at);
  if (Number.isNaN(+d)) return '';
  const day = `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`, today = new Date(now());
  return d.toDateString() === today.toDateString() ? clock(at, milli) : `${day} ${clock(at, milli)}`;
}

/** 1 Thing, 2 Things */
export const many = (n, one, more = `${one}s`) => `${count(n)} ${n === 1 ? one : more}`;

const control = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/g;
/** A word for the shell, quoted where it has to be. What a terminal takes for a key, such as ^C, is spelled. */
export const quote = (s) => /^[\w@%+=:,./-]+$/.test(s) ? s
  : String(s).search(control) < 0 ? `'${String(s).replaceAll("'", `'\\''`)}'`
  : `$'${String(s).replace(/[\\']/g, '\\$&').replace(control, escape)}'`;

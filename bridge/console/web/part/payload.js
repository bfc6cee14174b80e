// Shows a payload: JSON by its own words, so that no number is rounded and no key is lost; other text; or bytes.
import { html, nothing } from './lit.js';
import { block, bytes, pieces, plain } from './text.js';

const words = /\s+|"(?:[^"\\]|\\.)*"?|-?\d[\d.eE+-]*|[A-Za-z]+|[^]/gy;
const MOST = 6000; // words that get a colour

/** @typedef {{from: number, to: number, message?: string}} Mark of bytes */

/** The text of a payload, or undefined if it is none. */
export const textOf = (p) => typeof p === 'string' ? p : undefined;

/** One line of it, for a table. */
export function peek(p, most = 240) {
  if (p === undefined || p === null || p === '') return '';
  if (typeof p !== 'string') return `base64 ${p.base64?.slice(0, most) ?? ''}`;
  return plain(p.slice(0, most).replace(/\s+/g, ' '));
}

/** Compact JSON for a copy; what is none stays. */
export const whole = (p) => typeof p === 'string' ? p : p?.base64 ?? '';

const escaped = (s) => pieces(s).map(([text, esc]) => esc ? html`${text}<span class="esc">${esc}</span>` : text);

/** @param {string | {base64: string} | undefined} p @param {{marks?: Mark[], cut?: boolean, size?: number, label?: string}} o */
export function payload(p, { marks = [], cut = false, size, label = 'payload' } = {}) {
  if (p === undefined || p === null || p === '') return html`<p class="dim">no payload</p>`;
  const more = cut ? html`<p class="dim">Only the first 4 KiB are shown${size ? ` of ${bytes(size)}` : ''}.</p>` : nothing;
  if (typeof p !== 'string') return html`<pre class="json" tabindex="0" role="region" aria-label=${label}>${hex(p.base64)}</pre>${more}`;
  return html`<pre class="json" tabindex="0" role="region" aria-label=${label}>${show(p, places(p, marks), cut)}</pre>${more}`;
}

// Offsets count bytes of UTF-8; a string counts otherwise.
function places(text, marks) {
  if (!marks.length) return [];
  const index = (wanted) => {
    let i = 0;
    for (let b = 0; i < text.length && b < wanted;) {
      const c = text.codePointAt(i);
      b += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
      i += c < 0x10000 ? 1 : 2;
    }
    return i;
  };
  return marks.map((m) => ({ from: index(m.from), to: Math.max(index(m.to), index(m.from) + 1), message: m.message }));
}

function show(text, marks, cut) {
  let json = /^\s*[{["]/.test(text);
  if (json && !cut) try { JSON.parse(text); } catch { json = false; }
  return json ? pretty(text, marks) : raw(text, marks);
}

function raw(text, marks) {
  if (!marks.length) return escaped(text);
  const { from, to, message } = marks[0];
  return [escaped(text.slice(0, from)), html`<mark>${escaped(text.slice(from, to)) || '·'}</mark>`,
    html`<span class="why"> ◀ ${block(message)}</span>`, escaped(text.slice(to))];
}

function pretty(text, marks) {
  const out = [], said = new Set();
  let depth = 0, pending = [], shown = 0, last = '';
  const line = () => { out.push(...pending, `\n${'  '.repeat(Math.min(depth, 40))}`); pending = []; };
  words.lastIndex = 0;
  for (let m; words.lastIndex < text.length && (m = words.exec(text));) {
    const word = m[0], at = m.index;
    if (/^\s/.test(word)) continue;
    if (++shown > MOST) { out.push(...pending, escaped(text.slice(at))); return out; }
    const close = word === '}' || word === ']';
    if (close) { depth = Math.max(0, depth - 1); if (last !== '{' && last !== '[') line(); }
    else if (last === '{' || last === '[' || last === ',') line();
    let piece = word[0] === '"' ? escaped(word) : word;
    if (word[0] === '"') piece = html`<span class=${/^\s*:/.test(text.slice(words.lastIndex, words.lastIndex + 40)) ? 'k' : 's'}>${piece}</span>`;
    else if (/^[-\d]/.test(word)) piece = html`<span class="n">${word}</span>`;
    else if (/^[a-z]/i.test(word)) piece = html`<span class="w">${word}</span>`;
    else if (word.charCodeAt(0) < 32 || word.charCodeAt(0) > 126) piece = escaped(word);
    const mark = marks.find((k) => at >= k.from && at < k.to && (at === k.from || !/^[{[]/.test(text[k.from])));
    if (mark) {
      piece = html`<mark>${piece}</mark>`;
      if (!said.has(mark)) { said.add(mark); pending.push(html`<span class="why"> ◀ ${block(mark.message)}</span>`); }
    }
    out.push(piece);
    if (word === ':') out.push(' ');
    if (word === '{' || word === '[') depth++;
    last = word;
  }
  out.push(...pending);
  return out;
}

function hex(base64 = '') {
  let raw;
  try { raw = atob(base64); } catch { return plain(base64); }
  const lines = [];
  for (let at = 0; at < raw.length && at < 4096; at += 16) {
    const part = raw.slice(at, at + 16), codes = [...part].map((c) => c.charCodeAt(0));
    lines.push(`${at.toString(16).padStart(6, '0')}  ${codes.map((c) => c.toString(16).padStart(2, '0')).join(' ').padEnd(48)} ${codes.map((c) => c > 31 && c < 127 ? String.fromCharCode(c) : '·').join('')}`);
  }
  return lines.join('\n');
}

// ---- what differs between values, by path

const isObject = (v) => v !== null && typeof v === 'object' && !Array.isArray(v) && !JSON.isRawJSON?.(v);

/** JSON.parse that says undefined for what is none. */
export function parse(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

/** A value as JSON; undefined is nothing. */
export const shown = (v) => v === undefined ? '' : JSON.stringify(v);

/**
 * The members of several values side by side, as rows of a tree: depth, key, whether it has children, a value for each.
 * @param {any[]} values @param {number} most rows
 */
export function tree(values, most = 2000) {
  const rows = [];
  (function walk(vs, depth, path) {
    const keys = new Set();
    for (const v of vs) if (isObject(v)) Object.keys(v).forEach((k) => keys.add(k));
    for (const key of keys) {
      if (rows.length >= most) return;
      const inner = vs.map((v) => isObject(v) && Object.hasOwn(v, key) ? v[key] : undefined);
      const here = `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
      const parent = inner.some((v) => isObject(v) && Object.keys(v).length) && depth < 60;
      rows.push({ depth, key, path: here, parent, values: inner });
      if (parent) walk(inner, depth + 1, here);
    }
  })(values, 0, '');
  return rows;
}

/** The leaves that differ: path, before, after. */
export function changes(before, after) {
  if (!isObject(before) || !isObject(after)) return shown(before) === shown(after) ? [] : [{ path: '', before, after }];
  return tree([before, after]).filter((r) => !(isObject(r.values[0]) && isObject(r.values[1])) && shown(r.values[0]) !== shown(r.values[1]))
    .map((r) => ({ path: r.path, before: r.values[0], after: r.values[1] }));
}

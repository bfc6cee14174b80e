// The URL holds the state: #/things/pump-08?tab=shadow. Parts are encoded, so that any name has a URL.

/** @returns {{path: string[], query: Record<string, string>}} */
export function route(hash = location.hash) {
  const [path, query = ''] = hash.replace(/^#?\/?/, '').split(/\?(.*)/s);
  const plain = (s) => { try { return decodeURIComponent(s); } catch { return s; } };
  return { path: path.split('/').filter(Boolean).map(plain), query: Object.fromEntries(new URLSearchParams(query)) };
}

/** A link. @param {string[]} path @param {Record<string, any>} [query] */
export function to(path, query = {}) {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(query)) if (v !== undefined && v !== null && v !== '' && v !== false) q.set(k, String(v));
  const s = q.toString().replaceAll('%2C', ',').replaceAll('%3A', ':');
  return `#/${path.map(encodeURIComponent).join('/')}${s ? `?${s}` : ''}`;
}

/** Changes the query of the page that is shown. Typing replaces the entry in the history, a choice adds one. */
export function change(changes, { replace = false } = {}) {
  const now = route();
  const next = to(now.path, { ...now.query, ...changes });
  if (next === location.hash) return;
  if (replace) { history.replaceState(null, '', next); dispatchEvent(new HashChangeEvent('hashchange')); } else location.hash = next;
}

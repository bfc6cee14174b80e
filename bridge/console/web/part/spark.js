// Small pictures of numbers, with words for who doesn't see them.
import { html, nothing, svg } from './lit.js';
import { clock } from './text.js';

// The first sample of a rate has no value yet.
const known = (values) => (values ?? []).slice(values?.[0] === null ? 1 : 0).map((n) => n ?? 0);

/** A line of the last values. @param {number[]} values @param {string} name @param {(n: number) => string} [say] */
export function spark(values, name, say = String) {
  const v = known(values);
  if (v.length < 2) return nothing;
  const most = Math.max(...v), top = most || 1;
  const x = (i) => (i / (v.length - 1) * 100).toFixed(2), y = (n) => (30 - n / top * 27).toFixed(2);
  const line = v.map((n, i) => `${i ? 'L' : 'M'}${x(i)} ${y(n)}`).join('');
  return html`<svg class="spark" viewBox="0 0 100 32" preserveAspectRatio="none" role="img"
    aria-label="${name}: now ${say(v.at(-1))}, most ${say(most)} in this time">${svg`
    <path class="area" d="${line}L100 32L0 32Z"></path><path d=${line}></path>`}</svg>`;
}

/** How full something is; 0 to 1. */
export function meter(part, label) {
  const p = Math.max(0, Math.min(1, part || 0));
  return html`<div class="meter" role="img" aria-label="${label}: ${Math.round(p * 100)} %"><svg viewBox="0 0 100 1" preserveAspectRatio="none"
    class=${p > 0.9 ? 'bad' : p > 0.75 ? 'warn' : ''}><rect width=${p * 100} height="1" fill="currentColor"></rect></svg></div>`;
}

/** A chart of an hour, with its numbers as a table behind it. */
export function chart(series, start, step, name, say) {
  const v = (series ?? []).map((n) => n ?? 0);
  const most = Math.max(0, ...v), first = Date.parse(start);
  const rows = v.map((n, i) => [first + i * step * 1000, n]).filter((_, i) => i % Math.max(1, Math.floor(v.length / 12)) === 0);
  return html`<div class="card"><h2>${name}<small>most ${say(most)}</small></h2>
    <div class="big"><strong>${say(v.at(-1) ?? 0)}</strong>${spark(v, name, say)}</div>
    <details><summary class="dim">as numbers</summary><div class="scroll" tabindex="0" role="region" aria-label="${name}, numbers"><table><tbody>${rows.map(([at, n]) =>
      html`<tr><td>${clock(at, false)}</td><td class="num">${say(n)}</td></tr>`)}</tbody></table></div></details></div>`;
}

// Small pictures of numbers, with words for who doesn't see them.
import { html, nothing, svg } from './lit.js';
import { clock } from './text.js';

/** A line of the last values, broken where none is known. @param {(number | null)[]} values @param {string} name @param {(n: number) => string} [say] @param {number} [at] a value that is pointed at */
export function spark(values, name, say = String, at = -1) {
  const v = values ?? [], known = v.filter((n) => n !== null);
  if (known.length < 2) return nothing;
  const most = Math.max(...known), top = most || 1, runs = [];
  const x = (i) => (i / (v.length - 1) * 100).toFixed(2);
  v.forEach((n, i) => {
    if (n === null) return;
    if (!i || v[i - 1] === null) runs.push([]);
    runs.at(-1).push(`${x(i)} ${(30 - n / top * 27).toFixed(2)}`);
  });
  const ends = (r) => [r[0], r.at(-1)].map((p) => p.split(' ')[0]);
  return html`<svg class="spark" viewBox="0 0 100 32" preserveAspectRatio="none" role="img"
    aria-label="${name}: now ${say(known.at(-1))}, most ${say(most)} in this time">${svg`
    <path class="area" d=${runs.map((r) => `M${ends(r)[0]} 32L${r.join('L')}L${ends(r)[1]} 32Z`).join('')}></path><path d=${runs.map((r) => `M${r.join('L')}`).join('')}></path>
    ${at < 0 ? nothing : svg`<path class="at" d="M${x(at)} 0V32"></path>`}`}</svg>`;
}

/** How full something is; 0 to 1. */
export function meter(part, label) {
  const p = Math.max(0, Math.min(1, part || 0));
  return html`<div class="meter" role="img" aria-label="${label}: ${Math.round(p * 100)} %"><svg viewBox="0 0 100 1" preserveAspectRatio="none"
    class=${p > 0.9 ? 'bad' : p > 0.75 ? 'warn' : ''}><rect width=${p * 100} height="1" fill="currentColor"></rect></svg></div>`;
}

/** A chart with its times, and its numbers as a table behind it. at is the value that is read, of all charts alike; point chooses it. */
export function chart(v, { start, step }, name, say, at, point) {
  const last = v.length - 1, time = (i) => Date.parse(start) + i * step * 1000, hour = (i) => clock(time(i), false).slice(0, step > 60 ? 5 : 8);
  const tell = (i) => v[i] === null || v[i] === undefined ? 'not known' : say(v[i]), now = at < 0 ? last : at;
  const move = (e) => { const by = { ArrowLeft: -1, ArrowRight: 1, Escape: NaN }[e.key]; if (by) { e.preventDefault(); point(Math.max(0, Math.min(last, now + by))); } else if (Number.isNaN(by)) point(-1); };
  const every = Math.max(1, Math.ceil(v.length / 24));
  return html`<div class="card"><h2>${name}<small>most ${say(Math.max(0, ...v))}</small></h2>
    <div class="big"><strong>${tell(now)}</strong><small class="dim">${at < 0 ? 'now' : `at ${hour(at)}`}</small></div>
    <div class="plot" tabindex="0" role="slider" aria-label=${name} aria-valuemin="0" aria-valuemax=${last} aria-valuenow=${now} aria-valuetext="${tell(now)}, ${hour(now)}" @keydown=${move} @blur=${() => point(-1)}
      @pointermove=${(e) => { const r = e.currentTarget.getBoundingClientRect(); point(Math.max(0, Math.min(last, Math.round((e.clientX - r.left) / r.width * last)))); }} @pointerleave=${() => point(-1)}>${spark(v, name, say, at)}</div>
    <div class="times dim"><span>${hour(0)}</span><span>${hour(last)}</span></div>
    <details><summary class="dim">as numbers</summary><div class="scroll" tabindex="0" role="region" aria-label="${name}, numbers"><table><tbody>${v.map((n, i) => i % every ? nothing
      : html`<tr><td>${hour(i)}</td><td class="num">${tell(i)}</td></tr>`)}</tbody></table></div></details></div>`;
}

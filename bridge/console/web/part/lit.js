// The one door to the vendored library.
export { html, svg, nothing, render } from '../vendor/lit-html/lit-html.js';
export { repeat } from '../vendor/lit-html/directives/repeat.js';
import { live } from '../vendor/lit-html/directives/live.js';
export { live };

/** The value of a field by its name: what the page says, but nothing is taken from who types in it. */
export function kept(name, value) {
  const at = document.activeElement;
  return live(at?.name === name ? at.value : value ?? '');
}

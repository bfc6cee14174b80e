// Copying, telling, asking.
import { html, nothing } from './lit.js';

const icon = html`<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"><path d="M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z" fill="none" stroke="currentColor" stroke-width="1.3" stroke-linejoin="round"></path></svg>`;

let tell = () => {};
/** Calls f with what is to be told for some seconds. */
export const onTell = (f) => { tell = f; };
export const say = (text) => tell(text);

/** Copies a text. Without https and off this machine browsers have no clipboard; then a selection does it. */
export async function copy(text, what = 'Copied') {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    (document.querySelector('dialog[open]') ?? document.body).append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    if (!done) { tell('The browser does not allow copying here'); return; }
  }
  tell(what);
}

/** A button that copies. @param {string | (() => string)} text */
export const copyButton = (text, label = 'Copy', what = 'Copied') => html`<button type="button"
  @click=${(e) => { e.stopPropagation(); copy(typeof text === 'function' ? text() : text, what); }}>${label}</button>`;

/** A small button that copies a command. */
export const copyIcon = (text) => html`<button class="bare" type="button" aria-label="Copy this command" title="Copy" @click=${() => copy(text, 'Command copied')}>${icon}</button>`;

/** A command with a button that copies it. */
export const command = (text) => html`<div class="cmd"><code>${text}</code>${copyIcon(text)}</div>`;

/** Saves a text as a file. */
export function save(name, text, type = 'application/x-ndjson') {
  const a = document.createElement('a');
  a.href = URL.createObjectURL(new Blob([text], { type }));
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

// ---- dialogs

const OFF = 'fleetbridge.keys';
/** Reports whether single letters are keys. */
export const shortcuts = () => localStorage.getItem(OFF) !== 'off';

const redraw = () => dispatchEvent(new Event('redraw'));
export const openHelp = () => document.getElementById('keys')?.showModal();
const shut = (e) => e.target.closest('dialog').close();

/** The list of keys; those of the page first. */
export const helping = (menu, own) => html`<dialog id="keys" aria-labelledby="keys-title"><div class="stack">
  <h1 id="keys-title">Keys</h1>
  <dl class="keys">${own.map(([k, label]) => html`<dt><kbd>${k}</kbd></dt><dd>${label}</dd>`)}
    <dt><kbd>/</kbd></dt><dd>to the filter</dd><dt><kbd>j</kbd> <kbd>k</kbd></dt><dd>next row, row before</dd><dt><kbd>Enter</kbd></dt><dd>open the row</dd>
    <dt><kbd>Esc</kbd></dt><dd>close, leave the filter</dd><dt><kbd>c</kbd></dt><dd>copy: the open message, or the command below</dd><dt><kbd>?</kbd></dt><dd>this list</dd>
    ${menu.map(([, label, , k]) => html`<dt><kbd>g</kbd> <kbd>${k}</kbd></dt><dd>${label}</dd>`)}</dl>
  <label><input type="checkbox" .checked=${shortcuts()} @change=${(e) => { localStorage.setItem(OFF, e.target.checked ? 'on' : 'off'); redraw(); }}> Single letters are keys</label>
  <div class="tools"><button type="button" class="main" @click=${shut}>Close</button></div></div></dialog>`;

let question = null;
/** Asks before something is changed. @param {{title: string, text: any, yes: string, danger?: boolean}} q @returns {Promise<boolean>} */
export function confirm(q) {
  return new Promise((done) => {
    question = { ...q, done };
    redraw();
    requestAnimationFrame(() => requestAnimationFrame(() => document.getElementById('confirm')?.showModal()));
  });
}

function answer(e, yes) {
  const q = question;
  question = null;
  e.target.closest('dialog').close();
  q?.done(yes);
  redraw();
}

export const confirming = () => html`<dialog id="confirm" aria-labelledby="confirm-title" @cancel=${(e) => { e.preventDefault(); answer(e, false); }}>
  ${question ? html`<div class="stack"><h1 id="confirm-title">${question.title}</h1><div>${question.text}</div>
    <div class="tools"><button type="button" class=${question.danger ? 'danger' : 'main'} @click=${(e) => answer(e, true)}>${question.yes}</button>
    <button type="button" autofocus @click=${(e) => answer(e, false)}>Cancel</button></div></div>` : nothing}</dialog>`;

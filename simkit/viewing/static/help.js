// The list of keys.
import { html } from './html.js';
import { Dialog } from './widgets.js';

const GROUPS = /** @type {[string, [string, string][]][]} */ ([
  [
    'Everywhere',
    [
      ['/', 'find'],
      ['Esc', 'one level up'],
      ['t', 'light or dark'],
      ['y', 'copy the link of what is shown'],
      ['d', 'numbers instead of charts'],
      ['?', 'this list'],
    ],
  ],
  [
    'Lists',
    [
      ['j k ↓ ↑', 'next, previous row'],
      ['Enter', 'open'],
      ['x', 'mark a run'],
      ['c', 'compare the two marked runs'],
      ['e', 'parts of a run'],
      ['f', 'failures only'],
      ['w', 'only what got worse'],
    ],
  ],
  [
    'An episode',
    [
      ['j k ↓ ↑', 'next, previous branch'],
      ['h l ← →', 'earlier, later turn'],
      ['Enter', 'open or fold a branch'],
      ['e', 'open or fold all'],
      ['g', 'golden path'],
      ['n N', 'next, previous hit'],
      ['o', 'other ways from here'],
      ['v', 'everything, or what the user hears'],
      ['m', 'write a note'],
      ['[ ]', 'episode before, after'],
      ['{ }', 'same task, trial before, after'],
    ],
  ],
]);

/** @param {{onClose: () => void}} props */
export function Help({ onClose }) {
  return html`<${Dialog} label="Keys" onClose=${onClose}><div class="dialog-head"><h2>Keys</h2><span
    class="grow"></span>
      <button type="button" class="btn small" onClick=${onClose}>Close</button></div>
    <div class="key-groups">${GROUPS.map(
      ([title, keys]) =>
        html`<section key=${title}><h3>${title}</h3><dl>${keys.map(
          ([each, meaning]) =>
            html`<dt>${each.split(' ').map(key => html`<kbd>${key}</kbd> `)}</dt><dd>${meaning}</dd>`,
        )}</dl></section>`,
    )}</div><//>`;
}

// How values read: numbers, times, and text from models in which nothing is invisible.
import { html } from './html.js';

// Controls but tab and line feed, bidi marks, zero-width and tag characters, and halves of surrogate pairs: a reader
// would not see them, and some change the order of what is seen.
const HIDDEN = new RegExp(
  '[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e' +
    '\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e0fff}]' +
    '|\\p{Surrogate}',
  'gu',
);

// Names of the first 32 characters; fonts often lack the pictures that Unicode has for them.
const CONTROLS =
  'NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US';

/**
 * A visible name for an invisible character: ⟨ESC⟩, or ⟨U+202E⟩ for a bidi override.
 * @param {string} character
 */
function visible(character) {
  const code = /** @type {number} */ (character.codePointAt(0));
  if (code < 0x20) return `⟨${CONTROLS.split(' ')[code]}⟩`;
  if (code === 0x7f) return '⟨DEL⟩';
  return `⟨U+${code.toString(16).toUpperCase().padStart(4, '0')}⟩`;
}

/**
 * Text for attributes, titles and the clipboard's neighbours: hidden characters by their names.
 * @param {string | null | undefined} text
 * @returns {string}
 */
export function plain(text) {
  return text == null ? '' : String(text).replace(HIDDEN, visible);
}

/**
 * Text for the page: hidden characters stand out from what was written.
 * @param {string | null | undefined} text
 */
export function shown(text) {
  if (text == null) return null;
  const whole = String(text);
  if (whole.search(HIDDEN) < 0) return whole;
  const parts = [];
  let from = 0;
  for (const found of whole.matchAll(HIDDEN)) {
    if (found.index > from) parts.push(whole.slice(from, found.index));
    parts.push(html`<span class="hidden-char" title="an invisible character">${visible(found[0])}</span>`);
    from = found.index + found[0].length;
  }
  parts.push(whole.slice(from));
  return parts;
}

/** @param {number | null | undefined} value */
export const f3 = value => (value == null ? '–' : value.toFixed(3));

/** @param {number | null | undefined} value */
export const f2 = value => (value == null ? '–' : value.toFixed(2));

/** @param {number | null | undefined} value a share of 1 */
export const percent = value => (value == null ? '–' : `${(100 * value).toFixed(1)}%`);

/** @param {number | null | undefined} value */
export const count = value => (value == null ? '–' : value.toLocaleString('en'));

/**
 * A number with its noun: `1 fault`, `3 faults`.
 * @param {number} value
 * @param {string} noun
 * @param {string} [many]
 */
export const counted = (value, noun, many) => `${count(value)} ${value === 1 ? noun : (many ?? `${noun}s`)}`;

/** @param {number | null | undefined} value */
export function signed(value, digits = 3) {
  if (value == null) return '–';
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value < 0 ? '−' : '+') + text;
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds == null) return '–';
  if (seconds < 0.0995) return `${(1000 * seconds).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {number | null | undefined} dollars */
export function money(dollars) {
  if (dollars == null) return null;
  return `$${dollars !== 0 && Math.abs(dollars) < 0.01 ? dollars.toPrecision(2) : dollars.toFixed(2)}`;
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 999500) return `${(bytes / 1000).toFixed(bytes < 9950 ? 1 : 0)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * A time as `11-28 07:08`, in UTC.
 * @param {string | null | undefined} iso
 */
export const when = iso => (iso ? iso.slice(5, 16).replace('T', ' ') : '–');

/**
 * A number on an axis: three significant digits, with an exponent where it is needed.
 * @param {number | null | undefined} value
 */
export function axis(value) {
  if (value == null || Number.isNaN(value)) return '–';
  if (value === 0) return '0';
  const magnitude = Math.abs(value);
  if (magnitude < 1e-3 || magnitude >= 1e5) return value.toExponential(1).replace('e+', 'e');
  return String(Number(value.toPrecision(3)));
}

/** @param {string | null | undefined} outcome as glossary.md has it, such as `user_ended` */
export const words = outcome => (outcome ? plain(outcome).replaceAll('_', ' ') : 'running');

/**
 * A value of JSON whose numbers keep their digits: seeds have more than JavaScript's, and 1.0 is not 1 to a model.
 * @param {string} text
 * @returns {any}
 */
export function exactly(text) {
  const { rawJSON } = /** @type {any} */ (JSON);
  if (!rawJSON) return JSON.parse(text);
  const keep = (/** @type {string} */ _, /** @type {unknown} */ value, /** @type {{source: string}} */ { source }) =>
    typeof value === 'number' ? rawJSON(source) : value;
  return JSON.parse(text, /** @type {any} */ (keep));
}

/**
 * JSON with indentation, if the text is JSON; else the text.
 * @param {unknown} value
 */
export function pretty(value) {
  if (value == null) return '';
  if (typeof value !== 'string') return JSON.stringify(value, null, 2);
  if (!/^\s*[[{"]/.test(value)) return value;
  try {
    return JSON.stringify(exactly(value), null, 2);
  } catch {
    return value;
  }
}

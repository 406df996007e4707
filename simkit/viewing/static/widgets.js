// Small parts that several pages use.
import { html, useEffect, useLayoutEffect, useRef, useState } from './html.js';
import { A, usePlace, useRoute } from './route.js';
import { f2, plain, shown, words } from './text.js';

/**
 * The width and height of an element, and the ref that measures it.
 * @returns {[{current: any}, {width: number, height: number}]}
 */
export function useSize() {
  const ref = useRef(/** @type {any} */ (null));
  const [size, set] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    if (!ref.current) return undefined;
    const measure = () =>
      set(old => {
        const { clientWidth: width, clientHeight: height } = ref.current ?? { clientWidth: 0, clientHeight: 0 };
        return old.width === width && old.height === height ? old : { width, height };
      });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return [ref, size];
}

/** Whether the window is as narrow as a phone. */
export function useNarrow() {
  const query = '(max-width: 860px)';
  const [narrow, set] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const follow = () => set(list.matches);
    list.addEventListener('change', follow);
    return () => list.removeEventListener('change', follow);
  }, []);
  return narrow;
}

/**
 * Rows of one height, of which only those in view are elements. The place survives Back, and the focus goes with the
 * cursor to the element of the row that has `data-index`.
 * @param {{count: number, height: number, row: (index: number, style: string) => unknown, cursor?: number | null,
 *   label: string, name: string, class?: string, style?: string, attributes?: Record<string, unknown>}} props
 */
export function VirtualList(props) {
  const { count, height, row, cursor = null, label, name, style = '', attributes = {} } = props;
  const [top, keepTop] = usePlace(`scroll:${name}`, 0);
  const [box, size] = useSize();
  const timer = useRef(0);
  const [shownTop, setTop] = useState(top);
  useLayoutEffect(() => {
    box.current.scrollTop = top;
    return () => clearTimeout(timer.current);
  }, []);
  const restored = useRef(top > 0);
  const moved = useRef(cursor);
  useEffect(() => {
    if (restored.current) {
      restored.current = false;
      return;
    }
    if (cursor == null || cursor < 0) return;
    const element = box.current;
    const y = cursor * height;
    if (y < element.scrollTop || y + height > element.scrollTop + element.clientHeight) {
      element.scrollTop = Math.max(0, y - element.clientHeight / 3);
    }
    if (
      moved.current !== cursor &&
      (element.contains(document.activeElement) || document.activeElement === document.body)
    ) {
      setTimeout(() => element.querySelector(`[data-index="${cursor}"]`)?.focus({ preventScroll: true }));
    }
    moved.current = cursor;
  }, [cursor, height]);
  const scrolled = () => {
    setTop(box.current.scrollTop);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => keepTop(box.current?.scrollTop ?? 0), 200);
  };
  const first = Math.max(0, Math.floor(shownTop / height) - 6);
  const last = Math.min(count, Math.ceil((shownTop + (size.height || 600)) / height) + 6);
  const rows = [];
  for (let index = first; index < last; index++) rows.push(row(index, `top:${index * height}px;height:${height}px`));
  return html`<div class=${`vlist ${props.class ?? ''}`} style=${style} ref=${box} role="group" aria-label=${label}
    tabindex="0" onScroll=${scrolled} ...${attributes}>
    <div style=${`height:${count * height}px;position:relative`}>${rows}</div>
  </div>`;
}

/** A field that finds or filters. */
export function Search({ value, onInput, label, hint = true, id = undefined }) {
  return html`<label class="search">
    <svg width="14" height="14" viewBox="0 0 14 14" aria-hidden="true">
      <circle cx="6" cy="6" r="4.2" /><path d="M9.2 9.2L13 13" />
    </svg>
    <input type="search" id=${id} placeholder=${label} aria-label=${label} value=${value} autocomplete="off"
      spellcheck="false" onInput=${event => onInput(event.currentTarget.value)} />
    ${hint ? html`<kbd class="wide-only" aria-hidden="true">/</kbd>` : null}
  </label>`;
}

/**
 * Choices of which one holds.
 * @param {{value: string, choices: [string, unknown][], onPick: (value: string) => void, label: string}} props
 */
export function Segments({ value, choices, onPick, label }) {
  return html`<div class="seg" role="group" aria-label=${label}>
    ${choices.map(
      ([key, text]) => html`<button type="button" key=${key} aria-pressed=${key === value}
      onClick=${() => onPick(key)}>${text}</button>`,
    )}
  </div>`;
}

const TONES = { done: 'good', running: 'live', failed: 'bad', stopped: 'warn', interrupted: 'warn' };

/** The status of a run; `gone`: it says running, but no process plays it. */
export function Status({ status, gone = false, children = null }) {
  return html`<span class=${`pill ${gone ? 'warn' : (TONES[status] ?? '')}`}>${plain(status)}${children}</span>`;
}

/** The reward of an episode as a bar with its number. */
export function Reward({ value, full = 1 }) {
  if (value == null) return html`<span class="faint">not scored</span>`;
  const share = Math.min(1, Math.max(0, value / full));
  const text = html`<span class="num">${f2(value)}</span>`;
  return html`<span class="reward"><i aria-hidden="true"><b style=${`width:${100 * share}%`}></b></i>${text}</span>`;
}

/** The colour of a reward, as CSS: from pale to the full colour of success. @param {number | null} value */
export function tone(value) {
  if (value == null) return 'var(--unscored)';
  if (value >= 1 - 1e-9) return 'var(--good)';
  return `color-mix(in oklab, var(--good) ${Math.round(6 + Math.max(0, value) * 56)}%, var(--zero))`;
}

/** How an episode ended. */
export const Outcome = ({ outcome, error = null }) =>
  html`<span class=${outcome && /fault/.test(outcome) ? 'bad-text' : ''}
    title=${plain(error)}>${words(outcome)}</span>`;

/** A button that copies text. */
export function Copy({ text, label = 'Copy', class: kind = 'btn small' }) {
  const [done, set] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => set(false), 1500);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = () => copyText(typeof text === 'function' ? text() : text).then(() => set(true));
  return html`<button type="button" class=${kind} onClick=${copy}>${done ? 'Copied' : label}
    <span class="sr" aria-live="polite">${done ? 'copied' : ''}</span></button>`;
}

/** @param {string} text */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).catch(() => copyOld(text));
  return copyOld(text);
}

/** Pages from a file or another host may lack the clipboard's interface. @param {string} text */
function copyOld(text) {
  const field = document.createElement('textarea');
  field.value = text;
  field.style.cssText = 'position:fixed;top:-100px';
  document.body.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
}

/** A command to type, with a button that copies it. */
export const Command = ({ text }) =>
  html`<div class="command"><code>${plain(text)}</code><${Copy} text=${text} /></div>`;

/** What went wrong and what to do, with the runs whose names are near. */
export function Problem({ error, title = null }) {
  return html`<div class="problem" role="alert">
    ${title ? html`<h1>${title}</h1>` : null}
    <p>${shown(error.message)}</p>
    ${error.hint && !error.near?.length ? html`<p class="soft">${shown(error.hint)}</p>` : null}
    ${
      error.near?.length
        ? html`<p>Near to it: ${error.near.map(
            (run, index) =>
              html`${index ? ', ' : ''}<${A} class="link" href=${`/runs/${encodeURIComponent(run)}`}>${plain(run)}<//>`,
          )}</p>`
        : null
    }
  </div>`;
}

/** Shown until the first answer arrives. */
export const Waiting = ({ text = 'reading…' }) => html`<div class="waiting" role="status">${text}</div>`;

/** A part that opens: a real `details`, with its state in the address if it has a name. */
export function Fold({ summary, children, open = false, class: kind = '' }) {
  return html`<details class=${`fold ${kind}`} open=${open}><summary>${summary}</summary>${children}</details>`;
}

/** A dialog over the page. Escape and a click beside it close it; the focus returns to where it was. */
export function Dialog({ label, onClose, children, class: kind = '' }) {
  const box = useRef(/** @type {any} */ (null));
  useEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    box.current.focus();
    const press = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === 'Escape') {
        event.preventDefault();
        onClose();
      }
      if (event.key === 'Tab') keepFocus(event, box.current);
    };
    addEventListener('keydown', press, true);
    return () => {
      removeEventListener('keydown', press, true);
      before?.focus?.();
    };
  }, []);
  const beside = (/** @type {MouseEvent} */ event) => event.target === event.currentTarget && onClose();
  return html`<div class=${`veil ${kind}`} onClick=${beside}>
    <div class="dialog" role="dialog" aria-modal="true" aria-label=${label} tabindex="-1" ref=${box}>${children}</div>
  </div>`;
}

/** Tab stays within a dialog. @param {KeyboardEvent} event @param {HTMLElement} box */
function keepFocus(event, box) {
  const all = /** @type {HTMLElement[]} */ ([...box.querySelectorAll('a, button, input, textarea, select, summary')]);
  if (!all.length) return;
  const [first, last] = [all[0], all[all.length - 1]];
  const at = document.activeElement;
  if (event.shiftKey && (at === first || at === box)) {
    event.preventDefault();
    last.focus();
  } else if (!event.shiftKey && at === last) {
    event.preventDefault();
    first.focus();
  }
}

/** Whether the charts of the page show their numbers as tables (`?data=1`, key `d`). */
export const useTables = () => useRoute().route.query.data === '1';

// Long text, a piece at a time: a page never holds megabytes that nobody reads.
import { html, useContext, useState } from './html.js';
import { ClientContext } from './client.js';
import { shown, size } from './text.js';
import { Copy } from './widgets.js';

const SHORT = 6000;
const START = 4000;
const PIECE = 100000;

/** Not between the halves of a surrogate pair. @param {string} text @param {number} at */
function cutAt(text, at) {
  const code = text.charCodeAt(at - 1);
  return text.slice(0, code >= 0xd800 && code <= 0xdbff ? at - 1 : at);
}

/**
 * Text of a message. The server cuts texts over 20 kB and says their size; the rest is asked for on demand.
 * @param {{text: string, bytes?: number | null, load?: () => Promise<string>}} props
 */
export function LongText({ text, bytes = null, load = undefined }) {
  const [whole, setWhole] = useState(/** @type {string | null} */ (null));
  const [length, setLength] = useState(START);
  const [state, setState] = useState('');
  const full = whole ?? text;
  const cut = bytes != null && whole == null;
  if (!cut && full.length <= SHORT) return shown(full);
  const more = async () => {
    if (length < full.length) {
      setLength(length + (length === START && full.length < PIECE ? full.length : PIECE));
      return;
    }
    if (!cut || !load) return;
    setState('reading…');
    try {
      setWhole(await load());
      setLength(length + PIECE);
      setState('');
    } catch (error) {
      setState(/** @type {Error} */ (error).message);
    }
  };
  const done = !cut && length >= full.length;
  const total = bytes ?? full.length;
  return html`${shown(done ? full : cutAt(full, Math.min(length, full.length)))}${done ? null : '…'}
    <span class="more">${
      done
        ? null
        : html`<button type="button" class="btn small" onClick=${more} disabled=${
            cut && length >= full.length && !load
          }>Show more <span class="faint">of ${size(total)}</span></button>`
    }
    ${cut && !load ? null : html`<${CopyWhole} text=${full} load=${cut ? load : undefined} />`}
    ${state ? html`<span role="status">${state}</span>` : null}</span>`;
}

function CopyWhole({ text, load }) {
  const [whole, set] = useState(/** @type {string | null} */ (load ? null : text));
  if (whole != null) return html`<${Copy} text=${whole} label="Copy all" />`;
  return html`<button type="button" class="btn small"
    onClick=${() => load().then(set, () => set(text))}>Copy…</button>`;
}

/** Asks for one message whole. */
export function useMessage() {
  const client = useContext(ClientContext);
  return (/** @type {string} */ path, /** @type {string} */ field) =>
    client.get(path).then(found => {
      const value = found[field];
      return typeof value === 'string' ? value : JSON.stringify(value);
    });
}

// One model call: what was asked, whether that is known or rebuilt, and what was answered.
import { html } from './html.js';
import { useData, path as api } from './client.js';
import { LongText } from './long_text.js';
import { plain, pretty, shown } from './text.js';
import { Copy, Dialog, Problem, Waiting } from './widgets.js';

const STATES = {
  recorded: ['good', 'recorded', 'The run stored this request (--record-requests).'],
  rebuilt: ['good', 'rebuilt', 'Made again from the recorded conversation; its hash is the recorded one.'],
  differs: ['bad', 'differs', 'Made again from the recorded conversation, but its hash is not the recorded one.'],
  unavailable: ['warn', 'unavailable', 'The request cannot be made again.'],
};

/** @param {{run: string, task: string, trial: string, id: string, onClose: () => void}} props */
export function ModelCall({ run, task, trial, id, onClose }) {
  const { value, error } = useData(api('calls', run, task, trial, id));
  return html`<${Dialog} label="Model call" onClose=${onClose} class="drawer">
    <div class="dialog-head"><h2>Model call <span class="id">${plain(id)}</span></h2><span class="grow"></span>
      <button type="button" class="btn small" onClick=${onClose}>Close</button></div>
    ${
      error
        ? html`<${Problem} error=${error} />`
        : value
          ? html`<${Call}
      call=${value} />`
          : html`<${Waiting} />`
    }<//>`;
}

function Call({ call }) {
  const [tone, name, meaning] = STATES[call.state] ?? STATES.unavailable;
  const usage = call.response?.usage;
  return html`<div class="facts"><span>${plain(call.model)}</span>
      ${
        usage
          ? html`<span
        class="num">${pretty(usage.prompt_tokens)} + ${pretty(usage.completion_tokens)} tokens</span>`
          : null
      }
      ${call.hash ? html`<span>request hash <span class="id">${plain(call.hash)}</span></span>` : null}</div>
    <div class="section-head"><h3>Response</h3><${Copy} text=${pretty(call.response)} /></div>
    <pre class="trace" tabindex="0">${
      call.response == null
        ? 'none: the call failed'
        : html`<${LongText}
      text=${pretty(call.response)} />`
    }</pre>
    <div class="section-head"><h3>Request <span class=${`pill ${tone}`}>${name}</span></h3>
      ${call.request ? html`<${Copy} text=${pretty(call.request)} />` : null}</div>
    <p class="soft">${shown(call.state === 'unavailable' && call.reason ? sentence(call.reason) : meaning)}
      ${call.state === 'differs' && call.reason ? html` ${shown(sentence(call.reason))}` : null}</p>
    ${call.request ? html`<${Request} request=${call.request} />` : null}
    ${call.params ? html`<h3>Sampling</h3><pre class="trace" tabindex="0">${shown(pretty(call.params))}</pre>` : null}`;
}

/** A request with its messages one by one, because that is what one looks for in it. */
function Request({ request }) {
  const { messages, tools, ...rest } = request;
  if (!Array.isArray(messages))
    return html`<pre class="trace" tabindex="0"><${LongText} text=${pretty(request)} /></pre>`;
  return html`${messages.map(
    (message, index) => html`<div class="request-message" key=${index}><b>${plain(message.role)}</b>
      <pre class="trace"><${LongText} text=${messageText(message)} /></pre></div>`,
  )}
    ${
      tools?.length
        ? html`<details class="fold"><summary>${tools.length} tools</summary>
      <pre class="trace"><${LongText} text=${pretty(tools)} /></pre></details>`
        : null
    }
    <pre class="trace" tabindex="0">${shown(pretty(rest))}</pre>`;
}

/** @param {string} text */
const sentence = text => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

/** @param {any} message */
function messageText(message) {
  const { role, content, ...rest } = message;
  const words = typeof content === 'string' ? content : content == null ? '' : pretty(content);
  return Object.keys(rest).length ? `${words}${words ? '\n' : ''}${pretty(rest)}` : words;
}

// One message of a conversation: words, calls, results, and the notes that people wrote about it.
import { html } from './html.js';
import { LongText, useMessage } from './long_text.js';
import { path as api } from './client.js';
import { A } from './route.js';
import { duration, plain, pretty, shown } from './text.js';
import { NoteForm, NoteList } from './notes.js';

const NAMES = {
  user: 'User',
  agent: 'Agent',
  system: 'System prompt',
  runtime: 'Runtime',
  tool: 'Tool',
  user_tool: "User's tool",
};

/**
 * @typedef {{branch_id: string, seq: number, turn: number, step: number, author: string, content: string | null,
 *   cut: number | null, tool_calls: {id: string, name: string, arguments: string, by?: string}[], heard: string | null,
 *   flags: string[], tool: {name: string, error: any, seconds: number | null, writes: any[]} | null, digest: string,
 *   reasoning?: string | null}} Message
 */

/**
 * @param {{line: Message, inner: boolean, differs?: boolean, talk: any}} props `talk` names the conversation: its
 *   episode path, a link to a message, and the notes
 */
export function MessageView({ line, inner, differs = false, talk }) {
  const whole = useMessage();
  const load = (/** @type {string} */ field) => () => whole(messagePath(talk, line), field);
  const parts = [];
  if (line.author === 'system') {
    if (inner) parts.push(html`<${SystemPrompt} line=${line} load=${load} />`);
  } else if (line.author === 'tool' || (line.author === 'user_tool' && line.tool)) {
    if (inner) parts.push(html`<${ToolResult} line=${line} load=${load} />`);
  } else {
    const said = inner ? line.content : line.heard;
    if (inner && line.reasoning) parts.push(html`<${Reasoning} line=${line} load=${load} />`);
    if (said)
      parts.push(
        html`<${Words} line=${line} said=${said} inner=${inner} differs=${differs} talk=${talk} load=${load} />`,
      );
    if (inner)
      for (const call of line.tool_calls ?? [])
        parts.push(html`<${ToolCall} call=${call} line=${line} load=${load} open=${differs} />`);
  }
  const notes = talk.notesOf?.(line) ?? [];
  if (notes.length) parts.push(html`<${NoteList} notes=${notes} />`);
  if (talk.noting === String(line.seq)) parts.push(html`<${NoteForm} line=${line} talk=${talk} />`);
  if (!parts.length) return null;
  return html`<div class=${`line ${talk.target === `m${line.seq}` ? 'target' : ''} ${differs ? 'differs' : ''}`}
    id=${talk.anchors === false ? undefined : `m${line.seq}`}>${parts}</div>`;
}

/** @param {any} talk @param {Message} line */
function messagePath(talk, line) {
  const branch = line.branch_id.split('/').at(-1) ?? '';
  return api('message', talk.run, talk.task, talk.trial, branch, line.seq);
}

function Words({ line, said, inner, differs, talk, load }) {
  const agent = line.author === 'agent';
  const silent = inner && agent && line.heard == null;
  const other = inner && line.heard != null && line.heard !== line.content;
  return html`<div class=${`msg ${line.author}`}>
    <div class="who"><b>${NAMES[line.author] ?? plain(line.author)}</b>
      ${silent ? html`<span>not heard by the user</span>` : null}
      ${(line.flags ?? []).map((/** @type {string} */ flag) => html`<span class="flag">⚑ ${plain(flag)}</span>`)}
      <${MessageLinks} line=${line} talk=${talk} /></div>
    <div class="body" dir="auto"><${LongText} text=${said} bytes=${line.cut}
      load=${load(inner ? 'content' : 'heard')} /></div>
    ${other ? html`<div class="heard"><b>What was heard:</b> ${shown(line.heard)}</div>` : null}
  </div>`;
}

function MessageLinks({ line, talk }) {
  if (!talk.link) return null;
  return html`<span class="msg-links"><${A} href=${talk.link({ anchor: `m${line.seq}` })} replace=${true}
      aria-label=${`Link to message ${line.seq}`}>#${line.seq}<//>
    ${
      talk.canNote
        ? html`<${A} href=${talk.link({ note: line.seq, anchor: `m${line.seq}` })} replace=${true}
      aria-label=${`Write a note about message ${line.seq}`}>note<//>`
        : null
    }</span>`;
}

function SystemPrompt({ line, load }) {
  return html`<details class="call system"><summary><span class="call-name">system prompt</span>
    <span class="call-line">${plain((line.content ?? '').slice(0, 300))}</span></summary>
    <pre><${LongText} text=${line.content ?? ''} bytes=${line.cut} load=${load('content')} /></pre></details>`;
}

function Reasoning({ line, load }) {
  return html`<details class="call system"><summary><span class="call-name">reasoning</span>
    <span class="call-line">${plain(line.reasoning.slice(0, 300))}</span></summary>
    <pre><${LongText} text=${line.reasoning} load=${load('reasoning')} /></pre></details>`;
}

function ToolCall({ call, line, load, open }) {
  const args = typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments);
  const byUser = call.by === 'user' || line.author === 'user' || line.author === 'user_tool';
  return html`<details class=${`call ${byUser ? 'by-user' : ''}`} open=${open}><summary>
      <span class="call-name">→ ${plain(call.name)}</span>
      ${byUser ? html`<span class="tag">by the user</span>` : null}
      <span class="call-line">${plain(args.slice(0, 400))}</span></summary>
    <pre><span class="label">arguments, as the model wrote them</span>${'\n'}<${LongText} text=${pretty(args)}
      bytes=${args.length >= 20000 ? line.cut : null} load=${load('tool_calls')} /></pre></details>`;
}

function ToolResult({ line, load }) {
  const { error, seconds, writes, name } = line.tool ?? {};
  return html`<details class=${`call result ${error ? 'error' : ''}`}><summary>
      <span class="call-name">${error ? '✗ error' : '↳ result'}</span>
      <span class="call-line">${plain((line.content ?? '').slice(0, 400))}</span>
      ${
        writes?.length
          ? html`<span
        class="tag gold">${writes.length} ${writes.length > 1 ? 'writes' : 'write'}</span>`
          : null
      }
      ${seconds == null ? null : html`<span class="faint num">${duration(seconds)}</span>`}</summary>
    <pre>${name ? html`<span class="label">result of ${plain(name)}</span>${'\n'}` : null}<${LongText}
      text=${line.cut == null ? pretty(line.content) : (line.content ?? '')} bytes=${line.cut}
        load=${load('content')} />
      ${
        writes?.length
          ? html`${'\n\n'}<span
        class="label">rows that it changed</span>${'\n'}${shown(pretty(writes))}`
          : null
      }
    </pre></details>`;
}

// Notes: what people marked in conversations. The only thing that a page writes.
import { createContext, html, useContext, useEffect, useRef, useState } from './html.js';
import { ClientContext, LiveContext, useData, path as api } from './client.js';
import { A, address, focusSearch, useKeys, useRoute } from './route.js';
import { counted, plain, shown, when } from './text.js';
import { Problem, Search, Waiting } from './widgets.js';

const LABELS = ['good', 'wrong', 'unclear', 'interesting'];

/**
 * @typedef {{id: string, run_id: string, task_id: string, trial: number, path: string, turn: number,
 *   seq: number | null, label: string, text: string, author: string, at: string, digest: string, stale: boolean}} Note
 */

/** What `/api/version` says of the store; its `annotations` tell whether notes may be written. */
export const StoreContext = createContext(/** @type {any} */ (null));

/** Notes below the message that they are about. @param {{notes: Note[]}} props */
export function NoteList({ notes }) {
  return notes.map(
    note => html`<div class="note" key=${note.id}>
    <span class="tag gold">✎ ${plain(note.label || 'note')}</span>
    <span class="note-text">${shown(note.text)}</span>
    <span
      class="faint">${plain(note.author)}, ${when(note.at)}
      ${note.stale ? ' · the message is another one now' : ''}</span>
  </div>`,
  );
}

/**
 * The form for a note about a message, or about a conversation without `line`.
 * @param {{line?: import('./message.js').Message | null, talk: any}} props
 */
export function NoteForm({ line = null, talk }) {
  const client = useContext(ClientContext);
  const [label, setLabel] = useState('');
  const [text, setText] = useState('');
  const [state, setState] = useState({ busy: false, error: /** @type {any} */ (null) });
  const field = useRef(/** @type {any} */ (null));
  useEffect(() => field.current?.focus({ preventScroll: true }), []);
  const close = () => talk.change({ note: null });
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setState({ busy: true, error: null });
    const [path, turn] = splitBranch(line?.branch_id ?? talk.branch);
    try {
      await client.post('/api/notes', {
        run_id: talk.run,
        task_id: talk.task,
        trial: Number(talk.trial),
        path,
        turn,
        seq: line?.seq ?? null,
        label,
        text,
        digest: line?.digest ?? talk.digest ?? '',
      });
      talk.noted();
      close();
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return html`<form class="note-form" onSubmit=${save} aria-label="Note">
    <div class="note-labels"><span>${line ? `About message ${line.seq}` : 'About this conversation'}</span>
      ${LABELS.map(
        each => html`<button type="button" class=${`chip ${label === each ? 'gold' : ''}`}
        aria-pressed=${label === each} onClick=${() => setLabel(label === each ? '' : each)}>${each}</button>`,
      )}
      <input aria-label="Another label" placeholder="another label" maxlength="100"
        value=${LABELS.includes(label) ? '' : label}
        onInput=${(/** @type {any} */ event) => setLabel(event.currentTarget.value)} /></div>
    <textarea ref=${field} rows="3" aria-label="Text of the note" placeholder="What is worth remembering here?"
      value=${text}
      onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)}></textarea>
    ${state.error ? html`<${Problem} error=${state.error} />` : null}
    <div class="note-buttons"><button class="btn small main"
      disabled=${state.busy || (!label.trim() && !text.trim())}>Save note</button>
      <button type="button" class="btn small" onClick=${close}>Cancel</button></div>
  </form>`;
}

/** `RUN/TASK/TRIAL/PATH.TURN`, or its end, as path and turn. @param {string} branch @returns {[string, number]} */
export function splitBranch(branch) {
  const last = branch.split('/').at(-1) ?? '';
  const at = last.lastIndexOf('.');
  return [last.slice(0, at), Number(last.slice(at + 1))];
}

/** Where a note points. @param {Note} note */
export const noteAddress = note =>
  address(
    ['runs', note.run_id, note.task_id, String(note.trial)],
    { at: note.turn == null ? null : `${note.path}.${note.turn}` },
    note.seq == null ? '' : `m${note.seq}`,
  );

/** All notes of a store, or of one run: `/notes?run=RUN&q=…`. */
export function NotesPage() {
  const { route, change, go } = useRoute();
  const live = useContext(LiveContext);
  const store = useContext(StoreContext);
  const { run = '', q = '' } = route.query;
  const { value, error } = useData(run ? api('runs', run, 'notes') : '/api/notes', `${live.version} ${live.notes}`);
  useKeys({ '/': focusSearch, Escape: () => go(run ? address(['runs', run]) : '/') });
  if (error && !value) return html`<main class="page"><${Problem} error=${error} title="Notes" /></main>`;
  if (!value) return html`<main class="page"><${Waiting} /></main>`;
  const wanted = q.toLowerCase();
  const notes = value.notes.filter((/** @type {Note} */ note) =>
    `${note.label} ${note.text} ${note.author} ${note.task_id}`.toLowerCase().includes(wanted),
  );
  return html`<main
    class="page"><h1>Notes <small>${counted(value.notes.length, 'note')}${run ? ' on one run' : ''}</small></h1>
    <div class="bar"><${Search} value=${q} label="Label, text, author, task"
      onInput=${(/** @type {string} */ text) => change({ q: text })} />
      ${run ? html`<${A} class="btn" href="/notes">Notes of all runs<//>` : null}</div>
    ${
      notes.length
        ? html`<div class="card">${notes.map(
            (/** @type {Note} */ note) => html`<${A} key=${note.id} class="note-row"
      href=${noteAddress(note)}><span class="tag gold">✎ ${plain(note.label || 'note')}</span>
      <span class="note-text">${shown(note.text)}</span>
      <span class="soft num">${plain(note.task_id)}/${note.trial}${note.seq == null ? '' : ` #${note.seq}`}</span>
      <span
        class="faint">${plain(note.author)}, ${when(note.at)}
        ${note.stale ? ', about an earlier message' : ''}</span><//>`,
          )}</div>`
        : html`<${NoNotes} any=${value.notes.length > 0} store=${store} />`
    }</main>`;
}

function NoNotes({ any, store }) {
  if (any) return html`<div class="empty">No note has this text.</div>`;
  const off = store && !store.annotations?.enabled;
  return html`<div class="empty"><p>Nobody has written a note yet.</p>
    <p>${
      off
        ? `Notes cannot be written here: ${plain(store.annotations?.reason)}`
        : 'Open a conversation and press m, or choose “note” beside a message. `from notes` has them in SQL.'
    }</p></div>`;
}

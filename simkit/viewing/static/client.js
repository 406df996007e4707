// Answers of the server or of an export, and the version of what the server has read.
import { createContext, useContext, useEffect, useRef, useState } from './html.js';
import { exactly } from './text.js';

const KEPT = 80;

/** What the server said about a request that it could not answer. */
export class Refusal extends Error {
  /** @param {number} status @param {{error?: string, hint?: string, near?: string[]}} said */
  constructor(status, said) {
    super(said.error || `the server answered ${status}`);
    this.status = status;
    this.hint = said.hint || '';
    this.near = said.near || [];
  }
}

/** Reads `/api/...` from a server, or from the data of an exported file. Values that did not change stay the same. */
export class Client {
  constructor() {
    const data = document.getElementById('simkit-data');
    /** @type {{start: string, answers: Record<string, any>, files?: Record<string, string>,
     *   left_out?: string[]} | null} */
    this.exported = data ? JSON.parse(data.textContent || 'null') : null;
    /** @type {Map<string, {text: string, value: any}>} */
    this.kept = new Map();
    if (this.exported) globalThis.SIMKIT_EXPORT = this.exported;
  }

  /** The last answer to a path, or undefined. @param {string | null} path */
  peek(path) {
    if (path == null) return undefined;
    return this.exported ? this.embedded(path) : this.kept.get(path)?.value;
  }

  /**
   * The answer to a path such as `/api/runs`.
   * @param {string} path
   * @throws {Refusal} the server refused, could not be reached, or the export lacks the path
   */
  async get(path) {
    if (this.exported) {
      const file = this.exported.files?.[path];
      if (file && this.embedded(path) === undefined) await this.read(file);
      const found = this.embedded(path);
      if (found !== undefined) return found;
      throw new Refusal(404, {
        error: 'This file does not hold what the address asks for.',
        hint: 'It was left out of the export. `simkit view` on the store shows all; --all-branches exports more.',
      });
    }
    const answer = await reached(fetch(path, { headers: { accept: 'application/json' } }));
    const text = await answer.text();
    if (!answer.ok) throw new Refusal(answer.status, parsed(text));
    const before = this.kept.get(path);
    this.kept.delete(path);
    const kept =
      before && before.text === text
        ? before
        : { text, value: path.startsWith('/api/calls/') ? exactly(text) : JSON.parse(text) };
    this.kept.set(path, kept);
    if (this.kept.size > KEPT) this.kept.delete([...this.kept.keys()][0]);
    return kept.value;
  }

  /** Reads a file of an exported folder, which holds the answers about one episode. @param {string} file */
  async read(file) {
    const hint = 'A browser reads the other files of an export from a server only: python -m http.server';
    const unread = new Refusal(0, { error: `The file ${file} beside this page cannot be read.`, hint });
    try {
      const answer = await fetch(file);
      if (!answer.ok) throw unread;
      Object.assign(/** @type {any} */ (this.exported).answers, await answer.json());
    } catch {
      throw unread;
    }
  }

  /**
   * Sends JSON; the only path that takes it is `/api/notes`.
   * @param {string} path
   * @param {unknown} value
   */
  async post(path, value) {
    const headers = { 'content-type': 'application/json', accept: 'application/json' };
    const answer = await reached(fetch(path, { method: 'POST', headers, body: JSON.stringify(value) }));
    const text = await answer.text();
    if (!answer.ok) throw new Refusal(answer.status, parsed(text));
    return parsed(text);
  }

  /**
   * An exported conversation may hold its own lines only and name the one it goes on from as `after`.
   * @param {string} path
   * @returns {any}
   */
  embedded(path) {
    const found = this.exported?.answers[path];
    if (!found || typeof found.after !== 'string') return found;
    const before = this.embedded(found.after);
    if (!before) return found;
    return {
      ...found,
      after: undefined,
      lines: [...before.lines, ...found.lines],
      model_calls: [...(before.model_calls || []), ...(found.model_calls || [])],
    };
  }
}

/** @param {Promise<Response>} request */
async function reached(request) {
  try {
    return await request;
  } catch {
    throw new Refusal(0, { error: 'The server cannot be reached.', hint: 'Start it again: simkit view' });
  }
}

/** @param {string} text @returns {any} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** @type {import('./vendor/preact.js').Context<Client>} */
export const ClientContext = createContext(/** @type {any} */ (null));

/**
 * What the server told last: the version of its replica, progress of running runs, number of notes, and whether the
 * connection is lost.
 * @typedef {{version: number, running: Record<string, [number, number]>, notes: number, lost: boolean}} Live
 */
/** @type {import('./vendor/preact.js').Context<Live>} */
export const LiveContext = createContext(/** @type {Live} */ ({ version: 0, running: {}, notes: 0, lost: false }));

/** Listens to `/api/events` while the page is shown. @param {Client} client @returns {Live} */
export function useEvents(client) {
  const [live, set] = useState({ version: 0, running: {}, notes: 0, lost: false });
  useEffect(() => {
    if (client.exported) return undefined;
    /** @type {EventSource | null} */
    let source = null;
    const listen = () => {
      source?.close();
      source = null;
      if (document.hidden) return;
      source = new EventSource('/api/events');
      source.onmessage = event => set({ ...parsed(event.data), lost: false });
      source.onerror = () => set(old => (old.lost ? old : { ...old, lost: true }));
      source.onopen = () => set(old => (old.lost ? { ...old, lost: false } : old));
    };
    listen();
    document.addEventListener('visibilitychange', listen);
    return () => {
      document.removeEventListener('visibilitychange', listen);
      source?.close();
    };
  }, [client]);
  return live;
}

/**
 * The answer to a path; asked again when `stamp` changes. The last answer stays while a new one is awaited or refused.
 * @param {string | null} path null asks nothing
 * @param {unknown} [stamp]
 * @returns {{value: any, error: Refusal | null}}
 */
export function useData(path, stamp) {
  const client = useContext(ClientContext);
  const [state, set] = useState({ path: '', value: /** @type {any} */ (undefined), error: /** @type {any} */ (null) });
  const asked = useRef({ path: '', busy: false, again: false });
  useEffect(() => {
    if (path == null) return;
    const now = asked.current;
    if (now.path === path && now.busy) {
      now.again = true;
      return;
    }
    const mine = { path, busy: true, again: false };
    asked.current = mine;
    const ask = async () => {
      do {
        mine.again = false;
        try {
          const value = await client.get(path);
          if (asked.current === mine) set({ path, value, error: null });
        } catch (error) {
          if (asked.current === mine) set(old => ({ path, value: old.path === path ? old.value : undefined, error }));
        }
      } while (mine.again && asked.current === mine);
      mine.busy = false;
    };
    ask();
  }, [path, stamp]);
  if (path == null) return { value: undefined, error: null };
  return state.path === path ? state : { value: client.peek(path), error: null };
}

/** @param {unknown[]} parts parts of a path, each of which is escaped @returns {string} */
export const path = (...parts) => '/api/' + parts.map(part => encodeURIComponent(String(part))).join('/');

// Hits of a text in all messages of a run: `/search?run=RUN&q=…`.
import { html, useContext, useEffect, useState } from './html.js';
import { LiveContext, useData, path as api } from './client.js';
import { A, address, focusSearch, useKeys, usePlace, useRoute } from './route.js';
import { nameOf } from './runs.js';
import { counted, plain, shown, words } from './text.js';
import { Problem, Search, Waiting } from './widgets.js';

const LIMIT = 200;

export function SearchPage() {
  const { route, change, go } = useRoute();
  const live = useContext(LiveContext);
  const { run = '', q = '' } = route.query;
  const runs = useData('/api/runs', live.version).value ?? [];
  const wanted = useSettled(q.trim());
  const limit = Number(route.query.limit) || LIMIT;
  const path = run && wanted ? `${api('runs', run, 'search')}?q=${encodeURIComponent(wanted)}&limit=${limit}` : null;
  const { value, error } = useData(path);
  const hits = value?.hits ?? [];
  const [cursor, setCursor] = usePlace('cursor', 0);
  const at = Math.min(cursor, Math.max(0, hits.length - 1));
  const step = (/** @type {number} */ by) => {
    const next = Math.max(0, Math.min(hits.length - 1, at + by));
    setCursor(next);
    document.getElementById(`hit${next}`)?.scrollIntoView({ block: 'nearest' });
  };
  useKeys({
    j: () => step(1),
    ArrowDown: () => step(1),
    n: () => step(1),
    k: () => step(-1),
    ArrowUp: () => step(-1),
    N: () => step(-1),
    Enter: () => hits[at] && go(hitAddress(run, hits[at], q)),
    '/': focusSearch,
    Escape: () => go(run ? address(['runs', run]) : '/'),
  });
  return html`<main class="page"><h1>Search <small>words, tool calls and results of all branches</small></h1>
    <div class="bar"><label class="field"><span class="sr">Run</span><select value=${run} onChange=${(
      /** @type {any} */ event,
    ) => change({ run: event.currentTarget.value, limit: null })}>
        ${run ? null : html`<option value="">choose a run</option>`}
        ${
          run && !runs.some((/** @type {any} */ each) => each.run_id === run)
            ? html`<option
          value=${run}>${plain(run)}</option>`
            : null
        }
        ${runs.map(
          (/** @type {any} */ each) => html`<option key=${each.run_id}
          value=${each.run_id}>${nameOf(each)} · ${plain(each.run_id)}</option>`,
        )}
      </select></label>
      <${Search} value=${q} label="Find in all messages"
        onInput=${(/** @type {string} */ text) => change({ q: text, limit: null })} />
      ${
        value
          ? html`<span class="soft num"
        role="status">${value.more ? 'the first ' : ''}${counted(hits.length, 'hit')}</span>`
          : null
      }</div>
    ${error ? html`<${Problem} error=${error} />` : null}
    ${path && !value && !error ? html`<${Waiting} text="searching…" />` : null}
    ${
      hits.length
        ? html`<div class="card hits">${hits.map(
            (/** @type {any} */ hit, /** @type {number} */ i) =>
              html`<${Hit} key=${i} index=${i} hit=${hit} run=${run} q=${q} on=${i === at}
                first=${!same(hits[i - 1], hit)} />`,
          )}</div>`
        : null
    }
    ${
      value?.more
        ? html`<button type="button" class="btn"
      onClick=${() => change({ limit: limit * 4 })}>More hits</button>`
        : null
    }
    ${value && !hits.length ? html`<div class="empty">No message has “${plain(wanted)}”.</div>` : null}
    ${
      path
        ? null
        : html`<div
      class="empty">${run ? 'Type what to look for.' : 'Choose a run, then type what to look for.'}</div>`
    }</main>`;
}

const same = (/** @type {any} */ a, /** @type {any} */ b) => a && a.task_id === b.task_id && a.trial === b.trial;

/** @param {string} run @param {any} hit @param {string} q */
const hitAddress = (run, hit, q) =>
  address(['runs', run, hit.task_id, String(hit.trial)], { at: `${hit.path}.${hit.turn}`, q }, `m${hit.seq}`);

function Hit({ index, hit, run, q, on, first }) {
  const [before, match, after] = hit.snippet;
  const fate = hit.fate ? html`<span class=${`tag ${fateTone(hit.fate)}`}>${words(hit.fate)}</span>` : null;
  return html`${
    first
      ? html`<h2 class="hit-episode">${plain(hit.task_id)}<span
    class="faint">/${hit.trial}</span></h2>`
      : null
  }
    <${A} id=${`hit${index}`} class=${`hit-row ${on ? 'on' : ''}`} href=${hitAddress(run, hit, q)}>
      <span class="soft num">turn ${hit.turn}</span><span class="tag">${words(hit.author)}</span>
      <span class="snippet" dir="auto">${shown(before)}<mark>${shown(match)}</mark>${shown(after)}</span>${fate}<//>`;
}

/** @param {string} fate */
function fateTone(fate) {
  if (/golden|winner/.test(fate)) return 'gold';
  if (/success/.test(fate)) return 'good';
  return /fault/.test(fate) ? 'bad' : '';
}

/** A text as it stands when typing has paused, so that not each letter is a search. @param {string} text */
function useSettled(text) {
  const [settled, set] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => set(text), 200);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}

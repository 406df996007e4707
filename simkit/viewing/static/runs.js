// The list of runs: scores with intervals, progress, parts under their run, two marked ones to compare.
import { html, useContext, useMemo } from './html.js';
import { LiveContext, useData } from './client.js';
import { Interval, PassK } from './charts.js';
import { StoreContext } from './notes.js';
import { A, address, focusSearch, useKeys, usePlace, useRoute } from './route.js';
import { count, counted, duration, f3, percent, plain, when } from './text.js';
import { Command, Problem, Search, Status, VirtualList, Waiting, useNarrow } from './widgets.js';

/** Milliseconds without a line after which a running run is suspected to have been killed. */
const SILENT = 180000;

const MARKING = ['Mark two to compare', 'Mark one more to compare', 'Compare the two'];

/**
 * What is odd about a running run: `gone` if no process plays it, `silent` if it has written nothing for minutes.
 * @param {any} run
 * @returns {'gone' | 'silent' | ''}
 */
export function stillness(run) {
  if (run.status !== 'running') return '';
  if (run.alive === false) return 'gone';
  return run.last_line_at != null && quietFor(run) > SILENT ? 'silent' : '';
}

/** Milliseconds since a run's last line. @param {any} run */
export const quietFor = run => Date.now() - Date.parse(run.last_line_at);

/** A run's name, or its recipe where it has none. @param {any} run */
export const nameOf = run => plain(run.name) || plain(run.recipe) || plain(run.run_id);

export function RunsPage() {
  const live = useContext(LiveContext);
  const store = useContext(StoreContext);
  const { value, error } = useData('/api/runs', live.version);
  const { route, change, go } = useRoute();
  const narrow = useNarrow();
  const { q = '', marked = '', open = '' } = route.query;
  const picked = marked ? marked.split(',') : [];
  const opened = useMemo(() => new Set(open ? open.split(',') : []), [open]);
  const rows = useMemo(() => rowsOf(value ?? [], q, opened), [value, q, opened]);
  const [cursor, setCursor] = usePlace('cursor', 0);
  const at = Math.min(cursor, rows.length - 1);
  const mark = (/** @type {string} */ id) =>
    change({ marked: (picked.includes(id) ? picked.filter(x => x !== id) : [...picked, id].slice(-2)).join(',') });
  const unfold = (/** @type {string} */ id) =>
    change({ open: (opened.has(id) ? [...opened].filter(x => x !== id) : [...opened, id]).join(',') });
  const compare = () => picked.length === 2 && go(address(['compare'], { a: picked[0], b: picked[1] }));
  const here = rows[at]?.run;
  useKeys({
    j: () => setCursor(Math.min(rows.length - 1, at + 1)),
    ArrowDown: () => setCursor(Math.min(rows.length - 1, at + 1)),
    k: () => setCursor(Math.max(0, at - 1)),
    ArrowUp: () => setCursor(Math.max(0, at - 1)),
    Enter: () => here && go(address(['runs', here.run_id])),
    x: () => here && mark(here.run_id),
    c: compare,
    e: () => here && rows[at].parts && unfold(here.run_id),
    '/': focusSearch,
  });
  if (error && !value) return html`<main class="page"><${Problem} error=${error} title="Runs" /></main>`;
  if (!value) return html`<main class="page"><${Waiting} /></main>`;
  if (!value.length) return html`<${NoRuns} store=${store} />`;
  const whole = value.filter((/** @type {any} */ run) => !run.part_of).length;
  const height = narrow ? 92 : 60;
  return html`<main class="page"><h1>Runs <small>${count(whole)} in ${plain(store?.store ?? 'this store')}</small></h1>
    <div class="bar"><${Search} value=${q} label="Filter by name, recipe, status"
      onInput=${(/** @type {string} */ text) => change({ q: text })} />
      <span class="grow"></span>
      <${A} class="btn wide-only" href="/notes">Notes<//>
      <button type="button" class="btn" disabled=${picked.length !== 2} onClick=${compare}>
        ${MARKING[picked.length]}</button></div>
    <div class="card runs"><div class="runs-head wide-only"
      aria-hidden="true"><span></span><span>Run</span><span>Status</span>
      <span>Average reward, 95% interval</span><span class="right">Success</span><span>pass^k</span>
      <span class="right">Episodes</span><span class="right">Faults</span><span class="right">Started (UTC)</span>
      <span class="right">Took</span></div>
      <${VirtualList} name="runs" count=${rows.length} height=${height} cursor=${at} label="Runs"
        style=${rows.length > 80 ? 'max-height:calc(100vh - 250px)' : ''}
        row=${(
          /** @type {number} */ index,
          /** @type {string} */ style,
        ) => html`<${RunLine} key=${rows[index].run.run_id} index=${index}
          ...${rows[index]} style=${style} on=${index === at} picked=${picked.includes(rows[index].run.run_id)}
            onMark=${mark}
          onUnfold=${unfold} progress=${live.running[rows[index].run.run_id]} />`} />
      ${rows.length ? null : html`<div class="empty">No run matches “${plain(q)}”.</div>`}</div>
    <${StoreNotes} store=${store} /></main>`;
}

/**
 * Runs that match, each with its parts below it where it is open.
 * @param {any[]} runs @param {string} q @param {Set<string>} opened
 */
function rowsOf(runs, q, opened) {
  const wanted = q.trim().toLowerCase();
  const text = (/** @type {any} */ run) =>
    `${run.name ?? ''} ${run.run_id} ${run.recipe} ${run.status} ${run.world ?? ''} ${run.agent ?? ''}`.toLowerCase();
  /** @type {Map<string, any[]>} */
  const parts = new Map();
  for (const run of runs) if (run.part_of) parts.set(run.part_of, [...(parts.get(run.part_of) ?? []), run]);
  const known = new Set(runs.map(run => run.run_id));
  const fits = (/** @type {any} */ run) => !wanted || text(run).includes(wanted);
  const within = (/** @type {any} */ run) =>
    fits(run) || (parts.get(run.run_id) ?? []).some((/** @type {any} */ part) => within(part));
  /** @type {any[]} */
  const rows = [];
  const add = (/** @type {any} */ run, /** @type {number} */ depth) => {
    const own = parts.get(run.run_id) ?? [];
    const isOpen = opened.has(run.run_id);
    rows.push({ run, parts: own.length, isOpen, depth });
    for (const part of own) if (isOpen || (wanted && within(part))) add(part, depth + 1);
  };
  for (const run of runs) if (!(run.part_of && known.has(run.part_of)) && within(run)) add(run, 0);
  return rows;
}

function RunLine({ index, run, parts, isOpen, depth, style, on, picked, onMark, onUnfold, progress }) {
  const [finished, expected] = progress ?? [run.finished, run.expected];
  const running = run.status === 'running';
  const still = stillness(run);
  return html`<div class=${`run-line ${on ? 'on' : ''}`}
    style=${`${style};--depth:${depth}`}>
    <span class="run-mark"><input type="checkbox" aria-label=${`Mark ${nameOf(run)} to compare`} checked=${picked}
      onChange=${() => onMark(run.run_id)} /></span>
    <span class="run-name"><${A} class="stretch" data-index=${index}
      href=${address(['runs', run.run_id])}>${depth ? plain(run.stage) || nameOf(run) : nameOf(run)}<//>
      <span class="id">${plain(run.run_id)}${
        parts
          ? html` <button type="button" class="chip above" aria-expanded=${isOpen}
        onClick=${() => onUnfold(run.run_id)}>${isOpen ? '▾' : '▸'} ${counted(parts, 'part')}</button>`
          : null
      }</span></span>
    <span class="run-status"><${Status} status=${run.status} gone=${still === 'gone'} />
      ${
        still
          ? html`<span class="warn-text tiny">${still === 'gone' ? 'no process' : 'silent for'}
            ${' '}${still === 'silent' && duration(quietFor(run) / 1000)}</span>`
          : running && expected
            ? html`<span class="progress" role="progressbar" aria-label="Progress" aria-valuenow=${finished}
                aria-valuemin="0" aria-valuemax=${expected}><i
                  style=${`width:${(100 * finished) / expected}%`}></i></span>`
            : null
      }</span>
    <span class="run-reward"><${Interval} estimate=${run.reward} width=${140} label="average reward" />
      ${run.reward?.value == null ? null : html`<span class="num">${f3(run.reward.value)}</span>`}</span>
    <span class="right num run-success">${percent(run.success?.value)}</span>
    <span class="run-pass wide-only"><${PassK} values=${run.pass_k} /></span>
    <span class="right num run-episodes">${
      running || finished < expected
        ? html`${count(finished)} <span class="faint">of
      ${' '}${count(expected)}</span>`
        : run.episodes
          ? count(run.episodes)
          : html`<span class="faint">–</span>`
    }
      <span class="narrow-only faint">${' '}${expected === 1 ? 'episode' : 'episodes'}</span></span>
    <span
      class=${`right num wide-only ${run.faults ? 'bad-text' : 'faint'}`}>
      ${run.faults ? `✗ ${count(run.faults)}` : '0'}</span>
    <span class="right num soft wide-only">${when(run.started_at)}</span>
    <span class="right num soft wide-only">${duration(run.seconds)}</span></div>`;
}

function NoRuns({ store }) {
  const place = store?.store ? ` --store ${store.store}` : '';
  return html`<main class="page"><div class="hero"><h1>No run in this store yet</h1>
    <p class="soft">${plain(store?.store ?? '')}</p>
    <p>Play fifty tasks of the built-in world and search each with JOSH. It takes a few seconds and needs no model, and
      this page shows it while it runs.</p>
    <${Command} text=${`simkit run josh --tasks 50 --beam 8${place}`} />
    <p class="soft">An evaluation with pass^k:</p>
    <${Command} text=${`simkit run rollout --tasks 50 --trials 4${place}`} /></div><${StoreNotes}
      store=${store} /></main>`;
}

/** What the store says about itself, such as lines that cannot be read. */
export function StoreNotes({ store }) {
  const notes = store?.notes ?? [];
  if (!notes.length && !store?.readonly) return null;
  return html`<aside class="store-notes" aria-label="About this store">
    ${store.readonly ? html`<p class="soft">This store is read-only; notes cannot be written.</p>` : null}
    ${notes.map((/** @type {string} */ note) => html`<p class="warn-text">⚠ ${plain(note)}</p>`)}</aside>`;
}

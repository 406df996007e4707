// The episodes of a run: filtered, sorted, and only the rows in view are elements.
import { html, useMemo } from './html.js';
import { A, address, useKeys, usePlace, useRoute } from './route.js';
import { count, duration, plain, words } from './text.js';
import { Reward, Search, Segments, VirtualList, useNarrow } from './widgets.js';

const HEIGHT = 36;
const SORTS = /** @type {[string, string][]} */ ([
  ['worst', 'Worst'],
  ['widest', 'Widest'],
  ['slowest', 'Slowest'],
  ['task', 'Task'],
]);

/** @param {{run: any}} props */
export function EpisodeTable({ run }) {
  const { route, change, go } = useRoute();
  const narrow = useNarrow();
  const { q = '', only = '', sort = 'worst' } = route.query;
  const l = run.episodes;
  const texts = useMemo(
    () =>
      l.task_id.map((/** @type {string} */ task, /** @type {number} */ i) =>
        `${task}/${l.trial[i]} ${words(l.outcome[i])} ${l.outcome[i] ?? ''} ${l.error[i] ?? ''}`.toLowerCase(),
      ),
    [l],
  );
  const order = useMemo(() => sorted(l, sort), [l, sort]);
  const rows = useMemo(() => chosen(order, l, texts, q, only), [order, texts, q, only]);
  const [cursor, setCursor] = usePlace('cursor', 0);
  const at = Math.min(cursor, Math.max(0, rows.length - 1));
  const link = (/** @type {number} */ i) => address(['runs', run.run_id, l.task_id[i], String(l.trial[i])]);
  useKeys({
    j: () => setCursor(Math.min(rows.length - 1, at + 1)),
    ArrowDown: () => setCursor(Math.min(rows.length - 1, at + 1)),
    k: () => setCursor(Math.max(0, at - 1)),
    ArrowUp: () => setCursor(Math.max(0, at - 1)),
    Enter: () => rows.length && go(link(rows[at])),
  });
  const tree = l.branches.some(
    (/** @type {number | null} */ n, /** @type {number} */ i) => (n ?? 0) > (l.turns[i] ?? 0),
  );
  return html`<section class="card episodes" aria-label="Episodes"><div class="table-bar">
      <${Search} value=${q} label="Task, ending, error"
        onInput=${(/** @type {string} */ text) => change({ q: text })} />
      <${Segments} label="Order" value=${sort} choices=${SORTS}
        onPick=${(/** @type {string} */ next) => change({ sort: next === 'worst' ? null : next })} />
      <span class="soft num" role="status">${count(rows.length)}</span>
      <button type="button" class=${only ? 'chip on' : 'chip'} aria-pressed=${only !== ''}
        onClick=${() => change({ only: only ? null : 'fail' })}>
        ${only === '' || only === 'fail' ? 'failures only' : words(only)}${only ? ' ×' : ''}</button></div>
    <div class="table-head" aria-hidden="true"><span>task / trial</span><span>reward</span><span>goals</span><span
      class="wide-only">ended</span>
      <span class="right wide-only">turns</span><span class="right wide-only">${tree ? 'branches' : ''}</span>
      <span class="right wide-only">took</span></div>
    ${
      rows.length
        ? html`<${VirtualList} name="episodes" count=${rows.length} height=${HEIGHT} cursor=${at} label="Episodes"
      class="table-rows" style=${`height:${Math.min(rows.length * HEIGHT, narrow ? 420 : 540)}px`}
      row=${(/** @type {number} */ index, /** @type {string} */ style) =>
        html`<${Line} key=${rows[index]} index=${index} l=${l} i=${rows[index]} tree=${tree} on=${index === at}
          style=${style}
          href=${link(rows[index])} />`} />`
        : html`<div class="empty">No episode fits. <button type="button" class="link" onClick=${() =>
            change({ q: null, only: null })}>Show all ${count(l.task_id.length)}</button></div>`
    }</section>`;
}

function Line({ index, l, i, tree, on, style, href }) {
  const bad = /fault/.test(l.outcome[i] ?? '');
  const flags = l.flags?.[i];
  return html`<${A} href=${href} data-index=${index} class=${`table-row ${on ? 'on' : ''}`} style=${style}>
    <span class="cut">${plain(l.task_id[i])}<span class="faint">/${l.trial[i]}</span></span><${Reward}
      value=${l.reward[i]} />
    <span class="num soft">${l.achieved[i] ?? '–'} of ${l.goals[i] ?? '–'}</span>
    <span class=${`cut wide-only ${bad ? 'bad-text' : 'soft'}`} title=${plain(l.error[i])}>${bad ? '✗ ' : ''}${
      l.running?.[i] ? 'running' : plain(l.error[i]) || words(l.outcome[i])
    }${flags ? html` <span class="flag">⚑ ${flags}</span>` : null}</span>
    <span class="right num soft wide-only">${l.turns[i] ?? ''}</span><span
      class="right num soft wide-only">${(tree && l.branches[i]) || ''}</span>
    <span class="right num soft wide-only">${l.seconds[i] == null ? '' : duration(l.seconds[i])}</span><//>`;
}

/** @param {any} l @param {string} sort @returns {number[]} */
function sorted(l, sort) {
  const rows = [...l.task_id.keys()];
  const down = (/** @type {(number | null)[]} */ column) =>
    rows.sort((a, b) => (column[b] ?? -1) - (column[a] ?? -1) || a - b);
  if (sort === 'widest') return down(l.branches);
  if (sort === 'slowest') return down(l.seconds);
  if (sort === 'worst') {
    const value = (/** @type {number} */ i) => (l.running?.[i] ? 2 : (l.reward[i] ?? -1));
    rows.sort((a, b) => value(a) - value(b) || a - b);
  }
  return rows;
}

/** @param {number[]} order @param {any} l @param {string[]} texts @param {string} q @param {string} only */
function chosen(order, l, texts, q, only) {
  const wanted = q.trim().toLowerCase();
  if (!wanted && !only) return order;
  const fits = (/** @type {number} */ i) => {
    if (only === 'fail') return !l.running?.[i] && (l.success[i] == null ? (l.faults[i] ?? 0) > 0 : !l.success[i]);
    if (only === 'unfinished') return l.outcome[i] === 'unfinished';
    if (only === 'running') return Boolean(l.running?.[i]) || l.outcome[i] == null;
    return l.outcome[i] === only;
  };
  return order.filter(i => (!only || fits(i)) && (!wanted || texts[i].includes(wanted)));
}

// Two runs, or two sets of runs: what may be claimed, task by task, and the two conversations of a task.
import { html, useContext, useMemo } from './html.js';
import { LiveContext, useData } from './client.js';
import { Dumbbell, Forest } from './charts.js';
import { Pair } from './pair.js';
import { A, address, useKeys, useRoute } from './route.js';
import { nameOf } from './runs.js';
import { plain, shown, signed } from './text.js';
import { Fold, Problem, Segments, VirtualList, Waiting, copyText } from './widgets.js';

const EVEN = 1e-9;

export function ComparePage() {
  const { route, go, change } = useRoute();
  const live = useContext(LiveContext);
  const { a = '', b = '' } = route.query;
  const running = a
    .split(',')
    .concat(b.split(','))
    .some(id => live.running[id]);
  const path = a && b ? `/api/compare?a=${encodeURIComponent(a)}&b=${encodeURIComponent(b)}` : null;
  const { value, error } = useData(path, running ? live.version : 0);
  useKeys({
    Escape: () => go('/'),
    y: () => copyText(location.href),
    d: () => change({ data: route.query.data === '1' ? null : '1' }),
  });
  if (!path) {
    const message = 'Two runs are needed: /compare?a=RUN&b=RUN. Mark them in the list of runs.';
    return html`<main class="page"><${Problem} title="Compare" error=${{ message }} /></main>`;
  }
  if (error && !value) return html`<main class="page"><${Problem} title="Compare" error=${error} /></main>`;
  if (!value) return html`<main class="page"><${Waiting} text="comparing…" /></main>`;
  return html`<${Comparison} comparison=${value} />`;
}

/** @param {any[]} runs */
const sideName = runs => runs.map(nameOf).join(', ');

function Comparison({ comparison }) {
  const { route, change } = useRoute();
  const { tasks } = comparison;
  const names = { a: sideName(comparison.runs.a), b: sideName(comparison.runs.b) };
  const { only = 'all', task = '', trial } = route.query;
  const list = useMemo(() => tasks.filter((/** @type {any} */ each) => fits(each, only)), [tasks, only]);
  const picked = list.find((/** @type {any} */ each) => each.task_id === task) ?? furthest(list);
  const at = list.indexOf(picked);
  const show = (/** @type {any} */ next) => next && change({ task: next.task_id, trial: null });
  useKeys({
    j: () => show(list[at + 1]),
    ArrowDown: () => show(list[at + 1]),
    k: () => show(list[at - 1]),
    ArrowUp: () => show(list[at - 1]),
    w: () => change({ only: only === 'worse' ? null : 'worse', task: null, trial: null }),
  });
  const pickKind = (/** @type {string} */ next) =>
    change({ only: next === 'all' ? null : next, task: null, trial: null });
  const known = (/** @type {string} */ kind) => tasks.filter((/** @type {any} */ each) => fits(each, kind)).length;
  const [worse, better] = [known('worse'), known('better')];
  return html`<main class="page"><h1>${names.b} <span class="faint">against</span> ${names.a}</h1>
    <div class="compare-top"><${Claims} comparison=${comparison} /><section class="card pad" aria-label="Differences">
      <h2>Differences <small>${names.b} minus ${names.a}, ${Math.round(100 * comparison.level)}% intervals</small></h2>
      <${Forest} rows=${comparison.differences} />
      ${
        comparison.places.length
          ? html`<${Fold} summary=${`Where to look: ${comparison.places.length} domains and goal types`}>
        <p class="soft">Exploratory: not to be claimed.</p><${Forest} rows=${comparison.places} /><//>`
          : null
      }</section></div>
    <div class="compare-body"><section class="card" aria-label="Task by task"><div class="pad-top"><h2>Task by task
        <small>${worse} worse, ${better} better, ${tasks.length - worse - better} equal</small></h2>
      <div class="bar tight"><${Segments} label="Which tasks" value=${only} choices=${[
        ['all', 'All'],
        ['worse', 'Worse'],
        ['better', 'Better'],
      ]}
        onPick=${pickKind} />
        <span class="legend-line"><svg width="34" height="10" aria-hidden="true"><circle class="ring" cx="6" cy="5"
          r="3.5" />
          <line x1="10" x2="24" y1="5" y2="5" /><circle class="full" cx="28" cy="5"
            r="4" /></svg>${names.a} → ${names.b}</span></div></div>
      ${
        list.length
          ? html`<${VirtualList} name="tasks" count=${list.length} height=${30} cursor=${at} label="Tasks" class="tasks"
        row=${(
          /** @type {number} */ index,
          /** @type {string} */ style,
        ) => html`<${TaskLine} key=${list[index].task_id} index=${index} each=${list[index]}
          on=${index === at} style=${style}
            href=${address(['compare'], { ...route.query, task: list[index].task_id, trial: null })} />`} />`
          : html`<div class="empty">No task got ${only}.</div>`
      }</section>
      ${
        picked
          ? html`<${Pair} key=${picked.task_id} comparison=${comparison} names=${names} task=${picked}
        trial=${trial} />`
          : null
      }</div></main>`;
}

/** @param {any} task @param {string} only */
function fits(task, only) {
  if (only === 'worse') return task.difference < -EVEN;
  if (only === 'better') return task.difference > EVEN;
  return true;
}

/** The task on which the two differ most. @param {any[]} list */
function furthest(list) {
  return list.reduce(
    (best, each) => (best && Math.abs(best.difference ?? 0) >= Math.abs(each.difference ?? 0) ? best : each),
    null,
  );
}

function TaskLine({ index, each, on, style, href }) {
  const { difference: d } = each;
  const tone = d < -EVEN ? 'bad-text' : d > EVEN ? 'good-text' : 'soft';
  return html`<${A} href=${href} replace=${true} data-index=${index} class=${`task-line ${on ? 'on' : ''}`}
    style=${style}
    aria-current=${on ? 'true' : undefined}>
    <span class="cut">${plain(each.task_id)}</span><${Dumbbell} before=${each.a} after=${each.b} />
    <span class=${`right num ${tone}`}>${signed(d, 2)}</span><//>`;
}

/** Sentences that say what may be claimed; names stand in backticks. */
function Claims({ comparison }) {
  const repeats = comparison.claims.filter((/** @type {string} */ claim) => claim.startsWith('Repeats'));
  const claims = comparison.claims.filter((/** @type {string} */ claim) => !claim.startsWith('Repeats'));
  return html`<section class="card pad" aria-label="What may be claimed">
    ${claims.map((/** @type {string} */ claim) => html`<p class="claim"><${Ticks} text=${claim} /></p>`)}
    ${
      repeats.length + comparison.notes.length
        ? html`<${Fold} summary="What to bear in mind">
      ${[...repeats, ...comparison.notes].map(each => html`<p class="soft"><${Ticks} text=${each} /></p>`)}<//>`
        : null
    }</section>`;
}

const Ticks = ({ text }) =>
  text
    .split('`')
    .map((/** @type {string} */ part, /** @type {number} */ i) => (i % 2 ? html`<b>${shown(part)}</b>` : shown(part)));

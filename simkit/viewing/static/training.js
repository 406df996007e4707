// Curves of a training, by stage, beside the conversations that they came from.
import { html, useContext, useMemo } from './html.js';
import { LiveContext, useData, path as api } from './client.js';
import { Curve } from './charts.js';
import { A, address, useRoute } from './route.js';
import { counted, f3, plain } from './text.js';
import { Segments, Status } from './widgets.js';

const LEADING = ['success', 'reward', 'valid', 'loss'];

/** More curves than this are shown one stage at a time. */
const AT_ONCE = 12;

/**
 * The curves of a run beside the runs of its recipe; without curves those runs alone.
 * @param {{run: any, running: boolean}} props
 */
export function Training({ run, running }) {
  const live = useContext(LiveContext);
  const { value } = useData(api('runs', run.run_id, 'metrics'), running ? live.version : 0);
  const parent = useData(run.part_of ? api('runs', run.part_of) : null).value;
  const { route, change } = useRoute();
  const stages = useMemo(() => curvesOf(value, run.run_id), [value]);
  const parts = run.parts?.length ? run.parts : (parent?.parts ?? []);
  if (!stages.size) return run.parts?.length ? html`<${Parts} parts=${run.parts} title="Parts" />` : null;
  const names = [...stages.keys()];
  const total = names.reduce((sum, name) => sum + (stages.get(name)?.length ?? 0), 0);
  const stage = route.query.stage && stages.has(route.query.stage) ? route.query.stage : names[0];
  const shownStages = total <= AT_ONCE ? names : [stage];
  const curves = shownStages.flatMap(name =>
    (stages.get(name) ?? []).map(([label, points]) => ({ name, label, points })),
  );
  return html`<div class=${parts.length ? 'training' : ''}><section class="card pad" aria-label="Training">
      <div class="section-head"><h2>Training <small>what the trainer and its guard measured, step by step</small></h2>
      ${
        total > AT_ONCE && names.length > 1
          ? html`<${Segments} label="Stage" value=${stage} choices=${names.map(name => [name, plain(name)])}
              onPick=${(/** @type {string} */ next) => change({ stage: next })} />`
          : null
      }</div>
      <div class="curves">${curves.map(
        ({ name, label, points }) =>
          html`<${Curve} key=${`${name} ${label}`} name=${label} stage=${name} points=${points} />`,
      )}</div></section>
    ${parts.length ? html`<${Parts} parts=${parts} title="Conversations behind the curves" />` : null}</div>`;
}

/**
 * Curves by stage; those of a part are named after it.
 * @param {any} metrics
 * @param {string} run
 * @returns {Map<string, [string, [number, number | null][]][]>}
 */
function curvesOf(metrics, run) {
  /** @type {Map<string, Map<string, [number, number | null][]>>} */
  const stages = new Map();
  for (let i = 0; i < (metrics?.step.length ?? 0); i++) {
    const part = metrics.run_id?.[i] ?? run;
    const stage = (part === run ? '' : `${part.slice(run.length + 1)} · `) + metrics.stage[i];
    const name = metrics.name[i];
    const curves = stages.get(stage) ?? new Map();
    stages.set(stage, curves);
    if (!curves.has(name)) curves.set(name, []);
    curves.get(name)?.push([metrics.step[i], metrics.value[i]]);
  }
  const rank = (/** @type {string} */ name) => {
    const at = LEADING.findIndex(word => name.toLowerCase().includes(word));
    return at < 0 ? LEADING.length : at;
  };
  const guards = [...stages].sort((a, b) => Number(b[0].includes('guard')) - Number(a[0].includes('guard')));
  return new Map(
    guards.map(([stage, curves]) => [
      stage,
      [...curves]
        .filter(([, points]) => !isConstant(points))
        .sort((a, b) => rank(a[0]) - rank(b[0]) || (a[0] < b[0] ? -1 : 1)),
    ]),
  );
}

/**
 * Whether a number says nothing from step to step, such as the number of steps.
 * @param {[number, number | null][]} points
 */
const isConstant = points => points.length > 2 && points.every(point => point[1] === points[0][1]);

/** The runs that a recipe started, in order. */
function Parts({ parts, title }) {
  return html`<section class="card pad" aria-label=${title}><h2>${title} <small>the runs that the recipe
      started, in order</small></h2>
    <div class="part-list">${parts.map(
      (
        /** @type {any} */ part,
      ) => html`<${A} key=${part.run_id} class="part-row" href=${address(['runs', part.run_id])}>
        <b class="cut">${plain(part.stage || part.name || part.recipe)}</b>
        <span class="soft num">${part.episodes ? counted(part.episodes, 'episode') : ''}</span>
        <span class="num">${part.reward?.value == null ? '' : `reward ${f3(part.reward.value)}`}</span>
        <${Status} status=${part.status} /><//>`,
    )}</div></section>`;
}

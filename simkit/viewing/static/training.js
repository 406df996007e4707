// Curves of a training, by stage, beside the conversations that they came from.
import { html, useContext, useMemo } from './html.js';
import { LiveContext, useData, path as api } from './client.js';
import { Curve } from './charts.js';
import { A, address, useRoute } from './route.js';
import { counted, f3, plain } from './text.js';
import { Segments, Status, Waiting } from './widgets.js';

const LEADING = ['reward', 'success', 'loss', 'valid'];

/**
 * @param {{run: any, running: boolean}} props
 */
export function Training({ run, running }) {
  const live = useContext(LiveContext);
  const { value } = useData(api('runs', run.run_id, 'metrics'), running ? live.version : 0);
  const { route, change } = useRoute();
  const stages = useMemo(() => curvesOf(value), [value]);
  if (!value) return html`<${Waiting} />`;
  if (!stages.size) return null;
  const names = [...stages.keys()];
  const stage = route.query.stage && stages.has(route.query.stage) ? route.query.stage : names[0];
  return html`<section class="card pad" aria-label="Training"><div class="section-head"><h2>Training
      <small>what the trainer and its guard measured, step by step</small></h2>
    ${
      names.length > 1
        ? html`<${Segments} label="Stage" value=${stage} choices=${names.map(name => [name, plain(name)])}
      onPick=${(/** @type {string} */ next) => change({ stage: next })} />`
        : null
    }</div>
    <div class="curves">${[...(stages.get(stage) ?? [])].map(
      ([name, points]) => html`<${Curve} key=${name} name=${name}
      stage=${stage} points=${points} />`,
    )}</div>
    <${Sources} parts=${run.parts ?? []} /></section>`;
}

/** @param {any} metrics @returns {Map<string, [string, [number, number | null][]][]>} */
function curvesOf(metrics) {
  /** @type {Map<string, Map<string, [number, number | null][]>>} */
  const stages = new Map();
  for (let i = 0; i < (metrics?.step.length ?? 0); i++) {
    const stage = metrics.stage[i];
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
  return new Map(
    [...stages].map(([stage, curves]) => [
      stage,
      [...curves].sort((a, b) => rank(a[0]) - rank(b[0]) || (a[0] < b[0] ? -1 : 1)),
    ]),
  );
}

/** The runs whose conversations were trained on or measured. */
function Sources({ parts }) {
  const played = parts.filter((/** @type {any} */ part) => part.episodes);
  if (!played.length) return null;
  return html`<h3 class="sources">Conversations behind these curves</h3><div class="part-list">
    ${played.map(
      (
        /** @type {any} */ part,
      ) => html`<${A} key=${part.run_id} class="part-row" href=${address(['runs', part.run_id])}>
      <b>${plain(part.stage || part.name || part.recipe)}</b><span
        class="soft">${counted(part.episodes, 'episode')}</span>
      <span class="num">${part.reward?.value == null ? '' : `reward ${f3(part.reward.value)}`}</span>
      <${Status} status=${part.status} /><//>`,
    )}</div>`;
}

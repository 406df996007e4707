// The whole tree at once: four paths in all, whatever its size. A click goes to the nearest branch.
import { html, useMemo } from './html.js';
import { plain } from './text.js';
import { isGolden, kindOf, layout, pathTo, treeOf } from './tree_model.js';
import { useSize } from './widgets.js';

/** @typedef {import('./tree_model.js').Tree} Tree */

const HEIGHT = 230;

/**
 * @param {{tree: Tree, selected: number, onPick: (i: number) => void, hits: number[]}} props
 */
export function TreeMap({ tree, selected, onPick, hits }) {
  const [box, { width: outer }] = useSize();
  const width = Math.max(120, outer - 44);
  const lay = useMemo(() => layout(tree), [tree]);
  const height = Math.min(HEIGHT, Math.max(58, lay.rows * 10 + 30));
  const dx = (width - 20) / Math.max(1, tree.maxTurn);
  const dy = Math.min(16, (height - 36) / Math.max(1, lay.rows - 1));
  const x = (/** @type {number} */ turn) => 6 + turn * dx;
  const y = (/** @type {number} */ i) => 24 + lay.y[i] * dy;
  const lines = useMemo(() => mapLines(tree, x, y), [tree, width]);
  const dense = dy < 3;
  const pick = (/** @type {MouseEvent} */ event) => {
    const frame = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
    onPick(nearest(tree, x, y, event.clientX - frame.left, event.clientY - frame.top));
  };
  const here = pathTo(tree, selected)
    .slice(1)
    .filter(i => !isGolden(tree.n, i))
    .map(i => {
      const parent = tree.n.parent[i];
      return `M${x(tree.n.turn[parent])} ${y(parent)}V${y(i)}H${x(tree.n.turn[i])}`;
    })
    .join('');
  return html`<div class="map" ref=${box}>
    <svg width=${width} height=${height} onClick=${pick} role="img" class=${dense ? 'dense' : ''}
      aria-label=${`Map of ${tree.N - 1} branches over ${tree.maxTurn} turns; the first row is the path that was kept`}>
      <${Ticks} dx=${dx} x=${x} last=${tree.maxTurn} />
      ${['plain', 'good', 'bad', 'gold'].map(kind => html`<path class=${`tree-${kind}`} d=${lines[kind]} />`)}
      <path class="tree-here" d=${here} />
      ${hits.slice(0, 300).map(i => html`<circle class="hit" cx=${x(tree.n.turn[i])} cy=${y(i)} r="2.4" />`)}
      <${Harvests} tree=${tree} x=${x} y=${y} />
      <circle class="here" cx=${x(tree.n.turn[selected])} cy=${y(selected)} r="5" />
    </svg></div>`;
}

/** @param {Tree} tree */
function mapLines(tree, x, y) {
  const lines = { plain: '', good: '', bad: '', gold: '' };
  const { parent, turn } = tree.n;
  for (let i = 0; i < tree.N; i++) {
    if (parent[i] < 0) continue;
    const [x0, x1, y0, y1] = [x(turn[parent[i]]), x(turn[i]), y(parent[i]), y(i)];
    const r = Math.max(0, Math.min(5, y1 - y0, x1 - x0));
    const start = `M${x0.toFixed(1)} ${y0.toFixed(1)}`;
    const bend = y0 === y1 ? '' : `V${(y1 - r).toFixed(1)}q0 ${r.toFixed(1)} ${r.toFixed(1)} ${r.toFixed(1)}`;
    lines[kindOf(tree.n, i)] += `${start}${bend}H${x1.toFixed(1)}`;
  }
  return lines;
}

/** @param {Tree} tree */
function nearest(tree, x, y, px, py) {
  let best = tree.root;
  let least = Infinity;
  for (let i = 0; i < tree.N; i++) {
    const distance = (x(tree.n.turn[i]) - px) ** 2 + 1.5 * (y(i) - py) ** 2;
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

function Ticks({ dx, x, last }) {
  const every = Math.max(1, Math.ceil(28 / dx));
  const ticks = [];
  for (let turn = 0; turn <= last; turn += every) {
    if (turn && x(turn) < 50) continue;
    ticks.push(html`<text class="axis" x=${x(turn)} y="11" text-anchor=${turn ? 'middle' : 'start'}>
      ${turn || 'turn 0'}</text>`);
  }
  return ticks;
}

/** Diamonds where goals were credited. */
function Harvests({ tree, x, y }) {
  const found = [];
  for (let i = 0; i < tree.N && found.length < 400; i++) {
    const credited = tree.n.credited[i];
    if (!credited?.length) continue;
    found.push(html`<g transform=${`translate(${x(tree.n.turn[i])} ${y(i)})`}>
      <path class="harvest" d="M0-5.5L5.5 0 0 5.5-5.5 0Z" />
      <title>${`${plain(credited.join(', '))}: turn ${tree.n.turn[i]}`}</title></g>`);
  }
  return found;
}

/**
 * A tree as a small picture.
 * @param {{nodes: {parent: number[], turn: number[], mark: number[], bad?: any[]}, width?: number,
 *   height?: number}} props
 */
export function Thumbnail({ nodes, width = 104, height = 54 }) {
  const lines = useMemo(() => {
    const N = nodes.parent.length;
    const none = Array(N).fill([]);
    const outcome = nodes.turn.map((_, i) => (nodes.bad?.[i] ? 'agent_fault' : null));
    const path = nodes.turn.map((_, i) => String(i));
    const rest = { outcome, error: outcome, said: outcome, calls: none, goals: none, credited: none, path };
    const tree = treeOf({ ...nodes, ...rest });
    const lay = layout(tree);
    const dx = (width - 6) / Math.max(1, tree.maxTurn);
    const dy = Math.min(5, (height - 6) / Math.max(1, lay.rows - 1));
    return mapLines(
      tree,
      (/** @type {number} */ turn) => 3 + turn * dx,
      (/** @type {number} */ i) => 3 + lay.y[i] * dy,
    );
  }, [nodes]);
  return html`<svg viewBox=${`0 0 ${width} ${height}`} class="thumb-tree" aria-hidden="true">
    ${['plain', 'good', 'bad', 'gold'].map(kind => html`<path class=${`tree-${kind}`} d=${lines[kind]} />`)}</svg>`;
}

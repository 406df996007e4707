// A tree as a folded outline, drawn as lines. Only the rows in view are elements.
import { html, useEffect, useMemo, useRef, useState } from './html.js';
import { A } from './route.js';
import { plain } from './text.js';
import { actOf, isGoldenPath, kindOf, leafOf, visibleRows } from './tree_model.js';
import { useSize } from './widgets.js';

/** @typedef {import('./tree_model.js').Tree} Tree */
/** @typedef {import('./tree_model.js').Row} Row */

const HEIGHT = 28;

/**
 * @param {{tree: Tree, open: import('./tree_model.js').Open, onToggle: (key: string) => void, selected: number,
 *   link: (i: number) => string, onPick: (i: number) => void, inside: Int32Array | null}} props
 */
export function TreeRows({ tree, open, onToggle, selected, link, onPick, inside }) {
  const view = useMemo(() => visibleRows(tree, open), [tree, open]);
  const [box, { width, height }] = useSize();
  const [top, setTop] = useState(0);
  const current = rowOf(tree, view.at, selected);
  const seen = useRef(-1);
  useEffect(() => {
    if (seen.current === current) return;
    seen.current = current;
    const element = box.current;
    const y = current * HEIGHT;
    if (y < element.scrollTop || y + HEIGHT > element.scrollTop + element.clientHeight) {
      element.scrollTop = Math.max(0, y - element.clientHeight / 3);
    }
  }, [current, tree]);
  const share = width && width < 500 ? 0.3 : 0.44;
  const gutter = Math.min(Math.max(100, (width || 600) * share), tree.maxTurn * 26 + 30);
  const dx = (gutter - 30) / Math.max(1, tree.maxTurn);
  const geometry = { gutter, dx, x: (/** @type {number} */ turn) => 22 + turn * dx };
  const first = Math.max(0, Math.floor(top / HEIGHT) - 4);
  const last = Math.min(view.rows.length, Math.ceil((top + (height || 600)) / HEIGHT) + 4);
  const drawn = { tree, view, first, last, selected, geometry };
  const rows = [];
  for (let r = first; r < last; r++) {
    rows.push(html`<${Line} key=${tree.keys[view.rows[r].start]} tree=${tree} row=${view.rows[r]} index=${r}
      same=${view.same.get(view.rows[r].start)} current=${r === current} left=${gutter + 6} link=${link}
      onToggle=${onToggle} onPick=${onPick} hits=${inside} />`);
  }
  return html`<div class="rows" role="tree" tabindex="0" ref=${box} aria-activedescendant=${`row${current}`}
    aria-label=${`Branches: ${tree.N - 1} in ${view.rows.length} rows`}
    onScroll=${(/** @type {Event} */ event) => setTop(/** @type {Element} */ (event.currentTarget).scrollTop)}>
    <div role="presentation" style=${`height:${view.rows.length * HEIGHT + 12}px;position:relative`}>
      ${rows}<${Drawing} ...${drawn} /></div></div>`;
}

/** The row that shows a node, or hides it. @param {Tree} tree @param {Int32Array} at @param {number} i */
export function rowOf(tree, at, i) {
  while (at[i] < 0 && tree.n.parent[i] >= 0) i = tree.n.parent[i];
  return at[i];
}

function Line({ tree, row, index, same, current, left, link, onToggle, onPick, hits }) {
  const { n } = tree;
  const { start, chain, folded } = row;
  const leaf = chain[chain.length - 1];
  const golden = isGoldenPath(tree, chain);
  const target = folded || start !== tree.root ? start : leafOf(tree, start);
  const [text, isCall] = actOf(tree, start === tree.root && chain.length > 1 ? leaf : start);
  const foldable = tree.size[start] > 1 && start !== tree.root;
  const toggle = (/** @type {Event} */ event) => {
    event.preventDefault();
    event.stopPropagation();
    onToggle(tree.keys[start]);
  };
  return html`<${A} href=${link(target)} replace=${true} role="treeitem" id=${`row${index}`} tabindex="-1"
    class=${`tree-row ${current ? 'on' : ''} ${golden ? 'golden' : ''}`} onClick=${(
      /** @type {MouseEvent} */ event,
    ) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
      event.preventDefault();
      onPick(target);
    }}
    style=${`top:${index * HEIGHT}px;padding-left:${left}px`} aria-level=${n.turn[start] + 1} aria-selected=${current}
    aria-expanded=${foldable ? !folded : undefined}>
    ${
      foldable
        ? html`<span class="twist" onClick=${toggle} aria-hidden="true">${folded ? '▸' : '▾'}</span>`
        : html`<span class="twist-space"></span>`
    }
    <${Tags} tree=${tree} row=${row} golden=${golden} same=${same} hits=${hits} />
    <span class=${isCall ? 'act code' : 'act'} title=${text}>${text || '(said nothing)'}</span><//>`;
}

function Tags({ tree, row, golden, same, hits }) {
  const { start, folded } = row;
  const goals = tree.n.goals[start];
  const faults = tree.faults[start];
  const inside = hits
    ? folded
      ? hits[start]
      : row.chain.filter(
          (/** @type {number} */ i) => hits[i] && hits[i] > tree.children[i].reduce((sum, c) => sum + hits[c], 0),
        ).length
    : 0;
  return html`${golden ? html`<span class="tag gold">★ golden path</span>` : null}
    ${folded ? html`<span class="tag">${tree.size[start]} branches</span>` : null}
    ${folded && tree.earned[start] ? html`<span class="tag good">${tree.earned[start]} earned</span>` : null}
    ${!folded && !golden && goals.length ? html`<span class="tag good">+${plain(goals.join(', '))}</span>` : null}
    ${same ? html`<span class="tag">×${same}</span>` : null}
    ${
      faults && (folded || !golden)
        ? html`<span
      class="tag bad">✗ ${faults} ${faults > 1 ? 'faults' : 'fault'}</span>`
        : null
    }
    ${inside ? html`<span class="tag live">${inside} ${inside > 1 ? 'hits' : 'hit'}</span>` : null}`;
}

/** Lines and dots of the rows in view. */
function Drawing({ tree, view, first, last, selected, geometry }) {
  const { n } = tree;
  const { x, dx, gutter } = geometry;
  const y = (/** @type {number} */ r) => r * HEIGHT + HEIGHT / 2;
  const lines = { plain: '', good: '', bad: '', gold: '' };
  for (let r = 0; r < view.rows.length; r++) {
    const start = view.rows[r].start;
    const parent = n.parent[start];
    if (parent < 0) continue;
    const from = view.at[parent];
    if (r < first || from > last) continue;
    const bend = Math.max(0, Math.min(6, dx));
    const arm = `V${y(r) - bend}q0 ${bend} ${bend} ${bend}h${Math.max(0, dx - bend).toFixed(1)}`;
    lines[kindOf(n, start)] += `M${x(n.turn[parent]).toFixed(1)} ${y(from)}${arm}`;
  }
  const dots = [];
  for (let r = first; r < last; r++) {
    const { chain, folded, start } = view.rows[r];
    chain.forEach((/** @type {number} */ i, /** @type {number} */ j) => {
      if (j) lines[kindOf(n, i)] += `M${x(n.turn[n.parent[i]]).toFixed(1)} ${y(r)}H${x(n.turn[i]).toFixed(1)}`;
      dots.push(html`<${Dot} tree=${tree} i=${i} x=${x(n.turn[i])} y=${y(r)} here=${i === selected} />`);
    });
    if (!folded) continue;
    const from = x(n.turn[start]) + 5;
    const wide = Math.max(6, Math.min(gutter - from - 4, 6 + Math.sqrt(tree.leaves[start]) * 7));
    dots.push(html`<path class="folded" d=${`M${from} ${y(r)}l${wide} -6v12Z`} />`);
  }
  return html`<svg class="drawing" width=${gutter + 8} height=${view.rows.length * HEIGHT} aria-hidden="true">
    ${['plain', 'good', 'bad', 'gold'].map(
      kind => html`<path class=${`tree-${kind}`}
      d=${lines[kind]} />`,
    )}${dots}</svg>`;
}

function Dot({ tree, i, x, y, here }) {
  const { n } = tree;
  if (here) return html`<circle class="here" cx=${x} cy=${y} r="5" />`;
  if (n.credited[i]?.length) return html`<path class="harvest" d=${`M${x} ${y - 5.5}l5.5 5.5-5.5 5.5-5.5-5.5Z`} />`;
  const kind = kindOf(n, i);
  const earned = n.goals[i]?.length;
  if (kind === 'bad') return html`<path class="bad-cross" d=${`M${x - 3} ${y - 3}l6 6m0-6l-6 6`} />`;
  return html`<circle class=${`dot ${earned && kind !== 'gold' ? 'good' : kind}`} cx=${x} cy=${y}
    r=${earned ? 4 : kind === 'gold' ? 3.2 : 2.6} />`;
}

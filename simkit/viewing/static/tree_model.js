// A search tree as arrays, its layout, and which rows of it are open. Nothing here touches the page.
import { plain } from './text.js';

const SUCCESSFUL = 1;
const GOLDEN = 2;

/**
 * Nodes of a tree, column by column, as `/api/episodes` and `/api/runs/RUN/trees` give them.
 * @typedef {{parent: number[], path: string[], turn: number[], mark: number[], outcome: (string | null)[],
 *   error: (string | null)[], said: (string | null)[], calls: string[][], goals: string[][], credited: string[][],
 *   branch_id?: string[]}} Nodes
 */
/**
 * @typedef {{n: Nodes, N: number, children: number[][], root: number, size: Int32Array, leaves: Int32Array,
 *   earned: Int32Array, faults: Int32Array, maxTurn: number, keys: string[], final: number,
 *   acts: Map<number, [string, boolean]>}} Tree
 */
/** @typedef {'gold' | 'good' | 'bad' | 'plain'} Kind */

const order = new Intl.Collator('en', { numeric: true }).compare;

/**
 * Children of each node, the golden one first, and sums over each subtree.
 * @param {Nodes} n
 * @param {string | null} [final] `PATH.TURN` of the branch that ends the final conversation
 * @returns {Tree}
 */
export function treeOf(n, final = null) {
  const N = n.parent.length;
  const children = Array.from({ length: N }, () => /** @type {number[]} */ ([]));
  const keys = n.turn.map((turn, i) => `${n.path[i] ?? ''}.${turn}`);
  let root = 0;
  for (let i = 0; i < N; i++) {
    if (n.parent[i] < 0) root = i;
    else children[n.parent[i]].push(i);
  }
  const at = final == null ? -1 : keys.indexOf(final);
  const chosen = new Set();
  for (let i = at; i >= 0; i = n.parent[i]) chosen.add(i);
  const rank = (/** @type {number} */ i) =>
    n.mark[i] & GOLDEN ? 0 : chosen.has(i) ? 1 : n.mark[i] & SUCCESSFUL ? 2 : 3;
  for (const each of children) {
    if (each.length > 1) each.sort((a, b) => rank(a) - rank(b) || order(n.path[a] ?? '', n.path[b] ?? ''));
  }
  const sums = {
    size: new Int32Array(N).fill(1),
    leaves: new Int32Array(N),
    earned: new Int32Array(N),
    faults: new Int32Array(N),
  };
  for (const i of deepestFirst(n.turn, children, root)) addTo(sums, n, children, i);
  const maxTurn = n.turn.reduce((most, turn) => Math.max(most, turn), 0);
  return { n, N, children, root, final: at, ...sums, maxTurn, keys, acts: new Map() };
}

/** Children before their parents. @param {number[]} turn @param {number[][]} children @param {number} root */
function deepestFirst(turn, children, root) {
  const found = [];
  const stack = turn.length ? [root] : [];
  while (stack.length) {
    const i = /** @type {number} */ (stack.pop());
    found.push(i);
    stack.push(...children[i]);
  }
  return found.reverse();
}

/** @param {any} sums @param {Nodes} n @param {number[][]} children @param {number} i */
function addTo(sums, n, children, i) {
  if (!children[i].length) sums.leaves[i] = 1;
  if (n.goals[i]?.length) sums.earned[i] += 1;
  if (isFault(n, i)) sums.faults[i] += 1;
  const parent = n.parent[i];
  if (parent < 0) return;
  for (const name of ['size', 'leaves', 'earned', 'faults']) sums[name][parent] += sums[name][i];
}

/** @param {Nodes} n @param {number} i */
const isFault = (n, i) => (n.outcome[i] ?? '').endsWith('_fault');

/** How a node is drawn. @param {Nodes} n @param {number} i @returns {Kind} */
export function kindOf(n, i) {
  if (isFault(n, i)) return 'bad';
  if (n.mark[i] & GOLDEN) return 'gold';
  return n.mark[i] & SUCCESSFUL ? 'good' : 'plain';
}

/** @param {Nodes} n @param {number} i */
export const isGolden = (n, i) => (n.mark[i] & GOLDEN) !== 0;

/**
 * Whether a path is the golden one, which may go on after the last reward.
 * @param {Tree} tree
 * @param {number[]} path
 */
export const isGoldenPath = (tree, path) => path.some(i => i !== tree.root && isGolden(tree.n, i));

/**
 * The end of the conversation that goes on from a node along first children: a leaf, or the end of the final
 * conversation, behind which the search may have gone on in vain.
 * @param {Tree} tree
 * @param {number} i
 */
export function leafOf(tree, i) {
  while (i !== tree.final && tree.children[i].length) i = tree.children[i][0];
  return i;
}

/** Nodes from the root to one. @param {Tree} tree @param {number} i */
export function pathTo(tree, i) {
  const path = [];
  for (; i >= 0; i = tree.n.parent[i]) path.push(i);
  return path.reverse();
}

/**
 * Rows of a whole tree. A node goes on in the row of its first child; other children get rows below, those that fork
 * off last directly below. So no two lines cross, and the golden path is the top row.
 * @param {Tree} tree
 * @returns {{y: Int32Array, rows: number}}
 */
export function layout(tree) {
  const y = new Int32Array(tree.N);
  const stack = tree.N ? [tree.root] : [];
  let rows = 0;
  while (stack.length) {
    const start = /** @type {number} */ (stack.pop());
    const chain = chainFrom(tree, start);
    for (const i of chain) y[i] = rows;
    rows++;
    for (const i of chain) for (let k = tree.children[i].length - 1; k > 0; k--) stack.push(tree.children[i][k]);
  }
  return { y, rows };
}

/** @param {Tree} tree @param {number} start */
function chainFrom(tree, start) {
  const chain = [start];
  for (let i = start; tree.children[i].length;) {
    i = tree.children[i][0];
    chain.push(i);
  }
  return chain;
}

/**
 * What an agent did in a turn: its first call with its arguments, or its words; and whether it is a call.
 * @param {Tree} tree
 * @param {number} i
 * @returns {[string, boolean]}
 */
export function actOf(tree, i) {
  const known = tree.acts.get(i);
  if (known) return known;
  const calls = tree.n.calls[i] ?? [];
  /** @type {[string, boolean]} */
  const act = calls.length ? [callLine(calls), true] : [plain(tree.n.said[i]), false];
  tree.acts.set(i, act);
  return act;
}

/** @param {string[]} calls each as `name {arguments}` */
function callLine(calls) {
  const [call] = calls;
  const at = call.indexOf(' ');
  const more = calls.length > 1 ? `  +${calls.length - 1}` : '';
  try {
    const given = Object.entries(JSON.parse(call.slice(at + 1)));
    const value = (/** @type {unknown} */ x) => (typeof x === 'object' ? JSON.stringify(x) : String(x));
    return plain(`${call.slice(0, at)}  ${given.map(([name, x]) => `${name}=${value(x)}`).join('  ')}${more}`);
  } catch {
    return plain(call + more);
  }
}

/**
 * Which subtrees are open: `all` of them but the exceptions, or none but them.
 * @typedef {{all: boolean, except: Set<string>}} Open
 */

/** @param {Open} open @param {string} key */
export const isOpen = (open, key) => open.all !== open.except.has(key);

/** @param {Open} open @param {string} key @returns {Open} */
export function toggled(open, key) {
  const except = new Set(open.except);
  if (!except.delete(key)) except.add(key);
  return { all: open.all, except };
}

/** Opens what hides a node. @param {Tree} tree @param {Open} open @param {number} i @returns {Open} */
export function revealed(tree, open, i) {
  const closed = pathTo(tree, i).filter(each => each !== i && !isOpen(open, tree.keys[each]));
  if (!closed.length) return open;
  const except = new Set(open.except);
  for (const each of closed) if (!except.delete(tree.keys[each])) except.add(tree.keys[each]);
  return { all: open.all, except };
}

/**
 * Rows of a folded tree.
 * @typedef {{start: number, chain: number[], folded: boolean}} Row
 * @param {Tree} tree
 * @param {Open} open
 * @returns {{rows: Row[], at: Int32Array, same: Map<number, number>}} rows; the row of each node, -1 if it is hidden;
 *   how many equal leaves a row stands for
 */
export function visibleRows(tree, open) {
  /** @type {Row[]} */
  const rows = [];
  const at = new Int32Array(tree.N).fill(-1);
  const same = new Map();
  /** @type {[number, number][]} */
  const twins = [];
  /** @type {[number, boolean][]} */
  const stack = tree.N ? [[tree.root, false]] : [];
  while (stack.length) {
    const [start, folded] = /** @type {[number, boolean]} */ (stack.pop());
    const chain = folded ? [start] : chainFrom(tree, start);
    for (const i of chain) at[i] = rows.length;
    rows.push({ start, chain, folded });
    if (folded) continue;
    for (const i of chain) {
      const forks = grouped(tree, tree.children[i].slice(1), same, twins);
      for (const fork of forks.reverse()) stack.push([fork, tree.size[fork] > 1 && !isOpen(open, tree.keys[fork])]);
    }
  }
  for (const [twin, first] of twins) at[twin] = at[first];
  return { rows, at, same };
}

/** Leaves that say, earn and end the same are one row. */
function grouped(tree, forks, same, twins) {
  if (forks.length < 2) return forks;
  const seen = new Map();
  return forks.filter((/** @type {number} */ fork) => {
    if (tree.size[fork] > 1) return true;
    const key = `${actOf(tree, fork)[0]}|${tree.n.goals[fork].join()}|${tree.n.outcome[fork]}`;
    const first = seen.get(key);
    if (first == null) {
      seen.set(key, fork);
      return true;
    }
    same.set(first, (same.get(first) ?? 1) + 1);
    twins.push([fork, first]);
    return false;
  });
}

/**
 * Nodes whose words or calls have a text, and how many of them each subtree holds.
 * @param {Tree} tree
 * @param {string} text
 * @returns {{found: number[], inside: Int32Array} | null}
 */
export function findIn(tree, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return null;
  const found = [];
  const inside = new Int32Array(tree.N);
  for (let i = 0; i < tree.N; i++) {
    const said = `${tree.n.said[i] ?? ''} ${(tree.n.calls[i] ?? []).join(' ')}`;
    if (!said.toLowerCase().includes(wanted)) continue;
    found.push(i);
    for (let up = i; up >= 0; up = tree.n.parent[up]) inside[up]++;
  }
  const { y } = layout(tree);
  found.sort((a, b) => y[a] - y[b] || tree.n.turn[a] - tree.n.turn[b]);
  return { found, inside };
}

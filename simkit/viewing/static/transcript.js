// A conversation along one branch, turn by turn, with the other ways that the search tried from each turn.
import { Component, html, useEffect, useMemo, useRef } from './html.js';
import { useData, path as api } from './client.js';
import { MessageView } from './message.js';
import { NoteForm, NoteList } from './notes.js';
import { A } from './route.js';
import { counted, duration, money, plain, shown, words } from './text.js';
import { actOf, isGolden, pathTo } from './tree_model.js';
import { Problem, Waiting } from './widgets.js';

/**
 * @param {{tree: import('./tree_model.js').Tree, episode: any, leaf: number, selected: number, inner: boolean,
 *   talk: any, others: string, stamp: unknown}} props
 */
export function Transcript(props) {
  const { tree, episode, leaf, selected, inner, talk, stamp } = props;
  const path = api('transcript', talk.run, talk.task, talk.trial, tree.keys[leaf]);
  const { value, error } = useData(path, stamp);
  const box = useRef(/** @type {any} */ (null));
  const place = `${path} ${tree.keys[selected]} ${talk.target}`;
  useScroll(box, value ? place : '', talk.target || (talk.chosen ? `t${tree.n.turn[selected]}` : ''));
  const turns = useMemo(() => byTurn(value?.lines ?? []), [value]);
  const calls = useMemo(() => byTurn(value?.model_calls ?? []), [value]);
  const nodes = useMemo(() => new Map(pathTo(tree, leaf).map(i => [tree.n.turn[i], i])), [tree, leaf]);
  if (error && !value) return html`<div class="talk"><${Problem} error=${error} /></div>`;
  if (!value) return html`<div class="talk"><${Waiting} /></div>`;
  const end = tree.n.outcome[leaf] ?? (leaf === tree.final ? episode.outcome : null);
  const whole = { ...talk, digest: value.lines.at(-1)?.digest };
  return html`<div class="talk" ref=${box} tabindex="0" role="group" aria-label="Conversation">
    ${[...turns].map(
      ([turn, lines]) => html`<${Turn} key=${turn} ...${props} turn=${turn} lines=${lines} node=${nodes.get(turn)}
        calls=${calls.get(turn) ?? NONE} />`,
    )}
    ${
      end
        ? html`<div class="turn end"><b>${words(end)}</b>
      ${tree.n.error[leaf] ? html`<span class="bad-text">${shown(tree.n.error[leaf])}</span>` : null}</div>`
        : episode.running
          ? html`<div class="turn end live"><b>still running</b></div>`
          : null
    }
    <${NoteList} notes=${talk.notesOf(null)} />
    ${talk.noting === 'all' ? html`<${NoteForm} talk=${whole} />` : null}
  </div>`;
}

/** @type {any[]} */
const NONE = [];

/** A turn, drawn again only when something of it changes: steps through 300 long turns stay quick. */
class Turn extends Component {
  /** @param {any} next */
  shouldComponentUpdate(next) {
    const [before, after] = [watched(/** @type {any} */ (this).props), watched(next)];
    return after.some((value, i) => value !== before[i]);
  }

  /** @param {any} props */
  render(props) {
    const { turn, lines, inner, talk, tree, leaf } = props;
    const link = (/** @type {any} */ more) => talk.link({ at: tree.keys[leaf], ...more });
    return html`<section id=${`t${turn}`} class="turn-block">
      ${turn > 0 ? html`<${TurnHead} ...${props} />` : null}
      ${lines.map(
        (/** @type {any} */ line) => html`<${MessageView} key=${line.seq} line=${line} inner=${inner}
          talk=${{ ...talk, link }} />`,
      )}</section>`;
  }
}

/** What a turn shows, as values that are the same as long as it looks the same. @param {any} props */
function watched({ turn, lines, node, calls, selected, inner, talk, tree, leaf, others }) {
  const about = (/** @type {string} */ name) =>
    lines.some((/** @type {any} */ line) => name === `m${line.seq}` || name === String(line.seq)) ? name : '';
  return [
    lines,
    calls,
    inner,
    tree,
    leaf,
    talk.kept,
    talk.notes,
    talk.canNote,
    about(talk.target),
    about(talk.noting),
    talk.chosen && node === selected,
    others === String(turn),
    talk.callsOf === String(turn),
  ];
}

/** Goes to a turn or message when the place changes, not when new lines arrive. */
function useScroll(box, place, anchor) {
  const last = useRef('');
  useEffect(() => {
    if (!place || last.current === place) return;
    const first = last.current === '';
    last.current = place;
    const found = anchor ? box.current?.querySelector(`#${CSS.escape(anchor)}`) : null;
    if (found) found.scrollIntoView({ block: 'start' });
    else if (!first && box.current) box.current.scrollTop = 0;
  }, [place]);
}

/** @param {any[]} rows @returns {Map<number, any[]>} */
export function byTurn(rows) {
  const turns = new Map();
  for (const row of rows) {
    if (!turns.has(row.turn)) turns.set(row.turn, []);
    turns.get(row.turn).push(row);
  }
  return turns;
}

function TurnHead({ tree, turn, node, calls, selected, talk, others }) {
  const siblings =
    node == null || tree.n.parent[node] < 0
      ? []
      : tree.children[tree.n.parent[node]].filter((/** @type {number} */ i) => i !== node);
  const open = others === String(turn);
  const toggle = () => talk.change({ others: open ? null : turn });
  const goals = node == null ? [] : tree.n.goals[node];
  return html`<div class=${`turn ${node === selected && talk.chosen ? 'here' : ''}`}>
      <${A} href=${talk.link({ at: node == null ? undefined : tree.keys[node] })}
        replace=${true}><b>Turn ${turn}</b><//>
      ${goals.map((/** @type {string} */ goal) => html`<span class="chip gold">◆ ${plain(goal)}</span>`)}
      ${
        siblings.length
          ? html`<button type="button" class="chip" aria-expanded=${open} onClick=${toggle}>
        <svg width="11" height="11" viewBox="0 0 11 11" aria-hidden="true"><path d="M2 1v9M2 6q0-2.5 3-2.5h4" /></svg>
        ${counted(siblings.length, 'other way', 'other ways')}</button>`
          : null
      }
      <${TurnCost} calls=${calls} talk=${talk} turn=${turn} /></div>
    ${open && siblings.length ? html`<${Others} tree=${tree} siblings=${siblings} talk=${talk} />` : null}
    ${talk.callsOf === String(turn) ? html`<${ModelCalls} calls=${calls} talk=${talk} />` : null}`;
}

/** Cost and latency of a turn; opens its model calls. */
function TurnCost({ calls, talk, turn }) {
  if (!calls.length) return null;
  const seconds = calls.reduce((/** @type {number} */ sum, /** @type {any} */ call) => sum + (call.seconds ?? 0), 0);
  const paid = calls.reduce((/** @type {number} */ sum, /** @type {any} */ call) => sum + (call.cost ?? 0), 0);
  const cost = paid ? money(paid) : null;
  const open = talk.callsOf === String(turn);
  return html`<button type="button" class="chip num" aria-expanded=${open} onClick=${() =>
    talk.change({ calls: open ? null : turn })}>${counted(calls.length, 'model call')} · ${duration(seconds)}
    ${cost ? ` · ${cost}` : ''}</button>`;
}

function ModelCalls({ calls, talk }) {
  return html`<div class="ways">${calls.map(
    (/** @type {any} */ call) => html`<${A} class="way" key=${call.call_id} replace=${true}
    href=${talk.link({ call: call.call_id })}><span class="tag">${plain(call.role)}</span>
    <span class="act">${plain(call.model)}</span>
    ${call.error ? html`<span class="tag bad">✗ ${plain(call.error)}</span>` : null}
    ${call.attempts > 1 ? html`<span class="tag">${call.attempts} attempts</span>` : null}
    <span class="faint num">${call.prompt_tokens ?? '–'} + ${call.completion_tokens ?? '–'} tokens</span>
    <span class="faint num">${duration(call.seconds)}</span>
    ${call.cost ? html`<span class="faint num">${money(call.cost)}</span>` : null}<//>`,
  )}</div>`;
}

/** What the search tried instead, equal acts together, each with its fate. */
function Others({ tree, siblings, talk }) {
  /** @type {Map<string, {i: number, same: number}>} */
  const groups = new Map();
  for (const i of siblings) {
    const key = `${actOf(tree, i)[0]}|${isGolden(tree.n, i)}`;
    const found = groups.get(key);
    if (found) found.same++;
    else groups.set(key, { i, same: 1 });
  }
  return html`<div class="ways" role="group" aria-label="Other ways from here">${[...groups.values()].map(
    ({ i, same }) => {
      const [text, isCall] = actOf(tree, i);
      return html`<${A} class="way" key=${i} replace=${true}
        href=${talk.link({ at: tree.keys[i], others: null })}>${fate(tree, i)}
      ${same > 1 ? html`<span class="tag">×${same}</span>` : null}
      <span class=${isCall ? 'act code' : 'act'}>${text || '(said nothing)'}</span>
      ${tree.size[i] > 1 ? html`<span class="faint num">${tree.size[i]} branches</span>` : null}<//>`;
    },
  )}</div>`;
}

function fate(tree, i) {
  if (isGolden(tree.n, i)) return html`<span class="tag gold">★ golden</span>`;
  if (tree.earned[i]) return html`<span class="tag good">${tree.earned[i]} earned</span>`;
  if (tree.faults[i]) return html`<span class="tag bad">✗ fault</span>`;
  return html`<span class="tag">${tree.n.outcome[i] ? words(tree.n.outcome[i]) : 'nothing earned'}</span>`;
}

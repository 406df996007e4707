// Two conversations of one task side by side: equal beginnings are folded, and the place where they part is marked.
import { html, useState } from './html.js';
import { useData, path as api } from './client.js';
import { MessageView } from './message.js';
import { A, address, useRoute } from './route.js';
import { counted, plain } from './text.js';
import { leafOf, treeOf } from './tree_model.js';
import { Problem, Reward, Segments, Waiting, tone, useNarrow } from './widgets.js';

/** Equal messages that stay above the place where two conversations part. */
const CONTEXT = 2;

/** @param {{comparison: any, names: {a: string, b: string}, task: any, trial: string | undefined}} props */
export function Pair({ comparison, names, task, trial }) {
  const { change } = useRoute();
  const narrow = useNarrow();
  const [side, setSide] = useState('b');
  const [whole, setWhole] = useState(false);
  const plays = playsOf(comparison, task);
  const chosen = trial != null && plays[Number(trial)] ? Number(trial) : furthest(plays);
  const play = plays[chosen];
  const left = useConversation(play?.a, task.task_id);
  const right = useConversation(play?.b, task.task_id);
  const part = left.lines && right.lines ? parting(left.lines, right.lines) : -1;
  const shared = { part, whole, onWhole: () => setWhole(true) };
  const sides = {
    a: html`<${Side} ...${shared} name=${names.a} play=${play?.a} task=${task.task_id} talk=${left} />`,
    b: html`<${Side} ...${shared} name=${names.b} play=${play?.b} task=${task.task_id} talk=${right} />`,
  };
  return html`<section class="card pair" aria-label="The two conversations"><div
    class="pair-head"><h2>${plain(task.task_id)}</h2>
      <div class="seg wrap" role="group" aria-label="Trial">${plays.map(
        (each, k) => html`<button type="button" key=${k}
        aria-pressed=${k === chosen}
          onClick=${() => change({ task: task.task_id, trial: k })}>${plays.length > 1 ? `trial ${k}` : 'the trial'}
        ${' '}<i class="cell" style=${`background:${tone(each.a?.reward ?? null)}`}></i><i class="cell"
          style=${`background:${tone(each.b?.reward ?? null)}`}></i></button>`,
      )}</div></div>
    ${
      narrow
        ? html`<div class="panes"><${Segments} label="Which conversation" value=${side} choices=${[
            ['a', names.a],
            ['b', names.b],
          ]}
      onPick=${setSide} /></div>${sides[side]}`
        : html`<div class="sides" tabindex="0" role="group" aria-label="Conversations">${sides.a}${sides.b}</div>`
    }
  </section>`;
}

/**
 * Trials of both sides in pairs. Where a side has several runs, their trials follow one another.
 * @typedef {{run: string, trial: number, reward: number | null}} Play
 * @returns {{a?: Play, b?: Play}[]}
 */
function playsOf(comparison, task) {
  const side = (/** @type {'a' | 'b'} */ name) => {
    const given = task[`plays_${name}`];
    if (given) return given.map((/** @type {any[]} */ [run, trial, reward]) => ({ run, trial, reward }));
    const run = comparison.runs[name][0]?.run_id;
    return (task[`trials_${name}`] ?? []).map((/** @type {number | null} */ reward, /** @type {number} */ trial) => ({
      run,
      trial,
      reward,
    }));
  };
  const [a, b] = [side('a'), side('b')];
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) => ({ a: a[i], b: b[i] }));
}

/** The trial on which the two differ most. @param {{a?: Play, b?: Play}[]} plays */
function furthest(plays) {
  const apart = plays.map(({ a, b }) => (a && b ? Math.abs((a.reward ?? 0) - (b.reward ?? 0)) : -1));
  return Math.max(0, apart.indexOf(Math.max(...apart)));
}

/** @param {Play | undefined} play @param {string} task */
function useConversation(play, task) {
  const episode = useData(play ? api('episodes', play.run, task, play.trial) : null);
  const tree = episode.value ? treeOf(episode.value.nodes, episode.value.final ?? null) : null;
  const branch = tree ? tree.keys[leafOf(tree, tree.root)] : null;
  const found = useData(play && branch != null ? api('transcript', play.run, task, play.trial, branch) : null);
  return { lines: found.value?.lines, error: episode.error ?? found.error };
}

/** The first message in which two conversations differ. @param {any[]} a @param {any[]} b */
function parting(a, b) {
  const same = (/** @type {any} */ x, /** @type {any} */ y) =>
    x && y && x.author === y.author && (x.content ?? '') === (y.content ?? '') && calls(x) === calls(y);
  const calls = (/** @type {any} */ line) =>
    (line.tool_calls ?? []).map((/** @type {any} */ call) => `${call.name} ${call.arguments}`).join('\n');
  let at = 0;
  while (at < Math.max(a.length, b.length) && same(a[at], b[at])) at++;
  return at;
}

function Side({ name, play, task, talk, part, whole, onWhole }) {
  const { lines, error } = talk;
  const from = whole || part < 0 ? 0 : Math.max(0, part - CONTEXT);
  const shared = { run: play?.run, task, trial: play?.trial, anchors: false };
  return html`<div class="side"><div class="side-head"><b class="cut">${name}</b>
      ${
        play
          ? html`<${Reward} value=${play.reward} /><span class="grow"></span>
      <${A} class="chip" href=${address(['runs', play.run, task, String(play.trial)])}>open<//>`
          : null
      }</div>
    ${play ? null : html`<p class="soft">This side did not play that trial.</p>`}
    ${error ? html`<${Problem} error=${error} />` : play && !lines ? html`<${Waiting} />` : null}
    ${
      from > 0
        ? html`<button type="button" class="chip equal"
      onClick=${onWhole}>${counted(from, 'equal message')} before</button>`
        : null
    }
    ${(lines ?? []).slice(from).map(
      (/** @type {any} */ line, /** @type {number} */ i) => html`
      ${from + i === part ? html`<div class="turn here"><b>They part here</b></div>` : null}
      <${MessageView} key=${line.seq} line=${line} inner=${true} differs=${from + i === part} talk=${shared} />`,
    )}
    ${
      lines && part >= lines.length
        ? html`<div
      class="turn here"><b>${part === lines.length ? 'It ends here' : ''}</b></div>`
        : null
    }</div>`;
}

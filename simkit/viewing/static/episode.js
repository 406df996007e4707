// One episode: its tree or turns on the left, the conversation of a branch on the right.
import { html, useContext, useEffect, useMemo, useState } from './html.js';
import { LiveContext, useData, path as api } from './client.js';
import { NotesPane, TalkHead, TreePane } from './episode_panes.js';
import { ModelCall } from './model_call.js';
import { StoreContext, splitBranch } from './notes.js';
import { A, address, focusSearch, useKeys, useRoute } from './route.js';
import { counted, duration, money, plain, words } from './text.js';
import { Transcript } from './transcript.js';
import { findIn, isGolden, leafOf, pathTo, revealed, toggled, treeOf, visibleRows } from './tree_model.js';
import { rowOf } from './tree_rows.js';
import { TaskPane, Why } from './why.js';
import { Problem, Reward, Segments, Waiting, copyText, tone, useNarrow } from './widgets.js';

/** @type {any[]} */
const NO_NOTES = [];

/** @param {{run: string, task: string, trial: string}} props */
export function EpisodePage({ run, task, trial }) {
  const live = useContext(LiveContext);
  const [running, setRunning] = useState(true);
  const { value, error } = useData(api('episodes', run, task, trial), running ? live.version : 0);
  useEffect(() => {
    if (value) setRunning(Boolean(value.running));
  }, [value]);
  const { route, go } = useRoute();
  useEffect(() => {
    if (value && value.run_id !== run)
      go(address(['runs', value.run_id, value.task_id, String(value.trial)], route.query, route.anchor), true);
  }, [value]);
  useKeys({ Escape: () => go(address(['runs', run])) });
  if (error && !value)
    return html`<main class="page"><${Problem} error=${error} title=${`${plain(task)}/${trial}`} /></main>`;
  if (!value) return html`<main class="page"><${Waiting} /></main>`;
  return html`<${Episode} episode=${value} run=${run} task=${task} trial=${trial} lost=${error}
    stamp=${running ? live.version : 0} />`;
}

/** @param {any} props */
function Episode({ episode, run, task, trial, lost, stamp }) {
  const { route, change, go } = useRoute();
  const live = useContext(LiveContext);
  const store = useContext(StoreContext);
  const narrow = useNarrow();
  const [noted, setNoted] = useState(0);
  const notes = useData(api('runs', run, 'notes'), `${live.notes} ${noted}`).value?.notes ?? NO_NOTES;
  const tree = useMemo(() => treeOf(episode.nodes, episode.final ?? null), [episode]);
  const [open, setOpen] = useState(/** @type {import('./tree_model.js').Open} */ ({ all: false, except: new Set() }));
  const { at, view, q = '', others = '', calls = '', note = '', call = '' } = route.query;
  const inner = view !== 'user';
  const branched = tree.N > tree.maxTurn + 1;
  const chosen = at == null ? -1 : tree.keys.indexOf(at);
  const selected = chosen >= 0 ? chosen : leafOf(tree, tree.root);
  const leaf = leafOf(tree, selected);
  const hits = useMemo(() => findIn(tree, q), [tree, q]);
  const base = ['runs', run, task, trial];
  const link = (/** @type {any} */ { anchor = '', ...more } = {}) =>
    address(base, { ...route.query, note: null, call: null, ...more }, anchor);
  const linkTo = (/** @type {number} */ i) => link({ at: tree.keys[i], others: null });
  const pick = (/** @type {number} */ i, /** @type {any} */ more = {}, /** @type {string} */ anchor = '') => {
    setOpen(old => revealed(tree, old, i));
    change({ at: tree.keys[i], note: null, call: null, others: null, ...more }, true, anchor);
  };
  useEffect(() => setOpen(old => revealed(tree, old, selected)), [tree, selected]);
  useEpisodeKeys({
    tree,
    episode,
    run,
    task,
    trial,
    open,
    setOpen,
    selected,
    leaf,
    pick,
    hits,
    inner,
    change,
    go,
    others,
  });
  const { at: _, others: __, note: ___, ...kept } = route.query;
  const talk = {
    kept: address(base, kept),
    notes,
    run,
    task,
    trial,
    link,
    change,
    target: route.anchor,
    chosen: chosen >= 0,
    noting: note,
    callsOf: calls,
    branch: tree.keys[leaf],
    canNote: store?.annotations?.enabled,
    noted: () => setNoted(noted + 1),
    notesOf: (/** @type {any} */ line) => notesOf(notes, task, trial, tree, leaf, line),
  };
  const goTo = (/** @type {string} */ key, /** @type {number | null} */ seq = null) => {
    const i = tree.keys.indexOf(key);
    if (i >= 0) pick(i, narrow ? { pane: 'talk' } : {}, seq == null ? '' : `m${seq}`);
  };
  const pane = paneOf(route.query.pane, narrow);
  const left = { episode, goTo, tree, branched, open, setOpen, selected, leaf, linkTo, pick, hits, q, change };
  return html`<main class=${`episode pane-${pane}`}>
    <section aria-label="Episode">
      <${Head} episode=${episode} run=${run} task=${task} trial=${trial} tree=${tree} branched=${branched}
        onPick=${goTo}
        lost=${lost} />
      <${Panes} pane=${pane} episode=${episode} branched=${branched} narrow=${narrow} change=${change} notes=${notes}
        task=${task}
        trial=${trial} />
      ${pane === 'tree' ? html`<${TreePane} ...${left} />` : null}
      ${pane === 'why' ? html`<${Why} episode=${episode} onPick=${goTo} />` : null}
      ${pane === 'task' ? html`<${TaskPane} episode=${episode} />` : null}
      ${
        pane === 'notes'
          ? html`<${NotesPane} store=${store} notes=${notes} task=${task} trial=${trial} onPick=${goTo}
        talk=${talk} />`
          : null
      }
    </section>
    ${
      narrow && pane !== 'talk'
        ? null
        : html`<section class="conversation" aria-label="Conversation">
      <${TalkHead} tree=${tree} leaf=${leaf} selected=${selected} inner=${inner} chosen=${chosen >= 0}
        branched=${branched}
        change=${change} talk=${talk} />
      <${Transcript} tree=${tree} episode=${episode} leaf=${leaf} selected=${selected} inner=${inner} talk=${talk}
        others=${others} stamp=${stamp} />
    </section>`
    }
    ${
      call
        ? html`<${ModelCall} run=${run} task=${task} trial=${trial} id=${call}
      onClose=${() => change({ call: null })} />`
        : null
    }
  </main>`;
}

/** @param {string | undefined} asked @param {boolean} narrow */
function paneOf(asked, narrow) {
  const known = ['tree', 'why', 'task', 'notes', ...(narrow ? ['talk'] : [])];
  return asked && known.includes(asked) ? asked : 'tree';
}

/** Notes about one message, or (without a line) about the whole conversation that ends in `leaf`. */
function notesOf(notes, task, trial, tree, leaf, line) {
  return notes.filter((/** @type {any} */ note) => {
    if (note.task_id !== task || String(note.trial) !== String(trial)) return false;
    if (!line) return note.seq == null && `${note.path}.${note.turn}` === tree.keys[leaf];
    const [path, turn] = splitBranch(line.branch_id);
    return note.seq === line.seq && note.path === path && note.turn === turn;
  });
}

function useEpisodeKeys(all) {
  const { tree, episode, run, task, trial, open, setOpen, selected, leaf, pick, hits, inner, change, go, others } = all;
  const row = (/** @type {number} */ step) => {
    const shownRows = visibleRows(tree, open);
    const next = shownRows.rows[rowOf(tree, shownRows.at, selected) + step];
    if (next) pick(next.start === tree.root ? leafOf(tree, tree.root) : next.start);
  };
  const turn = (/** @type {number} */ step) => {
    const path = pathTo(tree, leaf);
    const next = path[path.indexOf(selected) + step];
    if (next != null) pick(next);
  };
  const branched = tree.N > tree.maxTurn + 1;
  const move = branched ? row : turn;
  const hit = (/** @type {number} */ step) => {
    if (!hits?.found.length) return;
    const now = hits.found.indexOf(selected);
    const count = hits.found.length;
    pick(hits.found[now < 0 ? (step > 0 ? 0 : count - 1) : (now + step + count) % count]);
  };
  const golden = () => {
    const found = [...tree.keys.keys()].filter(i => isGolden(tree.n, i));
    const deepest = found.reduce((a, b) => (tree.n.turn[b] > tree.n.turn[a] ? b : a), tree.root);
    pick(deepest === tree.root ? leafOf(tree, tree.root) : deepest);
  };
  const trialAt = (/** @type {number} */ step) => {
    const trials = episode.trials?.trial ?? [];
    const next = trials[trials.indexOf(Number(trial)) + step];
    if (next != null) go(address(['runs', run, task, String(next)]));
  };
  const fold = () => tree.size[selected] > 1 && setOpen(toggled(open, tree.keys[selected]));
  const neighbour = (/** @type {string | null} */ name) =>
    name && go(`/runs/${encodeURIComponent(run)}/${place(name)}`);
  useKeys({
    j: () => move(1),
    ArrowDown: () => move(1),
    k: () => move(-1),
    ArrowUp: () => move(-1),
    h: () => turn(-1),
    ArrowLeft: () => turn(-1),
    l: () => turn(1),
    ArrowRight: () => turn(1),
    g: golden,
    n: () => hit(1),
    N: () => hit(-1),
    Enter: fold,
    e: () => setOpen({ all: !open.all, except: new Set() }),
    o: () => change({ others: others === String(tree.n.turn[selected]) ? null : tree.n.turn[selected] }),
    v: () => change({ view: inner ? 'user' : null }),
    '[': () => neighbour(episode.prev),
    ']': () => neighbour(episode.next),
    '{': () => trialAt(-1),
    '}': () => trialAt(1),
    m: () => change({ note: 'all' }),
    y: () => copyText(location.href),
    '/': focusSearch,
  });
}

/** `TASK/TRIAL` as parts of an address. @param {string} name */
function place(name) {
  const at = name.lastIndexOf('/');
  return `${encodeURIComponent(name.slice(0, at))}/${name.slice(at + 1)}`;
}

function Head({ episode, run, task, trial, tree, branched, onPick, lost }) {
  const { trials } = episode;
  const many = (trials?.trial.length ?? 0) > 1;
  const near = (/** @type {string | null} */ name, /** @type {string} */ sign, /** @type {string} */ label) =>
    name
      ? html`<${A} class="btn small" href=${`/runs/${encodeURIComponent(run)}/${place(name)}`}
        aria-label=${label}>${sign}<//>`
      : null;
  return html`<div class="ep-head">
    <div class="ep-title"><h1>${plain(task)}<span class="faint">/${trial}</span></h1>
      ${episode.running ? html`<span class="pill live">running</span>` : null}<span class="grow"></span>
      ${
        many
          ? html`<span class="trial-cells" role="group" aria-label="Trials of this task">${trials.trial
              .slice(0, 30)
              .map(
                (
                  /** @type {number} */ k,
                  /** @type {number} */ i,
                ) => html`<${A} key=${k} href=${address(['runs', run, task, String(k)])}
          class=${String(k) === String(trial) ? 'on' : ''}
            aria-current=${String(k) === String(trial) ? 'page' : undefined}
          aria-label=${`trial ${k}: ${trials.reward[i] ?? 'not scored'}`}
            title=${`trial ${k}: ${trials.reward[i] ?? 'not scored'}`}
          style=${`background:${tone(trials.reward[i])}`} />`,
              )}</span>`
          : null
      }
      ${near(episode.prev, '←', 'Episode before')}${near(episode.next, '→', 'Episode after')}</div>
    <div class="meta"><${Reward} value=${episode.reward} /><span>${words(episode.outcome)}</span>
      <span class="num">${counted(tree.maxTurn, 'turn')}</span>
      ${
        branched
          ? html`<span
        class="num">${counted(tree.N - 1, 'branch', 'branches')}, ${counted(tree.leaves[tree.root], 'end')}</span>`
          : null
      }
      ${episode.seconds == null ? null : html`<span class="num">${duration(episode.seconds)}</span>`}
      ${episode.cost ? html`<span class="num">${money(episode.cost)}</span>` : null}
      ${
        episode.faults?.length
          ? html`<span
        class="bad-text">✗ ${counted(episode.faults.length, 'fault')}</span>`
          : null
      }
      ${episode.flags ? html`<span class="flag">⚑ ${counted(episode.flags, 'flag')}</span>` : null}
      ${lost ? html`<span class="bad-text">${plain(lost.message)}</span>` : null}</div>
    <div class="goals">${(episode.why ?? []).map(
      (/** @type {any} */ goal, /** @type {number} */ i) => html`<button type="button"
      key=${i} class=${`goal ${goal.earned ? 'earned' : ''}`} title=${plain(goal.wanted)}
      onClick=${() => goal.path != null && goal.turn != null && onPick(`${goal.path}.${goal.turn}`)}>
      ${goal.earned ? '◆' : '○'}
      ${' '}${plain(goal.goal)}${
        goal.earned && goal.turn != null
          ? html` <span
        class="num">turn ${goal.turn}</span>`
          : null
      }
      ${goal.earned ? null : html`<span class="sr">, missed</span>`}</button>`,
    )}</div>
  </div>`;
}

function Panes({ pane, episode, branched, narrow, change, notes, task, trial }) {
  const missed = (episode.why ?? []).filter((/** @type {any} */ goal) => !goal.earned).length;
  const mine = notes.filter(
    (/** @type {any} */ note) => note.task_id === task && String(note.trial) === String(trial),
  ).length;
  const number = (/** @type {number} */ n) => (n ? html` <span class="badge">${n}</span>` : null);
  const choices = [
    ['tree', branched ? 'Tree' : 'Turns'],
    ...(narrow ? [['talk', 'Conversation']] : []),
    ['why', html`Why${number(missed + (episode.faults?.length ?? 0))}`],
    ['task', 'Task'],
    ['notes', html`Notes${number(mine)}`],
  ];
  return html`<div class="panes"><${Segments} label="Beside the conversation" value=${pane} choices=${choices}
    onPick=${(/** @type {string} */ next) => change({ pane: next === 'tree' ? null : next })} /></div>`;
}

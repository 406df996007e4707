// What stands beside a conversation, and above it.
import { html, useEffect, useRef } from './html.js';
import { NoteList } from './notes.js';
import { A } from './route.js';
import { count, counted, plain, words } from './text.js';
import { actOf, isGoldenPath, leafOf, pathTo, toggled } from './tree_model.js';
import { TreeMap } from './tree_map.js';
import { TreeRows } from './tree_rows.js';
import { WhyContent } from './why.js';
import { Copy, Search, Segments } from './widgets.js';

/** The tree of an episode, or the turns of a rollout with the reasons of its reward. @param {any} props */
export function TreePane({
  tree,
  branched,
  open,
  setOpen,
  selected,
  leaf,
  linkTo,
  pick,
  hits,
  q,
  change,
  episode,
  goTo,
}) {
  if (!branched) {
    return html`<div class="turns" tabindex="0" role="group" aria-label="Turns, and why it has this reward">
      <${Turns} tree=${tree} leaf=${leaf} selected=${selected} linkTo=${linkTo} /><${WhyContent} episode=${episode}
      onPick=${goTo} /></div>`;
  }
  const folded = !open.all && !open.except.size;
  return html`<${TreeMap} tree=${tree} selected=${selected} onPick=${pick} hits=${hits?.found ?? []} />
    <div class="tree-bar"><${Search} value=${q} label="Find in all branches"
      onInput=${(/** @type {string} */ text) => change({ q: text })} />
      ${hits ? html`<span class="num" role="status">${counted(hits.found.length, 'hit')}</span>` : null}
      <span class="grow"></span>
      <button type="button" class="chip" onClick=${() => setOpen({ all: false, except: new Set() })}
        disabled=${folded}>Fold</button>
      <button type="button" class="chip" onClick=${() => setOpen({ all: true, except: new Set() })}
        disabled=${open.all}>Open
        all ${count(tree.leaves[tree.root])}</button></div>
    <${TreeRows} tree=${tree} open=${open} onToggle=${(/** @type {string} */ key) => setOpen(toggled(open, key))}
      selected=${selected}
      link=${linkTo} onPick=${pick} inside=${hits?.inside ?? null} />`;
}

/** The turns of a rollout. */
function Turns({ tree, leaf, selected, linkTo }) {
  const list = useRef(/** @type {any} */ (null));
  useEffect(() => {
    list.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' });
  }, [selected]);
  const path = pathTo(tree, leaf).filter(i => tree.n.turn[i] > 0);
  if (!path.length) return html`<div class="empty">No turn yet.</div>`;
  return html`<div ref=${list}>${path.map(i => {
    const [text, isCall] = actOf(tree, i);
    const goals = tree.n.goals[i];
    const bad = (tree.n.outcome[i] ?? '').endsWith('_fault');
    return html`<${A} key=${i} class=${`turn-row ${i === selected ? 'on' : ''}`} replace=${true} href=${linkTo(i)}
      aria-current=${i === selected ? 'true' : undefined}><span class="num faint">${tree.n.turn[i]}</span>
      <span class=${goals.length ? 'bullet goal-bullet' : bad ? 'bullet bad-bullet' : 'bullet'}
        aria-hidden="true"></span>
      ${goals.map((/** @type {string} */ goal) => html`<span class="tag gold">${plain(goal)}</span>`)}
      ${bad ? html`<span class="tag bad">✗ ${words(tree.n.outcome[i])}</span>` : null}
      <span class=${isCall ? 'act code' : 'act'}>${text || '(said nothing)'}</span><//>`;
  })}</div>`;
}

/** Notes on this episode. @param {any} props */
export function NotesPane({ store, notes, task, trial, onPick, talk }) {
  const mine = notes.filter((/** @type {any} */ note) => note.task_id === task && String(note.trial) === String(trial));
  return html`<div class="pane" tabindex="0" role="group" aria-label="Notes on this episode">
    ${mine.map(
      (/** @type {any} */ note) => html`<div class="note-item"><${NoteList} notes=${[note]} />
      <button type="button" class="chip" onClick=${() => onPick(`${note.path}.${note.turn}`, note.seq)}>
        ${note.seq == null ? 'go to the conversation' : `go to message ${note.seq}`}</button></div>`,
    )}
    ${mine.length ? null : html`<p class="soft">No note on this episode.</p>`}
    ${
      talk.canNote
        ? html`<button type="button" class="btn small" onClick=${() => talk.change({ note: 'all', pane: 'talk' })}>
      Write a note about this conversation</button>`
        : store?.annotations?.reason
          ? html`<p class="soft">Notes cannot be written here: ${plain(store.annotations.reason)}.</p>`
          : null
    }</div>`;
}

/** Which branch the conversation follows, and how it is shown. @param {any} props */
export function TalkHead({ tree, leaf, selected, inner, chosen, branched, change, talk }) {
  const turns = tree.n.turn[leaf];
  const name =
    branched && isGoldenPath(tree, pathTo(tree, leaf)) && leaf === leafOf(tree, tree.root)
      ? html`<span class="gold-text">★ Golden path</span>`
      : branched
        ? `Branch ${plain(tree.n.path[selected]) || 'root'}`
        : 'Conversation';
  return html`<div class="talk-head"><h2>${name}</h2>
    <span class="soft num">${chosen ? `turn ${tree.n.turn[selected]} of ${turns}` : counted(turns, 'turn')}</span>
    <span class="grow"></span>
    <${Copy} text=${() => location.href} label="Copy link" class="chip" />
    ${
      talk.canNote
        ? html`<button type="button" class="chip"
      onClick=${() => change({ note: 'all' })}>Note</button>`
        : null
    }
    <${Segments} label="Whose view" value=${inner ? 'all' : 'user'} choices=${[
      ['all', 'Everything'],
      ['user', 'What the user hears'],
    ]}
      onPick=${(/** @type {string} */ next) => change({ view: next === 'user' ? 'user' : null })} /></div>`;
}

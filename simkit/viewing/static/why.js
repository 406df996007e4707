// Why an episode has its reward: per goal what was wanted and what came nearest, parts, faults, and the task.
import { html } from './html.js';
import { counted, f2, plain, shown, words } from './text.js';

/**
 * @param {{episode: any, onPick: (key: string, seq?: number | null) => void}} props `onPick` goes to a
 *   `PATH.TURN`
 */
export function Why({ episode, onPick }) {
  return html`<div class="pane" tabindex="0" role="group" aria-label="Why it has this reward">
    <${WhyContent} episode=${episode} onPick=${onPick} /></div>`;
}

/**
 * The same without a pane of its own.
 * @param {{episode: any, onPick: (key: string, seq?: number | null) => void}} props
 */
export function WhyContent({ episode, onPick }) {
  const missed = (episode.why ?? []).filter((/** @type {any} */ goal) => !goal.earned);
  const earned = (episode.why ?? []).filter((/** @type {any} */ goal) => goal.earned);
  return html`<div class="whys">
    ${episode.error ? html`<div class="problem"><p>${shown(episode.error)}</p></div>` : null}
    <${Faults} faults=${episode.faults ?? []} onPick=${onPick} />
    ${missed.length ? html`<h2>Missed <small>${counted(missed.length, 'goal')}</small></h2>` : null}
    ${missed.map((/** @type {any} */ goal) => html`<${Missed} goal=${goal} onPick=${onPick} />`)}
    ${earned.length ? html`<h2>Earned <small>${counted(earned.length, 'goal')}</small></h2>` : null}
    ${earned.map(
      (/** @type {any} */ goal) => html`<div class="why earned"><${GoalName} goal=${goal} onPick=${onPick} />
      <code class="wanted">${shown(goal.wanted)}</code></div>`,
    )}
    ${missed.length || earned.length ? null : html`<p class="soft">This task has no goals that could be explained.</p>`}
    <${Parts} parts=${episode.parts ?? []} />
    ${
      episode.flags
        ? html`<p class="soft">⚑ ${counted(episode.flags, 'flag')} on messages of this episode: doubts of the user
      simulator or of an agent, beside the messages.</p>`
        : null
    }
  </div>`;
}

function GoalName({ goal, onPick }) {
  const text = html`${goal.earned ? '◆' : '○'} ${plain(goal.goal)}`;
  if (goal.turn == null || goal.path == null) return html`<b class="goal-name">${text}</b>`;
  return html`<button type="button" class="goal-name"
    onClick=${() => onPick(`${goal.path}.${goal.turn}`)}><b>${text}</b>
    <span class="soft num">turn ${goal.turn}</span></button>`;
}

function Missed({ goal, onPick }) {
  const { nearest } = goal;
  return html`<div class="why missed"><${GoalName} goal=${goal} onPick=${onPick} />
    <div><span class="label">wanted</span> <code class="wanted">${shown(goal.wanted)}</code></div>
    ${
      nearest
        ? html`<div class="nearest"><span class="label">nearest</span>
      <code class="wanted">${shown(`${nearest.name} ${argumentsOf(nearest.arguments)}`)}</code>
      <button type="button" class="chip" onClick=${() => onPick(`${nearest.path}.${nearest.turn}`, nearest.seq)}>
        turn ${nearest.turn}</button></div>`
        : null
    }
    ${
      goal.differences?.length
        ? html`<table class="numbers"><thead><tr><th>argument</th><th>wanted</th><th>given</th></tr></thead>
      <tbody>${goal.differences.map(
        (/** @type {any} */ each) => html`<tr><td><code>${plain(each.argument)}</code></td>
        <td><code class="good-text">${value(each.wanted)}</code></td>
        <td><code class="bad-text">${value(each.got)}</code></td></tr>`,
      )}</tbody></table>`
        : goal.text
          ? html`<p class="soft">${shown(goal.text)}</p>`
          : null
    }
  </div>`;
}

/** @param {unknown} given */
function argumentsOf(given) {
  return typeof given === 'string' ? given : JSON.stringify(given);
}

/** @param {unknown} given */
function value(given) {
  if (given == null) return html`<span class="faint">nothing</span>`;
  return shown(typeof given === 'string' ? given : JSON.stringify(given));
}

function Faults({ faults, onPick }) {
  if (!faults.length) return null;
  return html`<h2>Faults <small>${faults.length}</small></h2>
    ${faults.map(
      (/** @type {any} */ fault) => html`<div class="why fault">
      <button type="button" class="goal-name" onClick=${() => onPick(`${fault.path}.${fault.turn}`)}>
        <b class="bad-text">✗ ${plain(fault.kind || `${fault.source} fault`)}</b> <span
          class="soft">${plain(fault.source)},
        turn ${fault.turn}</span></button>
      <p>${shown(fault.message)}</p>
      ${
        fault.traceback
          ? html`<details class="fold"><summary>Traceback</summary>
        <pre class="trace">${shown(fault.traceback)}</pre></details>`
          : null
      }</div>`,
    )}`;
}

function Parts({ parts }) {
  if (!parts.length) return null;
  return html`<h2>Parts of the reward</h2><table class="numbers"><thead><tr><th>part</th><th class="right">weight</th>
    <th class="right">value</th></tr></thead><tbody>${parts.map(
      (/** @type {any} */ part) => html`<tr>
    <td>${plain(part.name)}</td><td class="right num">${f2(part.weight)}</td><td
      class="right num">${f2(part.value)}</td></tr>`,
    )}
    </tbody></table>`;
}

/** What the user was told, and the goals. */
export function TaskPane({ episode }) {
  return html`<div class="pane" tabindex="0" role="group" aria-label="The task"><h2>What the user was told</h2>
    <p class="instructions" dir="auto">${
      shown(episode.instructions) ??
      html`<span class="faint">This task has no
      instructions.</span>`
    }</p>
    ${
      episode.task_goals?.length
        ? html`<h2>Goals <small>${episode.task_goals.length}</small></h2>
      <ul class="plain-list">${episode.task_goals.map(
        (/** @type {any} */ goal) => html`<li><b>${plain(goal.name)}</b>
        <code
          class="wanted">${shown(argumentsOf(goal.wanted))}</code></li>`,
      )}</ul>`
        : null
    }
    <p class="soft">How it ended: ${words(episode.outcome)}.</p></div>`;
}

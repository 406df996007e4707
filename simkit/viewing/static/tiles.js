// The numbers of a run at a glance.
import { html } from './html.js';
import { Interval, PassK, Shares } from './charts.js';
import { useRoute } from './route.js';
import { count, counted, duration, f3, money, percent, plain, words } from './text.js';
import { useTables } from './widgets.js';

const COLOURS = {
  goals_done: 'var(--good)',
  user_ended: 'color-mix(in oklab, var(--good) 62%, var(--zero))',
  agent_ended: 'color-mix(in oklab, var(--good) 40%, var(--zero))',
  running: 'var(--accent)',
  unfinished: 'var(--unscored)',
};

/** @param {string} outcome */
const colourOf = outcome => COLOURS[outcome] ?? (/fault/.test(outcome) ? 'var(--bad)' : 'var(--gold-line)');

export function Tiles({ run }) {
  const endings = Object.entries(run.outcomes ?? {}).map(([name, n]) => [name === 'null' ? 'running' : name, n]);
  const total = endings.reduce((sum, [, n]) => sum + Number(n), 0);
  if (!total) return null;
  const partial = run.status === 'running' ? html` <span class="pill live tiny">so far</span>` : null;
  const scored = run.reward?.value != null;
  return html`<div class="tiles">
    ${scored ? html`<${Score} label="Average reward" estimate=${run.reward} show=${f3} partial=${partial} />` : null}
    ${
      scored
        ? html`<${Score} label="Success rate" estimate=${run.success} show=${percent}
      partial=${partial} />`
        : null
    }
    ${
      run.harvest
        ? html`<${Harvest} harvest=${run.harvest} />`
        : html`<${PassTile} values=${run.pass_k}
      partial=${partial} />`
    }
    <${Endings} run=${run} endings=${endings} total=${total} /></div>`;
}

function Score({ label, estimate, show, partial }) {
  const interval =
    estimate.low == null ? 'no interval: too few tasks' : `95%: ${show(estimate.low)} to ${show(estimate.high)}`;
  return html`<div class="card tile"><h2>${label}${partial}</h2><div class="big num">${show(estimate.value)}</div>
    <div class="soft num">${interval}</div>
    <${Interval} estimate=${estimate} width=${190} label=${label} /></div>`;
}

function PassTile({ values, partial }) {
  const tables = useTables();
  if (!values || values.length < 2) return null;
  const few = tables ? values : values.slice(0, 4);
  return html`<div class="card tile"><h2>pass^k${partial} <small>all of k trials succeed</small></h2><div
    class="pass-tile">
    <${PassK} values=${values} width=${110} height=${62} />
    <div class="num soft">${few.map(
      (/** @type {number | null} */ value, /** @type {number} */ i) =>
        html`<div>k = ${i + 1} <b>${f3(value)}</b></div>`,
    )}</div></div></div>`;
}

function Harvest({ harvest }) {
  const { sft_examples, kto_desirable, kto_undesirable, dpo_pairs, golden_branches, failed_branches } = harvest;
  return html`<div class="card tile"><h2>Harvest</h2><div class="big num">${count(sft_examples)}${' '}
    <span class="unit">golden ${sft_examples === 1 ? 'conversation' : 'conversations'}</span></div>
    <div class="soft num">KTO ${count(kto_desirable)} desirable, ${count(kto_undesirable)} not · DPO
      ${' '}${counted(dpo_pairs, 'pair')}</div>
    <div class="soft num">${count(golden_branches)} golden and ${count(failed_branches)} failed branches</div></div>`;
}

function Endings({ run, endings, total }) {
  const { route, change } = useRoute();
  const { only = '' } = route.query;
  const branches = run.episodes.branches.reduce(
    (/** @type {number} */ sum, /** @type {number | null} */ n) => sum + (n ?? 0),
    0,
  );
  return html`<div class="card tile"><h2>How ${counted(total, 'episode')} ended</h2>
    <${Shares} parts=${endings.map(([name, n]) => [words(name), n, colourOf(name)])} />
    <div class="keys">${endings.map(
      ([name, n]) => html`<button type="button" key=${name} aria-pressed=${only === name}
      onClick=${() => change({ only: only === name ? null : name })}><i
        style=${`background:${colourOf(name)}`}></i>${words(plain(name))}
      ${' '}<b class="num">${count(n)}</b></button>`,
    )}</div>
    <div class="soft num">${[
      branches && counted(branches, 'agent turn'),
      counted(run.faults ?? 0, 'fault'),
      run.cost && money(run.cost),
      run.seconds != null && duration(run.seconds),
    ]
      .filter(Boolean)
      .join(' · ')}</div></div>`;
}

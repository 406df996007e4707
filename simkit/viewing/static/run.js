// One run: scores, every task and trial, every tree, the table of episodes, training, and what was configured.
import { html, useContext, useEffect, useMemo, useState } from './html.js';
import { ClientContext, LiveContext, useData, path as api } from './client.js';
import { CellLegend, Cells } from './cells.js';
import { EpisodeTable } from './episode_table.js';
import { A, address, focusSearch, useKeys, useRoute } from './route.js';
import { StoreContext } from './notes.js';
import { nameOf, quietFor, stillness } from './runs.js';
import { count, counted, duration, f3, plain, pretty, shown } from './text.js';
import { Tiles } from './tiles.js';
import { Training } from './training.js';
import { Trees } from './trees.js';
import { Command, Fold, Problem, Status, Waiting, copyText } from './widgets.js';

/** @param {{id: string, theme: string}} props */
export function RunPage({ id, theme }) {
  const live = useContext(LiveContext);
  const [running, setRunning] = useState(true);
  const { value, error } = useData(api('runs', id), running ? live.version : 0);
  const { route, go } = useRoute();
  useEffect(() => {
    if (!value) return;
    setRunning(
      value.status === 'running' || (value.parts ?? []).some((/** @type {any} */ part) => part.status === 'running'),
    );
    if (value.run_id !== id) go(address(['runs', value.run_id], route.query), true);
  }, [value, id]);
  useKeys({ Escape: () => go('/') });
  if (error && !value) {
    const title = error.status === 404 ? `No run “${plain(id)}”` : plain(id);
    return html`<main class="page"><${Problem} error=${error} title=${title} /></main>`;
  }
  if (!value) return html`<main class="page"><${Waiting} /></main>`;
  return html`<${Run} run=${value} running=${running} theme=${theme} lost=${error} />`;
}

function Run({ run: given, running, theme, lost }) {
  const { go, change, route } = useRoute();
  const live = useContext(LiveContext);
  const { exported } = useContext(ClientContext);
  const run = useMemo(() => settled(given), [given]);
  const l = run.episodes;
  const played = l.task_id.length > 0;
  const pick = (/** @type {string} */ task, /** @type {number} */ trial) =>
    go(address(['runs', run.run_id, task, String(trial)]));
  const branched = l.branches.some(
    (/** @type {number | null} */ n, /** @type {number} */ i) => (n ?? 0) > (l.turns[i] ?? 0),
  );
  const wide = new Set(l.task_id).size * (Math.max(0, ...trialsOf(l)) + 1) > 1200;
  useKeys({
    f: () => change({ only: route.query.only ? null : 'fail' }),
    y: () => copyText(location.href),
    '/': focusSearch,
    d: () => change({ data: route.query.data === '1' ? null : '1' }),
  });
  const [finished, expected] = live.running[run.run_id] ?? [run.finished, run.expected];
  return html`<main class="page"><div class="run-title"><h1>${nameOf(run)}</h1>
      <${Status} status=${run.status} gone=${stillness(run) === 'gone'}>${
        run.status === 'running' && expected
          ? html` · <span class="num">${count(finished)} of ${count(expected)}</span>`
          : null
      }<//><span class="grow"></span>
      ${
        exported
          ? null
          : html`<${A} class="btn small" href=${address(['search'], { run: run.run_id })}>Search its messages<//>`
      }
      <${A} class="btn small" href=${address(['notes'], { run: run.run_id })}>Notes<//></div>
    <${Facts} run=${run} />
    <${Troubles} run=${run} lost=${lost} />
    <${Tiles} run=${run} />
    <${Training} run=${run} running=${running} />
    ${
      played
        ? html`<div class=${wide ? 'run-body one' : 'run-body'}>
        <section class="card pad"
          aria-label="Every episode"><h2>Every episode <small>${counted(new Set(l.task_id).size, 'task')} ×
            ${' '}${counted(Math.max(0, ...trialsOf(l)) + 1, 'trial')}, worst task first</small></h2>
          <${CellLegend} episodes=${l} /><${Cells} episodes=${l} onPick=${pick} theme=${theme} />
          ${branched ? html`<${Trees} run=${run} running=${running} />` : null}</section>
        <${EpisodeTable} run=${run} /></div>`
        : html`<${NothingPlayed} run=${run} />`
    }
    <${Details} run=${run} /></main>`;
}

/** Episodes without an end are unfinished, not running, where nothing runs. @param {any} run */
function settled(run) {
  if (run.status === 'running') return run;
  const { running = [], outcome } = run.episodes;
  const { running: open, null: none, ...ended } = run.outcomes ?? {};
  const unfinished = (open ?? 0) + (none ?? 0);
  const episodes = {
    ...run.episodes,
    outcome: outcome.map((/** @type {string | null} */ each) => each ?? 'unfinished'),
    running: running.map(() => false),
  };
  return { ...run, episodes, outcomes: unfinished ? { ...ended, unfinished } : ended };
}

/** Trials without the spread of a long list of arguments. */
const trialsOf = (/** @type {any} */ l) => new Set(/** @type {number[]} */ (l.trial));

function Facts({ run }) {
  const { models = {} } = run;
  const facts = [
    run.recipe,
    run.world && `${run.world}${run.split ? ` ${run.split}` : ''}`,
    run.agent && `agent ${run.agent}${models.agent ? ` on ${models.agent}` : ''}`,
    run.user && `user ${run.user}${models.user ? ` on ${models.user}` : ''}`,
    models.judge && `judge ${models.judge}`,
    run.config?.seed != null && `seed ${run.config.seed}`,
  ].filter(Boolean);
  return html`<div class="facts"><span
    class="id">${plain(run.run_id)}</span>${facts.map(fact => html`<span>${plain(fact)}</span>`)}
    ${
      run.part_of
        ? html`<span>${plain(run.stage)} of <${A} class="link"
          href=${address(['runs', run.part_of])}>${plain(run.part_of)}<//></span>`
        : null
    }</div>`;
}

/** Why the numbers may be less than they seem: a silent run, its error, what doctor says. */
function Troubles({ run, lost }) {
  const store = useContext(StoreContext);
  const place = store?.store ? ` --store ${store.store}` : '';
  const still = stillness(run);
  const doctor = (run.doctor ?? []).filter(
    (/** @type {string} */ line) =>
      !(run.error && line.includes(run.error)) && !(still && line.includes('simkit resume')),
  );
  const stopped = ['stopped', 'interrupted', 'failed'].includes(run.status);
  return html`${
    lost
      ? html`<div class="banner warn"
    role="status">${plain(lost.message)} The page shows what it had.</div>`
      : null
  }
    ${
      still
        ? html`<div class="banner warn" role="status"><p>${
            still === 'gone'
              ? 'No process of this machine plays this run any more. It goes on where it stopped:'
              : `This run has written no line for ${duration(quietFor(run) / 1000)}. If it was killed:`
          }</p>
      <${Command} text=${`simkit resume ${run.run_id}${place}`} /></div>`
        : null
    }
    ${run.error ? html`<div class="problem" role="alert"><pre class="trace">${shown(run.error)}</pre></div>` : null}
    ${
      stopped && run.finished < (run.expected ?? 0)
        ? html`<div class="banner"><p>${counted(run.expected - run.finished, 'episode')}
      ${' '}of ${run.expected.toLocaleString('en')}${' '}
      ${run.expected - run.finished === 1 ? 'was' : 'were'} not played.</p>
      <${Command} text=${`simkit resume ${run.run_id}${place}`} /></div>`
        : null
    }
    ${
      doctor.length
        ? html`<div
      class="banner warn">${doctor.map((/** @type {string} */ line) => html`<p>${shown(line)}</p>`)}</div>`
        : null
    }`;
}

function NothingPlayed({ run }) {
  if (run.parts?.length || run.status === 'done') return null;
  return html`<div
    class="empty">
    <p>${run.status === 'running' ? 'The first episode is on its way.' : 'This run played no episode.'}</p>
    ${run.error ? html`<p>Mend what the message above names, then resume the run or start it again.</p>` : null}</div>`;
}

function Details({ run }) {
  const { exported } = useContext(ClientContext);
  const store = useContext(StoreContext);
  const place = store?.store ? ` --store ${store.store}` : '';
  const units = run.units?.not_played ?? {};
  const unplayed = Object.entries(units);
  const file = plain(run.name || 'run').replace(/\W+/g, '-');
  return html`<section class="details" aria-label="Details">
    ${
      run.summary?.length
        ? html`<${Fold} summary="Summary"><table class="numbers"><tbody>
      ${run.summary.map(
        (/** @type {any} */ [label, value, low, high]) => html`<tr><td>${plain(label)}</td>
        <td class="right num">${number(value)}</td><td
          class="right num soft">${low == null ? '' : `${number(low)} to ${number(high)}`}</td></tr>`,
      )}
      </tbody></table><//>`
        : null
    }
    ${
      unplayed.length
        ? html`<${Fold} summary="Not played"><table class="numbers"><tbody>${unplayed.map(
            ([reason, n]) => html`<tr><td>${plain(reason)}</td><td class="right num">${n}</td></tr>`,
          )}</tbody></table><//>`
        : null
    }
    ${
      exported
        ? null
        : html`<${Fold} summary="Send these pages as a file"><p
          class="soft">One HTML file that opens without a server. Name
            tasks to send only these, and --redact what others must not read.</p>
            <${Command}
              text=${`simkit view ${run.run_id} --export ${file}.html${place}`} /><//>`
    }
    <${Fold} summary="Configuration"><pre class="trace">${shown(pretty(run.config))}</pre><//></section>`;
}

/** @param {unknown} value */
function number(value) {
  if (typeof value !== 'number')
    return plain(value == null ? '–' : typeof value === 'string' ? value : JSON.stringify(value));
  return Number.isInteger(value) ? value.toLocaleString('en') : f3(value);
}

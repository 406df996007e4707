// The trees of a run as small pictures, in pages.
import { html, useContext, useEffect, useState } from './html.js';
import { ClientContext, LiveContext, path as api } from './client.js';
import { A, address } from './route.js';
import { f2, plain } from './text.js';
import { Thumbnail } from './tree_map.js';
import { Waiting } from './widgets.js';

const READING = 'reading…';

/** @param {{run: any, running: boolean}} props */
export function Trees({ run, running }) {
  const client = useContext(ClientContext);
  const live = useContext(LiveContext);
  const [pages, setPages] = useState(/** @type {any[]} */ ([]));
  const [state, setState] = useState(READING);
  const first = api('runs', run.run_id, 'trees');
  const ask = (/** @type {string | null} */ from) => {
    setState(READING);
    return client.get(from ? `${first}?from=${encodeURIComponent(from)}` : first).then(
      page => {
        setState('');
        return page;
      },
      error => {
        setState(error.message);
        return null;
      },
    );
  };
  useEffect(() => {
    ask(null).then(page => page && setPages(old => [page, ...old.slice(1)]));
  }, [first, running ? live.version : 0]);
  const next = pages.at(-1)?.next;
  const found = Object.assign({}, ...pages.map(page => page.trees));
  const names = Object.keys(found);
  if (!pages.length) return state === READING ? html`<${Waiting} />` : html`<p class="soft">${plain(state)}</p>`;
  if (!names.length) return null;
  const { episodes } = run;
  const rewards = new Map(
    episodes.task_id.map((/** @type {string} */ task, /** @type {number} */ i) => [
      `${task}/${episodes.trial[i]}`,
      episodes.reward[i],
    ]),
  );
  names.sort((a, b) => (rewards.get(a) ?? -1) - (rewards.get(b) ?? -1));
  const single = !episodes.trial.some((/** @type {number} */ trial) => trial > 0);
  return html`<h2 class="sub">Every tree <small>turns to the right; gold is the path that was kept</small></h2>
    <div class="thumbs" tabindex="0" role="group" aria-label="Every tree">${names.map(
      name => html`<${Thumb} key=${name} run=${run.run_id}
      name=${name} nodes=${found[name]} reward=${rewards.get(name)} single=${single} />`,
    )}
      ${
        next
          ? html`<button type="button" class="btn small" onClick=${() =>
              ask(next).then(page => page && setPages(old => [...old, page]))}>More trees</button>`
          : null
      }
      ${state ? html`<span role="status">${state}</span>` : null}</div>`;
}

function Thumb({ run, name, nodes, reward, single }) {
  const at = name.lastIndexOf('/');
  const [task, trial] = [name.slice(0, at), name.slice(at + 1)];
  return html`<${A} class="thumb" href=${address(['runs', run, task, trial])} title=${plain(name)}><${Thumbnail}
    nodes=${nodes} />
    <span class="thumb-name"><span class="cut">${plain(single ? task : name)}</span>
      <b class=${`num ${(reward ?? 0) >= 1 ? 'good-text' : 'warn-text'}`}>${f2(reward)}</b></span><//>`;
}

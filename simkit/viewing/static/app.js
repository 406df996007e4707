// The frame of all pages: the header, the address, the theme, and what the server says as it changes.
import { html, render, useContext, useEffect, useErrorBoundary, useMemo, useState } from './html.js';
import { Client, ClientContext, LiveContext, useData, useEvents } from './client.js';
import { ComparePage } from './compare.js';
import { EpisodePage } from './episode.js';
import { Help } from './help.js';
import { NotesPage, StoreContext } from './notes.js';
import { A, MovesContext, RouteContext, address, useKeys, useNavigation, useRoute } from './route.js';
import { RunPage } from './run.js';
import { RunsPage } from './runs.js';
import { SearchPage } from './search.js';
import { plain } from './text.js';
import { Problem } from './widgets.js';

/** The theme that was chosen on this machine, or the system's. */
function firstTheme() {
  try {
    const kept = localStorage.getItem('simkit-theme');
    if (kept === 'dark' || kept === 'light') return kept;
  } catch {
    // Pages from files and private windows may have no storage; the system's theme holds then.
  }
  return matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
}

/** @returns {[string, () => void]} */
function useTheme() {
  const [theme, set] = useState(firstTheme);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  const toggle = () => {
    const next = theme === 'dark' ? 'light' : 'dark';
    document.documentElement.dataset.theme = next;
    set(next);
    try {
      localStorage.setItem('simkit-theme', next);
    } catch {
      // Without storage the choice holds until the page is left.
    }
  };
  return [theme, toggle];
}

function Root({ client }) {
  const live = useEvents(client);
  return html`<${ClientContext.Provider} value=${client}><${LiveContext.Provider} value=${live}><${Routed} /><//><//>`;
}

function Routed() {
  const { route, moves } = useNavigation();
  const live = useContext(LiveContext);
  const store = useData('/api/version', live.version).value ?? null;
  return html`<${MovesContext.Provider} value=${moves}><${RouteContext.Provider}
    value=${route}><${StoreContext.Provider}
    value=${store}><${Frame} /><//><//><//>`;
}

function Frame() {
  const { route } = useRoute();
  const [theme, toggleTheme] = useTheme();
  const [help, setHelp] = useState(false);
  useKeys({ '?': () => setHelp(true), t: toggleTheme });
  const crumbs = useMemo(() => crumbsOf(route), [route]);
  useEffect(() => {
    document.title = [...crumbs.map(([text]) => plain(text)).reverse(), 'simkit'].join(' · ');
  }, [crumbs]);
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the page</a>
    <header class="top"><${A} class="brand" href="/"><${Logo} />simkit<//>
      <nav class="crumbs" aria-label="Where you are">${crumbs.map(
        ([text, href], i) =>
          html`<i aria-hidden="true">/</i>${
            i < crumbs.length - 1
              ? html`<${A} href=${href}>${plain(text)}<//>`
              : html`<b aria-current="page">${plain(text)}</b>`
          }`,
      )}</nav>
      <span class="grow"></span><${Exported} />
      <button type="button" class="icon" title="Keys (?)" aria-label="Keys" onClick=${() => setHelp(true)}>?</button>
      <button type="button" class="icon" title="Light or dark (t)" aria-label="Light or dark" onClick=${toggleTheme}>
        <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><circle cx="8" cy="8" r="6" /><path
          d="M8 2a6 6 0 0 1 0 12z" /></svg>
      </button></header>
    <${Lost} />
    <div id="main" tabindex="-1"><${Page} key=${pageKey(route)} theme=${theme} /></div>
    ${help ? html`<${Help} onClose=${() => setHelp(false)} />` : null}`;
}

/** Moves the focus, because the address after `#` is the page's in an export. @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

function Lost() {
  const live = useContext(LiveContext);
  const store = useContext(StoreContext);
  const gone = (store?.notes ?? []).find((/** @type {string} */ note) => note.includes('is gone'));
  if (!live.lost && !gone) return null;
  return html`<div class="banner warn lost" role="status">${
    live.lost
      ? html`The server does not answer. The page shows what it had, and goes on when${' '}
          <code>simkit view</code>${' '}
          runs again.`
      : plain(gone)
  }</div>`;
}

/** What an exported file lacks. */
function Exported() {
  const { exported } = useContext(ClientContext);
  if (!exported) return null;
  return html`<details class="exported"><summary class="chip">export</summary><div><p>This is an export of
    <code>simkit view</code>. Not in it:</p><ul>${(exported.left_out ?? []).map(
      each => html`<li key=${each}>${plain(each)}</li>`,
    )}</ul></div></details>`;
}

function Logo() {
  return html`<svg width="20" height="20" viewBox="0 0 20 20" aria-hidden="true"><path class="logo-gold" d="M3 5h14" />
    <path class="logo-forks" d="M7 5v5q0 2 2 2h5M7 5v9q0 2 2 2h3" /></svg>`;
}

/** @param {import('./route.js').Route} route @returns {[string, string][]} */
function crumbsOf({ page, parts, query }) {
  if (page === 'runs' && parts.length === 1) return [[parts[0], '']];
  if (page === 'runs' && parts.length === 3)
    return [
      [parts[0], address(['runs', parts[0]])],
      [`${parts[1]}/${parts[2]}`, ''],
    ];
  if (page === 'compare') return [['compare', '']];
  if (page === 'search' || page === 'notes') {
    return [
      ...(query.run ? /** @type {[string, string][]} */ ([[query.run, address(['runs', query.run])]]) : []),
      [page, ''],
    ];
  }
  return page ? [[page, '']] : [];
}

/** Pages start anew where their subject is another one. @param {import('./route.js').Route} route */
const pageKey = ({ page, parts, query }) =>
  [page, ...parts, page === 'compare' ? `${query.a} ${query.b}` : ''].join('/');

function Page({ theme }) {
  const { route } = useRoute();
  const [error] = useErrorBoundary();
  const { page, parts } = route;
  if (error) {
    const hint = 'This is a mistake of the viewer. The address and this message are what a report needs.';
    return html`<main class="page"><${Problem} title="This page could not be drawn"
      error=${{ message: String(error), hint }} /></main>`;
  }
  if (!page) return html`<${RunsPage} />`;
  if (page === 'runs' && parts.length === 1) return html`<${RunPage} id=${parts[0]} theme=${theme} />`;
  if (page === 'runs' && parts.length === 3)
    return html`<${EpisodePage} run=${parts[0]} task=${parts[1]} trial=${parts[2]} />`;
  if (page === 'compare') return html`<${ComparePage} />`;
  if (page === 'search') return html`<${SearchPage} />`;
  if (page === 'notes') return html`<${NotesPage} />`;
  const error404 = {
    message: 'There is no such page.',
    hint: 'Addresses begin with /runs, /compare, /search or /notes.',
  };
  return html`<main class="page"><${Problem} title="Not found" error=${error404} /></main>`;
}

document.documentElement.dataset.theme = firstTheme();
render(html`<${Root} client=${new Client()} />`, /** @type {Element} */ (document.getElementById('app')));

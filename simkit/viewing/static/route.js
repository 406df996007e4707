// Addresses: each state of a page is in its URL. An export keeps the same addresses behind the `#`.
import { createContext, html, useContext, useEffect, useMemo, useRef, useState } from './html.js';
import { ClientContext } from './client.js';

/**
 * @typedef {{page: string, parts: string[], query: Record<string, string>, anchor: string, url: string}} Route
 */

/** @param {string} url @returns {Route} */
export function parse(url) {
  const [front, anchor = ''] = url.split('#');
  const [path, search = ''] = front.split('?');
  const parts = path.split('/').filter(Boolean).map(decoded);
  const query = Object.fromEntries(new URLSearchParams(search));
  return { page: parts[0] || '', parts: parts.slice(1), query, anchor, url };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * The address of a page; empty values of the query are left out.
 * @param {string[]} parts
 * @param {Record<string, unknown>} [query]
 * @param {string} [anchor]
 */
export function address(parts, query = {}, anchor = '') {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value != null && value !== '') search.set(key, String(value));
  const text = search.toString().replaceAll('%2F', '/').replaceAll('%2C', ',');
  return '/' + parts.map(encodeURIComponent).join('/') + (text ? `?${text}` : '') + (anchor ? `#${anchor}` : '');
}

/**
 * What pages do with addresses; the same functions for as long as the page is open, so that links need not be drawn
 * again. `change` alters the query of the address that is shown when it is called.
 * @typedef {{go: (url: string, replace?: boolean) => void, href: (url: string) => string,
 *   change: (query: Record<string, unknown>, replace?: boolean, anchor?: string) => void}} Moves
 */
/** @type {import('./vendor/preact.js').Context<Moves>} */
export const MovesContext = createContext(/** @type {any} */ (null));
/** @type {import('./vendor/preact.js').Context<Route>} */
export const RouteContext = createContext(/** @type {any} */ (null));

/** @returns {Moves & {route: Route}} */
export const useRoute = () => ({ ...useContext(MovesContext), route: useContext(RouteContext) });

/** Follows the address bar. @returns {{route: Route, moves: Moves}} */
export function useNavigation() {
  const { exported } = useContext(ClientContext);
  const here = () => {
    if (exported) return location.hash.slice(1) || exported.start;
    return location.pathname + location.search + location.hash;
  };
  const [url, set] = useState(here);
  useEffect(() => {
    const follow = () => set(here());
    addEventListener('popstate', follow);
    addEventListener('hashchange', follow);
    return () => {
      removeEventListener('popstate', follow);
      removeEventListener('hashchange', follow);
    };
  }, []);
  const moves = useMemo(() => {
    const href = (/** @type {string} */ to) => (exported ? `#${to}` : to);
    const go = (/** @type {string} */ to, replace = false) => {
      if (to === here()) return;
      const other = to.split(/[?#]/)[0] !== here().split(/[?#]/)[0];
      moveTo(href(to), replace);
      set(here());
      if (other && !replace) scrollTo(0, 0);
    };
    const change = (/** @type {Record<string, unknown>} */ query, replace = true, anchor = '') => {
      const now = parse(here());
      go(address([now.page, ...now.parts].filter(Boolean), { ...now.query, ...query }, anchor), replace);
    };
    return { go, href, change };
  }, []);
  const route = useMemo(() => parse(url), [url]);
  return { route, moves };
}

/** Writes an address into the history. @param {string} url @param {boolean} replace */
function moveTo(url, replace) {
  try {
    history[replace ? 'replaceState' : 'pushState'](replace ? history.state : {}, '', url);
  } catch (error) {
    // The frame of a notebook has no address of its own, only what stands behind the `#`.
    if (!url.startsWith('#')) throw error;
    location.hash = url;
  }
}

/** A link within the viewer. A click with a modifier or another button is the browser's. */
export function A({ href, replace = false, ...rest }) {
  const moves = useContext(MovesContext);
  const follow = (/** @type {MouseEvent} */ event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || event.button) return;
    event.preventDefault();
    moves.go(href, replace);
  };
  return html`<a href=${moves.href(href)} onClick=${follow} ...${rest} />`;
}

/**
 * Keys of a page. Never with Ctrl, Cmd or Alt; in fields only Escape, which leaves them.
 * @param {Record<string, (event: KeyboardEvent) => void>} keys
 * @param {boolean} [modal] they are those of a dialog; while one is open, all others rest
 */
export function useKeys(keys, modal = false) {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const press = (/** @type {KeyboardEvent} */ event) => {
      if (event.metaKey || event.ctrlKey || event.altKey || event.defaultPrevented) return;
      const target = /** @type {HTMLElement} */ (event.target);
      if (target.closest?.('input, textarea, select')) {
        if (event.key === 'Escape') target.blur();
        return;
      }
      if (event.key === 'Enter' && target.closest?.('a, button, summary')) return;
      if (!modal && document.querySelector('[aria-modal=true]')) return;
      const found = latest.current[event.key];
      if (!found) return;
      event.preventDefault();
      found(event);
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);
}

/**
 * A value that Back restores: it is kept with the entry of the history, not in the address.
 * @template T
 * @param {string} name
 * @param {T} initial
 * @returns {[T, (value: T) => void]}
 */
export function usePlace(name, initial) {
  const [value, set] = useState(() => history.state?.[name] ?? initial);
  const keep = (/** @type {T} */ next) => {
    set(next);
    try {
      history.replaceState({ ...history.state, [name]: next }, '');
    } catch {
      // A browser bounds how often an address may be replaced; the place is then not kept.
    }
  };
  return [value, keep];
}

/** Moves the focus to the field of a page's search, for the key `/`. */
export function focusSearch() {
  const field = /** @type {HTMLInputElement | null} */ (document.querySelector('input[type=search]'));
  field?.focus();
  field?.select();
}

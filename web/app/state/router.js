// Hash routes: #/flows?verdict=SUSPICIOUS&flow=17. A view and its filters can be linked to.
import { computed, signal } from '../lib.js';

export const VIEWS = /** @type {const} */ (['overview', 'packets', 'flows', 'talkers', 'events', 'sensors', 'diagnose']);
/** @typedef {typeof VIEWS[number]} View */

/** @param {string} hash */
function parse(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?');
  const view = VIEWS.find((name) => name === path) ?? 'overview';
  return { view: /** @type {View} */ (view), params: Object.fromEntries(new URLSearchParams(query)) };
}

const route = signal(parse(location.hash));
export const view = computed(() => route.value.view);
/** @type {import('../../vendor/signals.js').ReadonlySignal<Record<string, string>>} */
export const params = computed(() => route.value.params);

addEventListener('hashchange', () => {
  route.value = parse(location.hash);
});

/** @param {View} to @param {Record<string, string | number | null | undefined>} [query] */
export function link(to, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== '') search.set(name, String(value));
  }
  const text = search.toString();
  return `#/${to}${text ? `?${text}` : ''}`;
}

/**
 * Changes parameters of the present view; an empty value removes one. Filters replace the history
 * entry, so that "back" leaves the view rather than undoing letters.
 * @param {Record<string, string | null>} changes
 */
export function setParams(changes) {
  const next = link(route.value.view, { ...route.value.params, ...changes });
  history.replaceState(null, '', next);
  route.value = parse(next);
}

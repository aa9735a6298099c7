// What a live table says before, instead of and after its rows.
import { html } from '../lib.js';
import { connection, paused } from '../state/live.js';
import { sensors } from '../state/store.js';
import { count } from '../format.js';
import { Notice } from './common.js';

/**
 * @param {{state: {rows: any[], loading: boolean, error: string | null, older: (() => void) | null}, what: string, filtered: boolean, children?: any}} props
 */
export function RowsState({ state, what, filtered, children }) {
  const { rows, loading, error, older } = state;
  const none = sensors.value.value?.length === 0;
  return html`
    ${error ? html`<${Notice} tone="bad" title=${`The list of ${what}s could not be read`}>${error}<//>` : null}
    ${rows.length > 0
      ? children
      : error
        ? null
        : loading
          ? html`<${Notice} title="Asking the collector…" />`
          : filtered
            ? html`<${Notice} title=${`No ${what} matches these filters`}>Change or clear a filter; new ones that match appear here by themselves.<//>`
            : html`<${Notice} title=${`No ${what} yet`}>${none ? 'No sensor has connected yet: start one with netml-agent run.' : 'The sensor is connected and waits for traffic.'}<//>`}
    <div class="table-foot">
      <p class="quiet small number">${count(rows.length)} ${rows.length === 1 ? what : `${what}s`} shown${paused.value ? ' · paused' : connection.value === 'live' ? ' · live' : ''}</p>
      ${older ? html`<button type="button" class="button small" onClick=${older}>Load older</button>` : null}
    </div>
  `;
}

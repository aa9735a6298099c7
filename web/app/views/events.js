// What sensors report about themselves and about alarms.
import { html } from '../lib.js';
import { liveEvents } from '../state/store.js';
import { useRows } from '../state/rows.js';
import { Table } from '../components/table.js';
import { Export, Panel, useTitle } from '../components/common.js';
import { RowsState } from '../components/rows-state.js';
import { visible, when } from '../format.js';

/** @type {Record<string, string>} */
const NO_FILTERS = {};
/** @param {any} e */
const keyOf = (e) => e.id ?? `${e.unix_ms} ${e.sensor} ${e.kind} ${e.message}`;

/** @type {import('../components/table.js').Column[]} */
const COLUMNS = [
  { key: 'time', label: 'Time', bare: true, cell: (e) => html`<span class="number">${when(e.unix_ms)}</span>` },
  { key: 'severity', label: 'Severity', bare: true, cell: (e) => html`<span class=${`severity severity-${e.severity === 'alarm' || e.severity === 'warning' ? e.severity : 'info'}`}>${e.severity}</span>` },
  { key: 'kind', label: 'Kind', cell: (e) => html`<span class="tag" dir="auto">${visible(e.kind)}</span>` },
  { key: 'sensor', label: 'Sensor', cell: (e) => html`<bdi>${e.sensor}</bdi>` },
  { key: 'message', label: 'Message', span: 6, className: 'cell-text', cell: (e) => html`<span dir="auto">${visible(e.message)}</span>` },
  {
    key: 'fields', label: 'Fields', span: 6, className: 'cell-text',
    cell: (e) => html`<span class="quiet small mono">${Object.entries(e.fields ?? {}).map(([name, value]) => visible(`${name}=${value}`)).join(' ')}</span>`,
  },
];

export function Events() {
  useTitle('Events');
  const state = useRows({ path: 'events', filters: NO_FILTERS, live: liveEvents.value, keyOf, timeOf: (e) => e.unix_ms });
  return html`<div class="view">
    <h1 class="visually-hidden">Events</h1>
    <${Panel} title="Events" id="events-title" note="alarms, losses and changes of state, newest first" aside=${html`<${Export} table="events" params=${{}} />`}>
      <${RowsState} state=${state} what="event" filtered=${false}>
        <${Table} label="Events" columns=${COLUMNS} rows=${state.rows} keyOf=${keyOf} onAway=${state.setHeld} waiting=${state.waiting} tall />
      <//>
    <//>
  </div>`;
}

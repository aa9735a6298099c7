// Packets, newest first, as they arrive.
import { html } from '../lib.js';
import { knownFlow, livePackets } from '../state/store.js';
import { useRows } from '../state/rows.js';
import { params, setParams } from '../state/router.js';
import { FILTERS, Filters, filterValues, sensorFilter } from '../components/filters.js';
import { Table } from '../components/table.js';
import { FalseAlarms, Probability, Verdict } from '../components/verdict.js';
import { Address, Export, Panel, useTitle } from '../components/common.js';
import { RowsState } from '../components/rows-state.js';
import { Icon } from '../components/icons.js';
import { FlowDialog } from './flow-detail.js';
import { protocolOf } from '../words.js';
import { clockMs, count, dateTime, UNKNOWN } from '../format.js';

const WANTED = [FILTERS.verdict, FILTERS.protocol, FILTERS.address, FILTERS.port, FILTERS.direction];

/** @param {any} p */
const hasPorts = (p) => p.protocol === 'tcp' || p.protocol === 'udp';
/** @param {any} p @param {'src_port' | 'dst_port'} end */
const port = (p, end) => (hasPorts(p) ? p[end] : UNKNOWN);

/** @type {import('../components/table.js').Column[]} */
const COLUMNS = [
  { key: 'time', label: 'Time', bare: true, cell: (p) => html`<span class="number" title=${dateTime(p.unix_ms)}>${clockMs(p.unix_ms)}</span>` },
  { key: 'verdict', label: 'Verdict', bare: true, cell: (p) => html`<${Verdict} name=${p.verdict} kind=${p.kind} />` },
  { key: 'direction', label: 'Dir.', span: 2, cell: (p) => html`<${Direction} value=${p.direction} />` },
  { key: 'protocol', label: 'Protocol', span: 2, cell: (p) => html`<span class="tag">${protocolOf(p.protocol)}</span>${p.tcp_flags ? html` <span class="quiet small mono" title=${p.tcp_flags}>${flagLetters(p.tcp_flags)}</span>` : null}` },
  {
    key: 'size', label: 'Size', right: true, span: 2,
    cell: (p) => html`<span class="number">${count(p.bytes)} B</span>${p.segments > 1 ? html`<span class="quiet small number" title=${`${p.segments} packets on the wire, handed over as one`}> ×${p.segments}</span>` : null}`,
  },
  { key: 'source', label: 'Source', cell: (p) => html`<${Address} ip=${p.src_ip} />`, className: 'cell-address', span: 4 },
  { key: 'sport', label: 'Port', span: 2, cell: (p) => html`<span class="number">${port(p, 'src_port')}</span>`, right: true },
  { key: 'destination', label: 'Destination', cell: (p) => html`<${Address} ip=${p.dst_ip} />`, className: 'cell-address', span: 4 },
  { key: 'dport', label: 'Port', span: 2, cell: (p) => html`<span class="number">${port(p, 'dst_port')}</span>`, right: true },
  { key: 'probability', label: 'Probability', span: 2, cell: (p) => html`<${Probability} verdict=${p.verdict} probability=${p.probability} />` },
  { key: 'alarms', label: 'False alarms a day', short: 'False al./day', right: true, span: 2, className: 'cell-narrow', cell: (p) => html`<${FalseAlarms} verdict=${p.verdict} expected=${knownFlow(p.flow_id)?.expected_false_alarms_per_day} />` },
  { key: 'flow', label: 'Flow', bare: true, span: 2, className: 'cell-action', cell: (p) => html`<button type="button" class="button small" aria-haspopup="dialog" aria-label=${`Why: flow of this packet from ${p.src_ip}`} onClick=${() => setParams({ flow: p.flow_id })}>Why</button>` },
];

/** TCP flags by their letters, as in packet analysers; the full names are in the tooltip. @param {string} flags */
const flagLetters = (flags) => flags.split(',').map((flag) => flag[0] ?? '').join('');

/** @param {{value: string}} props */
export function Direction({ value }) {
  const inward = value === 'ingress';
  return html`<span class=${`direction direction-${inward ? 'in' : 'out'}`}><${Icon} name=${inward ? 'down' : 'up'} />${inward ? 'in' : value === 'egress' ? 'out' : UNKNOWN}</span>`;
}

export function Packets() {
  useTitle('Packets');
  const wanted = [...WANTED, ...sensorFilter()];
  const filters = filterValues(wanted);
  const open = params.value.flow;
  const state = useRows({ path: 'packets', filters, live: livePackets.value, keyOf: (p) => p.id, timeOf: (p) => p.unix_ms });
  return html`<div class="view">
    <h1 class="visually-hidden">Packets</h1>
    <${Panel} title="Packets" id="packets-title" note="newest first; above its budget a sensor samples, its totals stay exact" aside=${html`<${Export} table="packets" params=${filters} />`}>
      <${Filters} filters=${wanted} label="Filter packets" />
      <${RowsState} state=${state} what="packet" filtered=${Object.keys(filters).length > 0}>
        <${Table} label="Packets" columns=${COLUMNS} rows=${state.rows} keyOf=${(/** @type {any} */ p) => p.id} rowClass=${(/** @type {any} */ p) => (p.verdict === 'SUSPICIOUS' ? 'row-bad' : '')} onAway=${state.setHeld} onRow=${(/** @type {any} */ p) => setParams({ flow: p.flow_id })} waiting=${state.waiting} tall />
      <//>
    <//>
    ${open ? html`<${FlowDialog} id=${open} key=${open} onClose=${() => setParams({ flow: null })} />` : null}
  </div>`;
}

// Flows with their verdicts; one of them opened shows why.
import { html } from '../lib.js';
import { liveFlows } from '../state/store.js';
import { useRows } from '../state/rows.js';
import { params, setParams } from '../state/router.js';
import { FILTERS, Filters, filterValues, sensorFilter } from '../components/filters.js';
import { Table } from '../components/table.js';
import { FalseAlarms, Probability, Verdict } from '../components/verdict.js';
import { Export, Panel, useTitle } from '../components/common.js';
import { RowsState } from '../components/rows-state.js';
import { FlowDialog } from './flow-detail.js';
import { protocolOf, tunnelTag } from '../words.js';
import { bytes, clock, count, dateTime, duration, endpoint } from '../format.js';

const WANTED = [FILTERS.verdict, FILTERS.kind, FILTERS.protocol, FILTERS.address, FILTERS.port];

/** @type {import('../components/table.js').Column[]} */
const COLUMNS = [
  { key: 'time', label: 'Last seen', bare: true, cell: (f) => html`<span class="number" title=${dateTime(f.last_unix_ms)}>${clock(f.last_unix_ms)}</span>` },
  { key: 'verdict', label: 'Verdict', bare: true, cell: (f) => html`<${Verdict} name=${f.verdict} kind=${f.kind} />` },
  { key: 'probability', label: 'Probability', span: 2, cell: (f) => html`<${Probability} verdict=${f.verdict} probability=${f.probability} />` },
  { key: 'alarms', label: 'False alarms a day', short: 'False al./day', right: true, span: 2, className: 'cell-narrow', cell: (f) => html`<${FalseAlarms} verdict=${f.verdict} expected=${f.expected_false_alarms_per_day} />` },
  { key: 'protocol', label: 'Protocol', span: 2, cell: (f) => html`<${Protocol} flow=${f} />` },
  { key: 'source', label: 'Initiator', cell: (f) => html`<${End} text=${endpoint(f.src_ip, f.src_port, f.protocol)} />`, className: 'cell-address', span: 6 },
  { key: 'destination', label: 'Responder', cell: (f) => html`<${End} text=${endpoint(f.dst_ip, f.dst_port, f.protocol)} />`, className: 'cell-address', span: 6 },
  { key: 'sent', label: 'Sent', right: true, cell: (f) => html`<${Amount} bytes=${f.fwd_bytes} packets=${f.fwd_packets} />` },
  { key: 'received', label: 'Received', right: true, cell: (f) => html`<${Amount} bytes=${f.rev_bytes} packets=${f.rev_packets} />` },
  { key: 'duration', label: 'Duration', right: true, span: 4, cell: (f) => html`<span class="number">${duration(f.last_unix_ms - f.first_unix_ms)}</span>${f.state === 'end' ? null : html` <span class="quiet small">open</span>`}` },
  {
    key: 'why', label: 'Details', bare: true, span: 2, className: 'cell-action',
    cell: (f) => html`<button type="button" class="button small" aria-haspopup="dialog" aria-label=${`Why: flow from ${f.src_ip} to ${f.dst_ip}`} onClick=${() => setParams({ flow: f.flow_id })}>Why</button>`,
  },
];

/** In angle brackets what came out of a tunnel: within the room of the column. @param {{flow: any}} props */
function Protocol({ flow }) {
  const protocol = protocolOf(flow.protocol);
  if (!flow.tunnel) return html`<span class="tag">${protocol}</span>`;
  const tunnel = tunnelTag(flow.tunnel);
  return html`<span class="tag" title=${`carried in ${tunnel}`}><span aria-hidden="true">‹</span>${protocol}<span aria-hidden="true">›</span><span class="visually-hidden">, tunnel: ${tunnel}</span></span>`;
}

/** @param {{text: string}} props */
function End({ text }) {
  return html`<span class="mono" title=${text}><bdi>${text}</bdi></span>`;
}

/** @param {{bytes: number, packets: number}} props */
function Amount(props) {
  return html`<span class="number">${bytes(props.bytes)}</span> <span class="quiet small number" title="packets">${count(props.packets)}${'\u00a0'}p</span>`;
}

export function Flows() {
  useTitle('Flows');
  const wanted = [...WANTED, ...sensorFilter()];
  const filters = filterValues(wanted);
  const state = useRows({ path: 'flows', filters, live: liveFlows.value, keyOf: (f) => f.flow_id, timeOf: (f) => f.last_unix_ms });
  const open = params.value.flow;
  return html`<div class="view">
    <h1 class="visually-hidden">Flows</h1>
    <${Panel} title="Flows" id="flows-title" note="both directions of a conversation together, newest first" aside=${html`<${Export} table="flows" params=${filters} />`}>
      <${Filters} filters=${wanted} label="Filter flows" />
      <${RowsState} state=${state} what="flow" filtered=${Object.keys(filters).length > 0}>
        <${Table}
          label="Flows"
          columns=${COLUMNS}
          rows=${state.rows}
          keyOf=${(/** @type {any} */ f) => f.flow_id}
          rowClass=${(/** @type {any} */ f) => (f.verdict === 'SUSPICIOUS' ? 'row-bad' : '')}
          onRow=${(/** @type {any} */ f) => setParams({ flow: f.flow_id })}
          onAway=${state.setHeld}
          waiting=${state.waiting}
          tall
        />
      <//>
    <//>
    ${open ? html`<${FlowDialog} id=${open} key=${open} onClose=${() => setParams({ flow: null })} />` : null}
  </div>`;
}

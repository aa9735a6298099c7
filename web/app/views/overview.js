// The first glance: is anything wrong, how much flows, where to, of which kind.
import { html } from '../lib.js';
import { livePackets, liveFlows, sensors, status, totals } from '../state/store.js';
import { params, setParams, link } from '../state/router.js';
import { paused } from '../state/live.js';
import { usePolled, useRows } from '../state/rows.js';
import { SPANS, spanParams, useTraffic, currentRates } from '../state/traffic.js';
import { Chart } from '../components/chart.js';
import { Choice, Export, Notice, Panel, Address, useTitle } from '../components/common.js';
import { Bars } from '../components/bars.js';
import { Verdict } from '../components/verdict.js';
import { FlowBrief } from './flow-detail.js';
import { lossOf, protocolOf, splitLost, VERDICTS } from '../words.js';
import { bitRate, byteRate, bytes, clockMs, count, counted, endpoint, percent, short, si } from '../format.js';

const TALKERS_MS = 5000;
const TALKERS_SPAN_MS = 15 * 60_000;
const SUSPICIOUS_ROWS = 5;
const PACKET_ROWS = 8;

export function Overview() {
  useTitle('Overview');
  const nothing = sensors.value.value?.length === 0;
  return html`<div class="view">
    <h1 class="visually-hidden">Overview</h1>
    ${nothing ? html`<${NoSensor} />` : null}
    <${Headline} />
    <${Tiles} />
    <div class="grid grid-main">
      <${TrafficPanel} />
      <div class="stack">
        <${ProtocolPanel} />
        <${VerdictPanel} />
        <${FramesPanel} />
      </div>
    </div>
    <div class="grid grid-half">
      <${DestinationsPanel} />
      <${SuspiciousPanel} />
    </div>
    <${RecentPackets} />
  </div>`;
}

export function NoSensor() {
  return html`<${Notice} title="No sensor has connected yet">
    Start one on this host with <code>netml-agent run</code> as root, or start everything with <code>cargo xtask run</code>. This page shows it as soon as it connects.
  <//>`;
}

/** One sentence that answers "is anything wrong?". */
function Headline() {
  const known = totals.value.value;
  if (!known) return null;
  const verdicts = known.verdicts ?? {};
  const all = Object.values(verdicts).reduce((/** @type {number} */ sum, n) => sum + Number(n), 0);
  const bad = Number(verdicts.SUSPICIOUS ?? 0);
  const unsure = Number(verdicts.UNSURE ?? 0);
  const unjudged = Number(verdicts.NO_VERDICT ?? 0);
  const { missing } = splitLost(known.lost);
  const name = bad > 0 ? 'SUSPICIOUS' : all === 0 || unjudged === all ? 'NO_VERDICT' : unsure > 0 ? 'UNSURE' : 'NORMAL';
  const text =
    bad > 0
      ? `${count(bad)} suspicious ${bad === 1 ? 'flow' : 'flows'} among ${count(all)}`
      : all === 0
        ? 'No flow yet'
        : unjudged === all
          ? `No model has judged any of ${count(all)} flows`
          : `Nothing suspicious among ${count(all)} flows`;
  return html`<div class=${`headline headline-${name.toLowerCase().replace('_', '-')}`}>
    <${Verdict} name=${name} />
    <p class="headline-text"><strong>${text}</strong>${unsure > 0 ? html` · ${count(unsure)} unsure` : null}${
      unjudged > 0 && unjudged < all ? html` · ${count(unjudged)} without a verdict` : null
    }${missing > 0 ? html` · ${counted(missing, 'packet')} not analysed` : null}</p>
    ${bad > 0 ? html`<a class="button small" href=${link('flows', { verdict: 'SUSPICIOUS' })}>Show them</a>` : null}
  </div>`;
}

function Tiles() {
  const rates = currentRates();
  const known = totals.value.value;
  const { missing } = splitLost(known?.lost);
  const [reason = '', ...others] = Object.entries(known?.lost ?? {})
    .filter(([name, n]) => Number(n) > 0 && !lossOf(name).notIp)
    .sort((a, b) => Number(b[1]) - Number(a[1]))
    .map(([name]) => name);
  const worst = reason ? `${lossOf(reason).label}${others.length ? ` and ${others.length} more` : ''}` : '';
  const verdicts = known?.verdicts ?? {};
  const seen = Number(known?.frames ?? 0);
  return html`<dl class="tiles" aria-label="Key figures">
    <${Tile} name="Download" value=${byteRate(rates.rx_bytes)} sub=${bitRate(rates.rx_bytes)} mark="down" id="download" />
    <${Tile} name="Upload" value=${byteRate(rates.tx_bytes)} sub=${bitRate(rates.tx_bytes)} mark="up" id="upload" />
    <${Tile} name="Packets per second" value=${count(rates.rx_packets + rates.tx_packets)} sub=${`${count(rates.rx_packets)} in · ${count(rates.tx_packets)} out`} id="pps" />
    <${Tile} name="Total packets" value=${known ? count(known.rx_packets + known.tx_packets) : '–'} sub=${known ? `${bytes(known.rx_bytes)} in · ${bytes(known.tx_bytes)} out` : ''} id="total" />
    <${Tile} name="Suspicious flows" value=${known ? count(verdicts.SUSPICIOUS ?? 0) : '–'} sub=${known ? `${count(verdicts.UNSURE ?? 0)} unsure` : ''} tone=${Number(verdicts.SUSPICIOUS) > 0 ? 'bad' : ''} id="suspicious" />
    <${Tile}
      name="Not analysed"
      value=${known ? count(missing) : '–'}
      sub=${known ? (missing > 0 ? `${seen > 0 ? `${percent(missing / seen)}: ` : ''}${worst}` : 'nothing lost') : ''}
      tone=${missing > 0 ? 'warn' : ''}
      id="lost"
    />
  </dl>`;
}

/** @param {{name: string, value: string, sub: any, id: string, mark?: string, tone?: string}} props */
function Tile({ name, value, sub, id, mark, tone = '' }) {
  return html`<div class=${`tile ${tone ? `tile-${tone}` : ''}`} data-tile=${id}>
    <dt>${mark ? html`<span class=${`tile-mark tile-mark-${mark}`} aria-hidden="true"></span>` : null}${name}</dt>
    <dd class="tile-value number">${value}</dd>
    <dd class="tile-sub number">${sub}</dd>
  </div>`;
}

function TrafficPanel() {
  const span = params.value.span ?? '5m';
  const { xs, columns, stepMs, error } = useTraffic(span);
  const pps = columns.rx_packets.map((n, i) => (n === null ? null : n + (columns.tx_packets[i] ?? 0)));
  const step = stepMs === 1000 ? 'one point a second' : stepMs === 60_000 ? 'means over a minute' : 'means over an hour';
  return html`<${Panel}
    title="Traffic"
    id="traffic"
    note=${step}
    aside=${html`<${Choice} label="Time span" value=${span} options=${SPANS.map((s) => ({ value: s.name, label: s.label }))} onChange=${(/** @type {string} */ v) => setParams({ span: v })} />
      <${Export} table="traffic" params=${spanParams(span)} />`}
  >
    ${error ? html`<${Notice} tone="bad" title="No history">${error}<//>` : null}
    <${Chart}
      title="Download and upload"
      xs=${xs}
      stepMs=${stepMs}
      format=${byteRate}
      series=${[
        { label: 'Download', color: '--series-down', values: columns.rx_bytes },
        { label: 'Upload', color: '--series-up', values: columns.tx_bytes, below: true },
      ]}
    />
    <${Chart}
      title="Packets per second"
      xs=${xs}
      stepMs=${stepMs}
      format=${packetRate}
      series=${[
        { label: 'Packets', color: '--series-packets', values: pps },
        { label: 'Not analysed', color: '--series-lost', values: columns.lost_packets, dashed: true },
      ]}
    />
  <//>`;
}

/** @param {number} value */
const packetRate = (value) => si(value, '/s');

function ProtocolPanel() {
  const list = totals.value.value?.protocols ?? [];
  const rows = [...list].filter((p) => p.packets > 0).sort((a, b) => b.bytes - a.bytes)
    .map((p) => ({ key: p.protocol, label: protocolOf(p.protocol), value: p.bytes, text: bytes(p.bytes), detail: `${short(p.packets)} ${p.packets === 1 ? 'packet' : 'packets'}` }));
  return html`<${Panel} title="Protocols" id="protocols" note="by bytes, since the sensors attached">
    ${rows.length ? html`<${Bars} label="Protocols by bytes" rows=${rows} />` : html`<${Notice} title="Nothing counted yet" />`}
  <//>`;
}

function VerdictPanel() {
  const verdicts = totals.value.value?.verdicts ?? {};
  const rows = Object.keys(VERDICTS).map((name) => ({
    key: name,
    label: html`<${Verdict} name=${name} />`,
    value: Number(verdicts[name] ?? 0),
    text: count(Number(verdicts[name] ?? 0)),
    tone: name.toLowerCase().replace('_', '-'),
  }));
  return html`<${Panel} title="Verdicts" id="verdicts" note="flows">
    <${Bars} label="Flows by verdict" rows=${rows} />
  <//>`;
}

/** Every frame is somewhere: analysed, counted by flow, without an IP packet, or lost for a reason. */
function FramesPanel() {
  const known = totals.value.value;
  const lost = Object.entries(known?.lost ?? {}).map(([reason, n]) => ({ reason, n: Number(n) })).filter((one) => one.n > 0).sort((a, b) => b.n - a.n);
  const rows = known
    ? [
        { key: 'recorded', label: 'analysed', value: Number(known.recorded), text: count(known.recorded), tone: 'normal' },
        ...(Number(known.mapped ?? 0) > 0
          ? [{ key: 'mapped', label: html`<span title="While a sensor's ring filled: in the totals of their flows, not recorded one by one.">counted by flow</span>`, value: Number(known.mapped), text: count(known.mapped), tone: 'normal' }]
          : []),
        ...lost.map(({ reason, n }) => ({
          key: reason,
          label: html`<span title=${lossOf(reason).meaning}>${lossOf(reason).notIp ? 'not IP: ' : 'lost: '}${lossOf(reason).label}</span>`,
          value: n,
          text: count(n),
          tone: lossOf(reason).notIp ? 'no-verdict' : 'unsure',
        })),
      ]
    : [];
  return html`<${Panel} title="Frames" id="frames" note=${known ? `${count(known.frames)} seen by the sensors` : ''}>
    <${Bars} label="Where every frame went" rows=${rows} />
  <//>`;
}

function DestinationsPanel() {
  const order = params.value.order ?? 'bytes';
  const { value, error } = usePolled('talkers', { by: 'destination', order, limit: 10, from_ago_ms: TALKERS_SPAN_MS }, TALKERS_MS, () => paused.value);
  const items = value?.items ?? [];
  const text = (/** @type {any} */ row) => (order === 'bytes' ? bytes(row.bytes) : count(row[order]));
  const rows = items.filter((/** @type {any} */ r) => r[order] > 0).map((/** @type {any} */ r) => ({
    key: r.key,
    label: r.key === 'other' ? html`<span class="quiet">all others</span>` : html`<${Address} ip=${r.key} />`,
    value: r[order],
    text: text(r),
    detail: order === 'bytes' ? counted(r.flows, 'flow') : bytes(r.bytes),
    tone: r.key === 'other' ? 'other' : undefined,
  }));
  return html`<${Panel}
    title="Top destinations"
    id="destinations"
    note="last 15 minutes"
    aside=${html`<${Choice} label="Order by" value=${order} options=${['bytes', 'packets', 'flows'].map((v) => ({ value: v, label: v }))} onChange=${(/** @type {string} */ v) => setParams({ order: v })} />`}
  >
    ${error && !value ? html`<${Notice} tone="bad" title="No answer">${error}<//>` : rows.length ? html`<${Bars} label=${`Destinations by ${order}`} rows=${rows} />` : html`<${Notice} title="No flow in the last 15 minutes" />`}
    <p class="panel-foot"><a href=${link('talkers')}>All talkers</a></p>
  <//>`;
}

function SuspiciousPanel() {
  const { rows, loading, error } = useRows({
    path: 'flows', filters: SUSPICIOUS, live: liveFlows.value, keyOf: (f) => f.flow_id, timeOf: (f) => f.last_unix_ms, first: SUSPICIOUS_ROWS,
  });
  return html`<${Panel} title="Recent suspicious flows" id="suspicious">
    ${error ? html`<${Notice} tone="bad" title="No answer">${error}<//>` : null}
    ${!error && rows.length === 0
      ? html`<${Notice} title=${loading ? 'Asking…' : 'None'}>${loading ? '' : 'No flow has been judged suspicious. “Unsure” flows are not listed here.'}<//>`
      : html`<ul class="briefs">${rows.map((flow) => html`<li key=${flow.flow_id}><${FlowBrief} flow=${flow} /></li>`)}</ul>`}
    <p class="panel-foot"><a href=${link('flows', { verdict: 'SUSPICIOUS' })}>All suspicious flows</a></p>
  <//>`;
}
const SUSPICIOUS = { verdict: 'SUSPICIOUS' };
/** @type {Record<string, string>} */
const ALL = {};

function RecentPackets() {
  const { rows, loading } = useRows({ path: 'packets', filters: ALL, live: livePackets.value, keyOf: (p) => p.id, timeOf: (p) => p.unix_ms, first: PACKET_ROWS });
  return html`<${Panel} title="Latest packets" id="latest" note=${status.value.value?.sensors_connected ? 'as they arrive' : ''}>
    ${rows.length === 0
      ? html`<${Notice} title=${loading ? 'Asking…' : 'Waiting for packets'} />`
      : html`<ul class="ticker">
          ${rows.map((p) => html`<li key=${p.id}>
            <span class="mono quiet">${clockMs(p.unix_ms)}</span>
            <span class="tag">${protocolOf(p.protocol)}</span>
            <span class="mono ends"><bdi>${endpoint(p.src_ip, p.src_port, p.protocol)}</bdi> <span aria-label="to">→</span> <bdi>${endpoint(p.dst_ip, p.dst_port, p.protocol)}</bdi></span>
            <span class="number right">${bytes(p.bytes)}</span>
            <${Verdict} name=${p.verdict} />
          </li>`)}
        </ul>`}
    <p class="panel-foot"><a href=${link('packets')}>All packets</a></p>
  <//>`;
}

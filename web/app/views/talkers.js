// Who moves how much, by one dimension at a time. The rows and "all others" sum to the whole.
import { html } from '../lib.js';
import { resolve, usePolled } from '../state/rows.js';
import { paused } from '../state/live.js';
import { link, params, setParams } from '../state/router.js';
import { Table } from '../components/table.js';
import { Address, Choice, Export, Notice, Panel, useTitle } from '../components/common.js';
import { protocolOf } from '../words.js';
import { bytes, count, percent } from '../format.js';

const BY = ['destination', 'source', 'port', 'protocol', 'sensor'];
const ORDERS = ['bytes', 'packets', 'flows'];
/** @param {string} word */
const title = (word) => word[0].toUpperCase() + word.slice(1);

const SPANS = [
  { value: '15m', label: '15 min', ms: 15 * 60_000 },
  { value: '1h', label: '1 h', ms: 3_600_000 },
  { value: '24h', label: '24 h', ms: 86_400_000 },
];
const INTERVAL_MS = 5000;

/** @param {string} by @param {string} key */
function label(by, key) {
  if (key === 'other') return html`<span class="quiet">all others</span>`;
  if (by === 'destination' || by === 'source') return html`<${Address} ip=${key} />`;
  if (by === 'port') {
    const [port, protocol] = key.split('/'); // such as 443/tcp
    return html`<a href=${link('flows', { port, protocol })} class="mono">${key}</a>`;
  }
  if (by === 'protocol') return html`<a href=${link('flows', { protocol: key })}>${protocolOf(key)}</a>`;
  return html`<bdi>${key}</bdi>`;
}

export function Talkers() {
  useTitle('Talkers');
  const by = BY.includes(params.value.by) ? params.value.by : 'destination';
  const order = ORDERS.includes(params.value.order) ? params.value.order : 'bytes';
  const span = SPANS.find((s) => s.value === params.value.span) ?? SPANS[0];
  const { value, error } = usePolled('talkers', { by, order, limit: 50, from_ago_ms: span.ms }, INTERVAL_MS, () => paused.value);
  /** @type {any[]} */
  const items = (value?.items ?? []).filter((/** @type {any} */ r) => r.key !== 'other' || r.flows > 0 || r.bytes > 0);
  const sum = items.reduce((all, r) => all + r[order], 0);
  const most = Math.max(...items.map((r) => r[order]), 1);
  /** @type {import('../components/table.js').Column[]} */
  const columns = [
    { key: 'key', label: title(by), cell: (r) => label(by, r.key), className: 'cell-address', span: 6, bare: true },
    ...ORDERS.map((name) => ({
      key: name, label: title(name), right: true, span: 2,
      cell: (/** @type {any} */ r) => html`<span class="number">${name === 'bytes' ? bytes(r.bytes) : count(r[name])}</span>`,
    })),
    {
      key: 'share', label: `Share of ${order}`, span: 6,
      cell: (r) => html`<span class="share"><span class="meter" aria-hidden="true"><span class="meter-fill" style=${{ width: `${(r[order] / most) * 100}%` }}></span></span><span class="number">${sum > 0 ? percent(r[order] / sum) : ''}</span></span>`,
    },
  ];
  const choose = (/** @type {string} */ name) => (/** @type {string} */ v) => setParams({ [name]: v });
  return html`<div class="view">
    <h1 class="visually-hidden">Talkers</h1>
    <${Panel} title="Talkers" id="talkers-title" note="a destination is the one that answers a flow" aside=${html`<${Export} table="talkers" params=${resolve({ by, order, limit: 1000, from_ago_ms: span.ms })} />`}>
      <div class="filters">
        <${Choice} label="Group by" value=${by} options=${BY.map((v) => ({ value: v, label: v }))} onChange=${choose('by')} />
        <${Choice} label="Order by" value=${order} options=${ORDERS.map((v) => ({ value: v, label: v }))} onChange=${choose('order')} />
        <${Choice} label="Time span" value=${span.value} options=${SPANS} onChange=${choose('span')} />
      </div>
      ${error ? html`<${Notice} tone="bad" title="The talkers could not be read">${error}<//>` : null}
      ${items.length > 0
        ? html`<${Table} label=${`Talkers by ${by}`} columns=${columns} rows=${items} keyOf=${(/** @type {any} */ r) => r.key} tall />`
        : error ? null : html`<${Notice} title=${value ? 'No flow in this span' : 'Asking the collector…'}>${value ? 'Choose a longer one, or wait for traffic.' : ''}<//>`}
    <//>
  </div>`;
}

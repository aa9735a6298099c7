// Filters of a table. They live in the address of the page.
import { html, signal, useEffect, useState } from '../lib.js';
import { sensors } from '../state/store.js';
import { params, setParams } from '../state/router.js';
import { VERDICTS } from '../words.js';

const TYPING_MS = 350;

const phone = matchMedia('(max-width: 640px)');
const narrow = signal(phone.matches);
phone.addEventListener('change', () => (narrow.value = phone.matches));

/** @typedef {{name: string, label: string, kind: 'select' | 'text', options?: {value: string, label: string}[], placeholder?: string, numeric?: boolean, words?: boolean}} Filter */

/** @type {Record<string, Filter>} */
export const FILTERS = {
  verdict: { name: 'verdict', label: 'Verdict', kind: 'select', options: Object.entries(VERDICTS).map(([value, v]) => ({ value, label: v.label })) },
  protocol: { name: 'protocol', label: 'Protocol', kind: 'text', placeholder: 'tcp, udp, 47…' },
  address: { name: 'address', label: 'Address', kind: 'text', placeholder: '10.0.0.1 or fe80::1' },
  port: { name: 'port', label: 'Port', kind: 'text', placeholder: '443', numeric: true },
  kind: { name: 'kind', label: 'Kind', kind: 'text', placeholder: 'port scan', words: true },
  direction: { name: 'direction', label: 'Direction', kind: 'select', options: [{ value: 'ingress', label: 'in' }, { value: 'egress', label: 'out' }] },
};

/** Of one sensor, where there are several. @returns {Filter[]} */
export function sensorFilter() {
  /** @type {any[]} */
  const list = sensors.value.value ?? [];
  if (list.length < 2 && !params.value.sensor) return [];
  return [{ name: 'sensor', label: 'Sensor', kind: 'select', options: list.map((s) => ({ value: s.sensor, label: s.sensor })) }];
}

/** The present values of these filters, without empty ones. @param {Filter[]} filters */
export function filterValues(filters) {
  const now = params.value;
  return Object.fromEntries(filters.map((f) => [f.name, now[f.name] ?? '']).filter(([, value]) => value !== ''));
}

/** @param {{filters: Filter[], label: string}} props */
export function Filters({ filters, label }) {
  const active = Object.keys(filterValues(filters));
  const form = html`<form class="filters" role="search" aria-label=${label} onSubmit=${(/** @type {Event} */ e) => e.preventDefault()}>
    ${filters.map((filter) => html`<label class="field" key=${filter.name}>
      <span>${filter.label}</span>
      ${filter.kind === 'select' ? html`<${Select} filter=${filter} />` : html`<${Text} filter=${filter} />`}
    </label>`)}
    <button type="button" class="button small" disabled=${active.length === 0} onClick=${() => setParams(Object.fromEntries(filters.map((f) => [f.name, null])))}>
      Clear filters
    </button>
  </form>`;
  if (!narrow.value) return form;
  return html`<details class="filter-box" open=${active.length > 0}>
    <summary>Filter${active.length > 0 ? ` (${active.length})` : ''}</summary>
    ${form}
  </details>`;
}

/** @param {{filter: Filter}} props */
function Select({ filter }) {
  return html`<select value=${params.value[filter.name] ?? ''} onChange=${(/** @type {any} */ e) => setParams({ [filter.name]: e.currentTarget.value })}>
    <option value="">any</option>
    ${filter.options?.map((o) => html`<option value=${o.value} key=${o.value}>${o.label}</option>`)}
  </select>`;
}

/** @param {{filter: Filter}} props */
function Text({ filter }) {
  const kept = params.value[filter.name] ?? '';
  const [typed, setTyped] = useState(kept);
  useEffect(() => setTyped((now) => (filter.words && now.trim().toLowerCase().replace(/\s+/g, '_') === kept ? now : kept)), [kept]);
  useEffect(() => {
    const wanted = filter.words ? typed.trim().toLowerCase().replace(/\s+/g, '_') : typed.trim();
    if (wanted === kept) return undefined;
    const timer = setTimeout(() => setParams({ [filter.name]: wanted }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  return html`<input
    type="text"
    value=${typed}
    placeholder=${filter.placeholder}
    inputmode=${filter.numeric ? 'numeric' : undefined}
    autocomplete="off"
    autocapitalize="off"
    spellcheck=${false}
    maxlength="100"
    onInput=${(/** @type {any} */ e) => setTyped(e.currentTarget.value)}
  />`;
}

// A ranked list with bars. The list is the truth; the bars are decoration.
import { html } from '../lib.js';
import { percent } from '../format.js';

/** @param {{label: string, rows: {key: string, label: any, value: number, text: string, detail?: string, tone?: string}[]}} props */
export function Bars({ label, rows }) {
  const sum = rows.reduce((all, row) => all + row.value, 0);
  const most = Math.max(...rows.map((row) => row.value), 1);
  return html`<ol class="bars" aria-label=${label}>
    ${rows.map((row) => html`<li key=${row.key} class=${row.tone ? `bar-${row.tone}` : ''}>
      <span class="bar-label">${row.label}</span>
      <span class="bar-detail quiet number">${row.detail ?? ''}</span>
      <span class="bar-text number">${row.text}</span>
      <span class="bar-share quiet number">${sum > 0 ? percent(row.value / sum) : ''}</span>
      <span class="bar-track" aria-hidden="true"><span class="bar-fill" style=${{ width: row.value > 0 ? `max(1px, ${(row.value / most) * 100}%)` : '0' }}></span></span>
    </li>`)}
  </ol>`;
}

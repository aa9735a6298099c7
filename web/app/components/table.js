// A table that becomes cards on a narrow screen and scrolls in its own focusable region otherwise.
// Roles are spelled out because the card layout would take them away.
import { html, useRef } from '../lib.js';
import { count } from '../format.js';

/** Scrolled further than this, one is reading and not watching. */
const AWAY_PX = 24;

/**
 * @typedef {object} Column
 * @property {string} key
 * @property {string} label
 * @property {string} [short] label in a card, where there is less room
 * @property {(row: any) => any} cell
 * @property {boolean} [right]
 * @property {number} [span] sixths of a line that it takes in a card; 3 unless told
 * @property {boolean} [bare] without its label in a card
 * @property {string} [className]
 */

/**
 * @param {{label: string, columns: Column[], rows: any[], keyOf: (row: any) => string, onRow?: (row: any) => void, rowClass?: (row: any) => string, tall?: boolean, onAway?: (away: boolean) => void, waiting?: number}} props
 */
export function Table({ label, columns, rows, keyOf, onRow, rowClass, tall, onAway, waiting = 0 }) {
  const region = useRef(/** @type {HTMLDivElement | null} */ (null));
  const toTop = () => {
    region.current?.scrollTo({ top: 0 });
    region.current?.focus();
  };
  return html`<div class="table-frame">
    ${waiting > 0 ? html`<button type="button" class="button small newer" onClick=${toTop}>${count(waiting)} newer</button>` : null}
    <div class=${`table-scroll ${tall ? 'tall' : ''}`} role="region" tabindex="0" aria-label=${`${label}, rows`} ref=${region} onScroll=${onAway ? (/** @type {any} */ e) => onAway(e.currentTarget.scrollTop > AWAY_PX) : undefined}>
    <table class="data-table" role="table" aria-label=${label} aria-rowcount=${rows.length + 1}>
      <thead role="rowgroup">
        <tr role="row">
          ${columns.map((c) => html`<th role="columnheader" scope="col" key=${c.key} class=${`${c.right ? 'right' : ''} ${c.className ?? ''}`}>${c.label}</th>`)}
        </tr>
      </thead>
      <tbody role="rowgroup">
        ${rows.map(
          (row) => html`<tr role="row" key=${keyOf(row)} class=${`${onRow ? 'clickable' : ''} ${rowClass?.(row) ?? ''}`} onClick=${onRow ? (/** @type {MouseEvent} */ e) => rowClicked(e, () => onRow(row)) : undefined}>
            ${columns.map(
              (c) => html`<td role="cell" key=${c.key} data-label=${c.short ?? c.label} class=${`${c.right ? 'right' : ''} span-${c.span ?? 3} ${c.bare ? 'bare' : ''} ${c.className ?? ''}`}>${c.cell(row)}</td>`,
            )}
          </tr>`,
        )}
      </tbody>
    </table>
    </div>
  </div>`;
}

/** A click on a link, a button or selected text is not one on the row. @param {MouseEvent} event @param {() => void} act */
function rowClicked(event, act) {
  const target = /** @type {Element} */ (event.target);
  if (target.closest('a, button') || String(getSelection() ?? '')) return;
  act();
}

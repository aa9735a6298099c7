// Small parts that every view uses.
import { html, useEffect, useState } from '../lib.js';
import { exportUrl } from '../state/api.js';
import { link } from '../state/router.js';
import { Icon } from './icons.js';

/**
 * A titled part of a page.
 * @param {{title: string, id: string, aside?: any, note?: any, className?: string, children?: any}} props
 */
export function Panel({ title, id, aside, note, className = '', children }) {
  return html`<section class=${`panel ${className}`} aria-labelledby=${id}>
    <header class="panel-head">
      <h2 id=${id}>${title}</h2>
      ${note ? html`<p class="panel-note">${note}</p>` : null}
      ${aside ? html`<div class="panel-aside">${aside}</div>` : null}
    </header>
    ${children}
  </section>`;
}

/**
 * Says that there is nothing, why, and what to do.
 * @param {{title: string, children?: any, tone?: 'quiet' | 'warn' | 'bad', action?: any}} props
 */
export function Notice({ title, children, tone = 'quiet', action }) {
  return html`<div class=${`notice notice-${tone}`} role=${tone === 'bad' ? 'alert' : 'status'}>
    <p class="notice-title">${title}</p>
    ${children ? html`<p class="notice-text">${children}</p>` : null}
    ${action ?? null}
  </div>`;
}

/** @param {{table: 'packets' | 'flows' | 'talkers' | 'traffic' | 'events', params: import('../state/api.js').Params}} props */
export function Export({ table, params }) {
  return html`<div class="export" role="group" aria-label=${`Export ${table} with the present filters`}>
    <${Icon} name="export" />
    <a class="button small" href=${exportUrl(table, 'csv', params)} download>CSV</a>
    <a class="button small" href=${exportUrl(table, 'ndjson', params)} download>NDJSON</a>
  </div>`;
}

/** An address that leads to its flows. @param {{ip: string, text?: string}} props */
export function Address({ ip, text }) {
  return html`<a class="address mono" href=${link('flows', { address: ip })} title=${`Flows with ${ip}`}><bdi>${text ?? ip}</bdi></a>`;
}

/**
 * One of a few, as buttons.
 * @param {{label: string, options: {value: string, label: string}[], value: string, onChange: (value: string) => void}} props
 */
export function Choice({ label, options, value, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(
      (option) => html`<button key=${option.value} type="button" aria-pressed=${option.value === value ? 'true' : 'false'} onClick=${() => onChange(option.value)}>
        ${option.label}
      </button>`,
    )}
  </div>`;
}

/** A time that ages: re-renders once a second. @param {number} intervalMs */
export function useNow(intervalMs = 1000) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), intervalMs);
    return () => clearInterval(timer);
  }, [intervalMs]);
  return now;
}

/** Sets the title of the document. @param {string} name */
export function useTitle(name) {
  useEffect(() => {
    document.title = `${name} · netml`;
  }, [name]);
}

// A time series: uPlot draws it; this component gives it a name, a spoken summary, a cursor for the
// arrow keys and a table with the same numbers.
import uPlot from '../../vendor/uplot.js';
import { html, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from '../lib.js';
import { theme } from '../state/theme.js';
import { clock, dateTime, UNKNOWN } from '../format.js';

/** Rows of the table twin at most; longer series are averaged into as many. */
const TABLE_ROWS_MAX = 60;
const HEIGHT_PX = 180;
/** Steps of the time axis in seconds: uPlot's own leave a phone with one label. */
const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 14_400, 21_600, 43_200, 86_400];

/**
 * @typedef {object} Series
 * @property {string} label
 * @property {string} color name of a custom property, e.g. `--series-down`
 * @property {(number | null)[]} values
 * @property {boolean} [below] drawn downwards from zero
 * @property {boolean} [dashed]
 */

/** @param {HTMLElement} near @param {string} name */
function colorOf(near, name) {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  near.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

/** @param {string} rgb @param {number} alpha */
function faded(rgb, alpha) {
  const parts = rgb.match(/[\d.]+/g);
  return parts ? `rgba(${parts[0]}, ${parts[1]}, ${parts[2]}, ${alpha})` : rgb;
}

/** @param {(number | null)[]} values */
function stats(values) {
  let max = -Infinity;
  let sum = 0;
  let n = 0;
  let last = null;
  for (const value of values) {
    if (value === null) continue;
    if (value > max) max = value;
    sum += value;
    n += 1;
    last = value;
  }
  return n === 0 ? null : { max, mean: sum / n, last };
}

/**
 * @param {HTMLElement} host
 * @param {{xs: number[], series: Series[], format: (value: number) => string, syncKey: string}} props
 * @param {(index: number | null) => void} onCursor
 */
function plot(host, { xs, series, format, syncKey }, onCursor) {
  const ink = colorOf(host, '--ink-quiet');
  const grid = colorOf(host, '--line-faint');
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
  const span = () => (xs.length > 1 ? xs[xs.length - 1] - xs[0] : 0);
  return new uPlot(
    {
      width: Math.max(host.clientWidth, 120),
      height: HEIGHT_PX,
      padding: [10, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { size: 7 }, sync: { key: syncKey } },
      scales: { x: { time: true }, y: { range: (_u, min, max) => range(min ?? 0, max ?? 0) } },
      axes: [
        { ...axis, size: 24, space: 70, incrs: TIME_STEPS_S, values: (_u, ticks) => ticks.map((t) => clock(t * 1000).slice(0, span() > 1200 || t % 60 === 0 ? 5 : 8)) },
        { ...axis, size: 76, space: 34, values: (_u, ticks) => ticks.map((v) => format(Math.abs(v))) },
      ],
      series: [
        {},
        ...series.map((one) => {
          const color = colorOf(host, one.color);
          return {
            label: one.label,
            stroke: color,
            fill: one.dashed ? undefined : faded(color, 0.16),
            width: 1.5,
            dash: one.dashed ? [5, 4] : undefined,
            points: { show: false },
            spanGaps: false,
          };
        }),
      ],
      hooks: { setCursor: [(u) => onCursor(u.cursor.idx ?? null)] },
    },
    dataOf(xs, series),
    host,
  );
}

/** @param {number} min @param {number} max @returns {[number, number]} */
function range(min, max) {
  if (min === 0 && max === 0) return [0, 1];
  // What is drawn upwards keeps some room beside a far greater part below, and the other way round.
  const top = Math.max(max, -min * 0.15);
  const bottom = min < 0 ? Math.min(min, -max * 0.08) : 0;
  return [bottom * 1.08, top * 1.08];
}

/** @param {number[]} xs @param {Series[]} series @returns {any} */
const dataOf = (xs, series) => [xs, ...series.map((one) => (one.below ? one.values.map((v) => (v === null ? null : -v)) : one.values))];

/**
 * @param {{title: string, xs: number[], series: Series[], format: (value: number) => string, stepMs: number, syncKey?: string, waiting?: string}} props
 *   xs in unix seconds, ascending; `waiting` says why there is nothing to draw
 */
export function Chart({ title, xs, series, format, stepMs, syncKey = 'time', waiting = 'Waiting for the first second of traffic…' }) {
  const host = useRef(/** @type {HTMLDivElement | null} */ (null));
  const chart = useRef(/** @type {uPlot | null} */ (null));
  const [cursor, setCursor] = useState(/** @type {number | null} */ (null));
  const id = useId();
  const dark = theme.value;
  const shape = series.map((one) => one.label + one.color).join();
  const latest = useRef({ xs, series });
  latest.current = { xs, series };

  useLayoutEffect(() => {
    const element = host.current;
    if (!element) return undefined;
    const made = plot(element, { ...latest.current, format, syncKey }, setCursor);
    chart.current = made;
    // In the next frame: a new size set within the observer may make it fire again, which the browser
    // reports as an error.
    let frame = 0;
    const observer = new ResizeObserver(() => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => made.setSize({ width: Math.max(element.clientWidth, 120), height: HEIGHT_PX }));
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      cancelAnimationFrame(frame);
      made.destroy();
      chart.current = null;
    };
  }, [dark, shape, stepMs]);

  useEffect(() => {
    chart.current?.setData(dataOf(xs, series));
  }, [xs, series]);

  const all = useMemo(() => series.map((one) => stats(one.values)), [xs, series]);
  const known = all.some((one) => one !== null);
  const summary = known
    ? series.map((one, i) => `${one.label}: now ${show(all[i]?.last, format)}, mean ${show(all[i]?.mean, format)}, peak ${show(all[i]?.max, format)}`).join('; ')
    : waiting;

  const index = cursor === null ? null : Math.min(cursor, xs.length - 1);
  const at = index ?? xs.length - 1;
  const spoken = known && xs.length > 0
    ? `${clock(xs[at] * 1000)}: ${series.map((one) => `${one.label} ${show(one.values[at], format)}`).join(', ')}`
    : waiting;

  const leave = () => {
    chart.current?.setCursor({ left: -10, top: -10 });
    setCursor(null);
  };

  /** @param {KeyboardEvent} event */
  const onKeyDown = (event) => {
    const page = Math.max(1, Math.round(xs.length / 10));
    const from = index ?? xs.length - 1;
    const to = {
      ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1,
      PageDown: from - page, PageUp: from + page, Home: 0, End: xs.length - 1,
    }[event.key];
    if (event.key === 'Escape') return leave();
    if (to === undefined || !chart.current || xs.length === 0) return undefined;
    event.preventDefault();
    const next = Math.max(0, Math.min(xs.length - 1, to));
    chart.current.setCursor({ left: chart.current.valToPos(xs[next], 'x'), top: 0 });
    setCursor(next);
    return undefined;
  };

  return html`<figure class="chart" aria-labelledby=${`${id}-title`}>
    <figcaption class="chart-head">
      <span id=${`${id}-title`} class="chart-title">${title}</span>
      <span class="chart-legend">
        ${series.map((one, i) => html`<span class="key" key=${one.label}>
          <span class=${`key-mark ${one.dashed ? 'key-dashed' : ''}`} style=${{ '--key': `var(${one.color})` }} aria-hidden="true"></span>
          ${one.label} <b class="number">${show(index === null ? all[i]?.last : one.values[index], format)}</b>
        </span>`)}
        <span class="key quiet number">${index === null ? 'now' : clock(xs[index] * 1000)}</span>
      </span>
    </figcaption>
    <div
      class="chart-plot"
      role="slider"
      tabindex="0"
      aria-label=${`${title}, over time`}
      aria-describedby=${`${id}-summary`}
      aria-valuemin="0"
      aria-valuemax=${Math.max(0, xs.length - 1)}
      aria-valuenow=${Math.max(0, at)}
      aria-valuetext=${spoken}
      aria-readonly="true"
      onKeyDown=${onKeyDown}
      onBlur=${leave}
    >
      <div class="chart-host" ref=${host} aria-hidden="true"></div>
      ${known ? null : html`<p class="chart-empty">${waiting}</p>`}
    </div>
    <p id=${`${id}-summary`} class="visually-hidden">${summary}. Arrow keys move along time.</p>
    <${Twin} title=${title} xs=${xs} series=${series} format=${format} />
  </figure>`;
}

/** @param {number | null | undefined} value @param {(value: number) => string} format */
const show = (value, format) => (value === null || value === undefined ? UNKNOWN : format(value));

/**
 * The same numbers as a table, newest first; built only while open.
 * @param {{title: string, xs: number[], series: Series[], format: (value: number) => string}} props
 */
function Twin({ title, xs, series, format }) {
  const [open, setOpen] = useState(false);
  return html`<details class="twin" onToggle=${(/** @type {any} */ e) => setOpen(e.currentTarget.open)}>
    <summary>As a table</summary>
    ${open
      ? html`<div class="table-scroll twin-scroll" role="region" tabindex="0" aria-label=${`${title} as a table`}>
          <table class="plain-table">
            <thead><tr><th scope="col">Time</th>${series.map((one) => html`<th scope="col" class="right" key=${one.label}>${one.label}</th>`)}</tr></thead>
            <tbody>
              ${buckets(xs, series).map((row) => html`<tr key=${row.x}>
                <th scope="row" class="number">${dateTime(row.x * 1000)}</th>
                ${row.values.map((v, i) => html`<td class="right number" key=${i}>${show(v, format)}</td>`)}
              </tr>`)}
            </tbody>
          </table>
        </div>`
      : null}
  </details>`;
}

/** @param {number[]} xs @param {Series[]} series */
function buckets(xs, series) {
  const size = Math.max(1, Math.ceil(xs.length / TABLE_ROWS_MAX));
  const rows = [];
  for (let start = 0; start < xs.length; start += size) {
    const values = series.map((one) => stats(one.values.slice(start, start + size))?.mean ?? null);
    rows.push({ x: xs[start], values });
  }
  return rows.reverse();
}

// The series behind the graphs: from the live ring up to 15 minutes, from the store above.
import { useEffect, useMemo, useState } from '../lib.js';
import { get, isAborted } from './api.js';
import { paused } from './live.js';
import { COLUMNS } from './ring.js';
import { anchorSecond, seconds, serverNow, trafficVersion } from './store.js';

export const SPANS = [
  { name: '5m', label: '5 min', seconds: 300 },
  { name: '15m', label: '15 min', seconds: 900 },
  { name: '1h', label: '1 h', seconds: 3600 },
  { name: '24h', label: '24 h', seconds: 86_400 },
];
const LONG_INTERVAL_MS = 30_000;

/** @typedef {{xs: number[], columns: Record<string, (number | null)[]>, stepMs: number, error: string | null}} Traffic */

/** @type {Traffic} */
const NOTHING = { xs: [], columns: Object.fromEntries(COLUMNS.map((c) => [c, []])), stepMs: 1000, error: null };

/** Rates per second over the span. @param {string} name @returns {Traffic} */
export function useTraffic(name) {
  const span = SPANS.find((s) => s.name === name) ?? SPANS[0];
  const live = span.seconds <= seconds.capacity;
  const version = live ? trafficVersion.value : 0;
  const near = useMemo(() => {
    if (!live) return NOTHING;
    const to = anchorSecond();
    return { ...seconds.range(to - span.seconds + 1, to), stepMs: 1000, error: null };
  }, [version, span.name]);
  const [far, setFar] = useState({ name: '', data: NOTHING });
  useEffect(() => {
    if (live) return undefined;
    const stop = new AbortController();
    const load = async () => {
      const to = Math.floor(serverNow() / 1000) * 1000;
      try {
        const body = await get('traffic', { from_unix_ms: to - span.seconds * 1000, to_unix_ms: to }, stop.signal);
        setFar({ name: span.name, data: perSecond(body, to - span.seconds * 1000, to) });
      } catch (error) {
        if (!isAborted(error)) setFar((f) => ({ name: span.name, data: { ...f.data, error: error instanceof Error ? error.message : String(error) } }));
      }
    };
    void load();
    const timer = setInterval(() => {
      if (!paused.value && !document.hidden) void load();
    }, LONG_INTERVAL_MS);
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [span.name]);
  if (live) return near;
  return far.name === span.name ? far.data : NOTHING;
}

/**
 * Steps of the store as rates, with nulls where a step is missing.
 * @param {any} body
 * @param {number} fromMs
 * @param {number} toMs
 * @returns {Traffic}
 */
export function perSecond(body, fromMs, toMs) {
  const step = body.step_ms;
  const byStep = new Map(body.items.map((/** @type {any} */ item) => [Math.floor(item.unix_ms / step), item]));
  /** @type {number[]} */
  const xs = [];
  /** @type {Record<string, (number | null)[]>} */
  const columns = Object.fromEntries(COLUMNS.map((c) => [c, []]));
  // The last step is still filling: its mean over a whole step would be too low.
  for (let n = Math.ceil(fromMs / step); (n + 1) * step <= toMs; n += 1) {
    const item = byStep.get(n);
    xs.push((n * step) / 1000);
    for (const c of COLUMNS) columns[c].push(item ? item[c] / (step / 1000) : null);
  }
  return { xs, columns, stepMs: step, error: null };
}

/** The span as parameters of the API; whole seconds, so that the step is the one of the span. @param {string} name */
export function spanParams(name) {
  const span = SPANS.find((s) => s.name === name) ?? SPANS[0];
  const to = (anchorSecond() + 1) * 1000;
  return { from_unix_ms: to - span.seconds * 1000, to_unix_ms: to };
}

/** Rates of the newest complete second; not a number when it is long ago or unknown. */
export function currentRates() {
  void trafficVersion.value;
  const second = seconds.complete();
  const at = second >= 0 ? seconds.at(second) : null;
  const fresh = at !== null && anchorSecond() - second <= 5;
  return fresh ? at : { rx_bytes: NaN, tx_bytes: NaN, rx_packets: NaN, tx_packets: NaN, lost_packets: NaN };
}

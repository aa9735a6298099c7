// What the dashboard knows: exact totals and history from the API, the newest packets, flows and
// seconds from the live feed. Arrivals go into bounded buffers at once and become visible four
// times a second at most, and not at all while paused.
import { batch, effect, signal, untracked } from '../lib.js';
import { get } from './api.js';
import { connection, on, onOpen, paused } from './live.js';
import { RecentList, SecondRing } from './ring.js';

/** Seconds kept for the live graphs: the longest span the API answers by the second. */
export const RING_SECONDS = 900;
const LIVE_PACKETS_MAX = 500;
const LIVE_FLOWS_MAX = 500;
const LIVE_EVENTS_MAX = 200;
const SHOW_INTERVAL_MS = 250;
const TOTALS_INTERVAL_MS = 2000;
const SENSORS_INTERVAL_MS = 5000;
const HISTORY_INTERVAL_MS = 30_000;
/** Seconds younger than this may still change in the store. */
const SETTLE_SECONDS = 3;
/** A replay's packets carry the capture's own time; past this distance the graph follows them. */
const CLOCK_APART_S = 120;

/** @typedef {{value: any, error: string | null}} Resource */

/** @returns {import('../../vendor/signals.js').Signal<Resource>} */
const resource = () => signal({ value: null, error: null });

export const status = resource();
export const totals = resource();
export const sensors = resource();

/** Bumped when the visible seconds changed. */
export const trafficVersion = signal(0);
/** @type {import('../../vendor/signals.js').Signal<any[]>} */
export const livePackets = signal([]);
/** @type {import('../../vendor/signals.js').Signal<any[]>} */
export const liveFlows = signal([]);
/** @type {import('../../vendor/signals.js').Signal<any[]>} */
export const liveEvents = signal([]);
/** When the last live event arrived, in the browser's time; 0: none yet. */
export const lastEventAt = signal(0);

/** When the collector last answered or sent something, in the browser's time; 0: never. */
export const lastAnswerAt = signal(0);

export const seconds = new SecondRing(RING_SECONDS);
const packets = new RecentList(LIVE_PACKETS_MAX, (/** @type {any} */ p) => p.id);
const flows = new RecentList(LIVE_FLOWS_MAX, (/** @type {any} */ f) => f.flow_id);
const events = new RecentList(LIVE_EVENTS_MAX, (/** @type {any} */ e) => e.id ?? `${e.unix_ms} ${e.sensor} ${e.kind} ${e.message}`);

/** Server time minus browser time. */
let clockOffsetMs = 0;
export const serverNow = () => Date.now() + clockOffsetMs;

/** The second the graphs end at. */
export function anchorSecond() {
  const now = Math.floor(serverNow() / 1000) - 1;
  const complete = seconds.complete();
  if (complete < 0) return now;
  return Math.abs(now - complete) > CLOCK_APART_S ? complete : Math.max(complete, now - 2);
}

/** A flow seen live, for what a packet row does not carry. @param {string} id */
export const knownFlow = (id) => flows.get(id);

const dirty = { traffic: false, packets: false, flows: false, events: false };

function show() {
  if (paused.value || document.hidden) return;
  batch(() => {
    if (dirty.traffic) trafficVersion.value += 1;
    if (dirty.packets) livePackets.value = packets.list();
    if (dirty.flows) liveFlows.value = flows.list();
    if (dirty.events) liveEvents.value = events.list();
  });
  dirty.traffic = dirty.packets = dirty.flows = dirty.events = false;
}

/**
 * @param {import('../../vendor/signals.js').Signal<Resource>} target
 * @param {string} path
 * @param {(body: any) => any} [pick]
 */
async function refresh(target, path, pick = (body) => body) {
  try {
    target.value = { value: pick(await get(path)), error: null };
    lastAnswerAt.value = Date.now();
  } catch (error) {
    // The last known value stays: it is marked as old by the error beside it.
    target.value = { value: target.value.value, error: error instanceof Error ? error.message : String(error) };
  }
}

export async function refreshStatus() {
  await refresh(status, 'status');
  const now = status.value.value?.now_unix_ms;
  if (status.value.error === null && Number.isFinite(now)) clockOffsetMs = now - Date.now();
}
const refreshTotals = () => refresh(totals, 'totals');
const refreshSensors = () => refresh(sensors, 'sensors', (body) => body.items);

/** Fills the ring from the store. */
async function refreshHistory() {
  const to = Math.floor(serverNow() / 1000);
  let body;
  try {
    body = await get('traffic', { from_unix_ms: (to - RING_SECONDS) * 1000, to_unix_ms: to * 1000 });
  } catch {
    return; // Status and totals report the same failure; the next round tries again.
  }
  if (body.step_ms !== 1000) return;
  const history = body.items.map((/** @type {any} */ item) => ({ second: Math.floor(item.unix_ms / 1000), item }));
  seconds.settle(history, to - SETTLE_SECONDS);
  dirty.traffic = true;
}

/** Runs `job` now and then at the interval, never twice at once, not while hidden or paused. @param {() => Promise<void>} job @param {number} intervalMs */
function every(intervalMs, job) {
  let running = false;
  const run = async () => {
    if (running || document.hidden || paused.value) return;
    running = true;
    try {
      await job();
    } finally {
      running = false;
    }
  };
  setInterval(run, intervalMs);
  return run;
}

/** Wires the live feed and the polls. Call once. */
export function start() {
  on('traffic', (item) => {
    seconds.add(Math.floor(item.unix_ms / 1000), item);
    lastEventAt.value = Date.now();
    dirty.traffic = true;
  });
  on('packets', (items) => {
    packets.add([...items].sort((a, b) => a.unix_ms - b.unix_ms));
    lastEventAt.value = Date.now();
    dirty.packets = true;
  });
  on('flows', (items) => {
    flows.add([...items].sort((a, b) => a.last_unix_ms - b.last_unix_ms));
    lastEventAt.value = Date.now();
    dirty.flows = true;
  });
  on('event', (item) => {
    events.add([item]);
    dirty.events = true;
  });
  on('sensors', (body) => {
    sensors.value = { value: Array.isArray(body) ? body : body.items, error: null };
  });

  setInterval(show, SHOW_INTERVAL_MS);
  const jobs = [
    every(SENSORS_INTERVAL_MS, refreshStatus),
    every(TOTALS_INTERVAL_MS, refreshTotals),
    every(SENSORS_INTERVAL_MS, refreshSensors),
    every(HISTORY_INTERVAL_MS, refreshHistory),
  ];
  const all = () => {
    for (const job of jobs) void job();
  };
  all();
  // Live seconds between the last history and the opening of the feed are in the store only.
  onOpen(() => {
    all();
    setTimeout(() => void refreshHistory(), (SETTLE_SECONDS + 1) * 1000);
  });
  effect(() => {
    if (!paused.value) untracked(all);
  });
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) all();
  });
  effect(() => {
    if (connection.value === 'lost') untracked(() => void refreshStatus());
  });
}

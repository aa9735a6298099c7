// The live feed: one EventSource, reopened when it ends, closed while the tab is hidden.
import { signal } from '../lib.js';

/** @type {import('../../vendor/signals.js').Signal<'connecting' | 'live' | 'lost' | 'hidden'>} */
export const connection = signal(/** @type {any} */ ('connecting'));
/** True while the user holds the display still. */
export const paused = signal(false);

const EVENTS = ['traffic', 'packets', 'flows', 'sensors', 'event', 'command', 'lagged'];
const RETRY_MS_FIRST = 1000;
const RETRY_MS_MAX = 10_000;
/** How long a hidden tab stays connected, so that a short look elsewhere costs nothing. */
const HIDDEN_GRACE_MS = 10_000;

/** @type {Map<string, Set<(data: any) => void>>} */
const handlers = new Map(EVENTS.map((name) => [name, new Set()]));
/** @type {Set<() => void>} */
const openHandlers = new Set();

/** @type {EventSource | null} */
let source = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let retryTimer;
let retryMs = RETRY_MS_FIRST;

/**
 * Calls `handler` with the data of every such event; answers a function that ends this.
 * @param {string} event
 * @param {(data: any) => void} handler
 */
export function on(event, handler) {
  handlers.get(event)?.add(handler);
  return () => void handlers.get(event)?.delete(handler);
}

/** Calls `handler` whenever the feed (re)opens. @param {() => void} handler */
export function onOpen(handler) {
  openHandlers.add(handler);
  return () => void openHandlers.delete(handler);
}

function open() {
  clearTimeout(retryTimer);
  source?.close();
  const feed = new EventSource('/api/live');
  source = feed;
  feed.onopen = () => {
    retryMs = RETRY_MS_FIRST;
    connection.value = 'live';
    for (const handler of openHandlers) handler();
  };
  feed.onerror = () => {
    if (source !== feed) return;
    connection.value = 'lost';
    // The browser gives up on an error status; we do not.
    feed.close();
    retryTimer = setTimeout(open, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
  };
  for (const name of EVENTS) {
    feed.addEventListener(name, (event) => {
      let data;
      try {
        data = JSON.parse(/** @type {MessageEvent} */ (event).data);
      } catch {
        malformed.value += 1;
        return;
      }
      for (const handler of handlers.get(name) ?? []) handler(data);
    });
  }
}

/** Events that the collector left out because this page read too slowly. */
export const missed = signal(0);

/** Events that were no JSON; shown on the sensors page. */
export const malformed = signal(0);

/** Tries again at once. */
export function reconnect() {
  retryMs = RETRY_MS_FIRST;
  connection.value = 'connecting';
  open();
}

/** Opens the feed and follows the visibility of the tab. */
export function start() {
  open();
  on('lagged', (data) => {
    missed.value += Number(data?.missed) || 0;
  });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let hiding;
  document.addEventListener('visibilitychange', () => {
    clearTimeout(hiding);
    if (document.hidden) {
      hiding = setTimeout(() => {
        clearTimeout(retryTimer);
        source?.close();
        source = null;
        connection.value = 'hidden';
      }, HIDDEN_GRACE_MS);
    } else if (connection.value === 'hidden') {
      reconnect();
    }
  });
}

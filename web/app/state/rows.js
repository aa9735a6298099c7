// Rows of a live table: one page from the API, older pages on demand, live arrivals on top.
import { useEffect, useRef, useState } from '../lib.js';
import { get, isAborted } from './api.js';
import { onOpen } from './live.js';

/** Rows a table shows at most before older ones are asked for, and at most after. */
export const ROWS_FIRST = 100;
const ROWS_MAX = 1000;

/** @type {Record<string, string>} */
const PROTOCOL_NUMBERS = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6' };

/**
 * The filter the server applies, for what arrives live.
 * @param {any} item
 * @param {Record<string, string>} filters
 */
export function matches(item, filters) {
  for (const [name, wanted] of Object.entries(filters)) {
    if (name === 'address') {
      const address = wanted.toLowerCase();
      if (item.src_ip !== address && item.dst_ip !== address) return false;
    } else if (name === 'port') {
      if (String(item.src_port) !== wanted && String(item.dst_port) !== wanted) return false;
    } else if (name === 'protocol') {
      const protocol = wanted.toLowerCase();
      if (item.protocol !== (PROTOCOL_NUMBERS[protocol] ?? protocol)) return false;
    } else if (item[name] !== wanted) {
      return false;
    }
  }
  return true;
}

/**
 * @param {object} what
 * @param {'packets' | 'flows' | 'events'} what.path
 * @param {Record<string, string>} what.filters
 * @param {any[]} what.live newest first
 * @param {(item: any) => string} what.keyOf
 * @param {(item: any) => number} what.timeOf
 * @param {number} [what.first] rows to begin with
 */
export function useRows({ path, filters, live, keyOf, timeOf, first = ROWS_FIRST }) {
  const [held, setHeld] = useState(false);
  const key = JSON.stringify([path, filters]);
  /** @type {{current: {key: string, rows: Map<string, any>, bound: number}}} */
  const store = useRef({ key: '', rows: new Map(), bound: first });
  const [state, setState] = useState({ loading: true, error: /** @type {string | null} */ (null), next: /** @type {string | null} */ (null), version: 0, opened: 0 });

  if (store.current.key !== key) store.current = { key, rows: new Map(), bound: first };
  const { rows } = store.current;
  const newest = held ? [...rows.values()].reduce((latest, item) => Math.max(latest, timeOf(item)), 0) : 0;

  useEffect(() => onOpen(() => setState((s) => ({ ...s, opened: s.opened + 1 }))), []);

  useEffect(() => {
    const stop = new AbortController();
    setState((s) => ({ ...s, loading: true, error: null }));
    get(path, { ...filters, limit: first }, stop.signal).then(
      (body) => {
        for (const item of body.items) rows.set(keyOf(item), item);
        setState((s) => ({ ...s, loading: false, error: null, next: body.next ?? null, version: s.version + 1 }));
      },
      (error) => {
        if (!isAborted(error)) setState((s) => ({ ...s, loading: false, error: error.message }));
      },
    );
    return () => stop.abort();
  }, [key, state.opened]);

  // While the reader is further down, the rows stay where they are and only their number grows.
  let waiting = 0;
  for (const item of live) {
    const itemKey = keyOf(item);
    if (!matches(item, filters)) rows.delete(itemKey); // A flow may change its verdict.
    else if (!held || rows.has(itemKey)) rows.set(itemKey, item);
    else if (timeOf(item) > newest) waiting += 1;
  }

  const list = [...rows.values()].sort((a, b) => timeOf(b) - timeOf(a));
  for (const item of list.slice(store.current.bound)) rows.delete(keyOf(item));

  const older = async () => {
    if (!state.next) return;
    try {
      const body = await get(path, { ...filters, limit: ROWS_FIRST, before: state.next });
      store.current.bound = Math.min(store.current.bound + ROWS_FIRST, ROWS_MAX);
      for (const item of body.items) rows.set(keyOf(item), item);
      setState((s) => ({ ...s, next: body.next ?? null, version: s.version + 1, error: null }));
    } catch (error) {
      setState((s) => ({ ...s, error: error instanceof Error ? error.message : String(error) }));
    }
  };

  return {
    rows: list.slice(0, store.current.bound),
    /** Arrivals that are not shown because the reader is further down. */
    waiting,
    /** To be told whether the reader is further down. */
    setHeld,
    loading: state.loading,
    error: state.error,
    older: state.next && store.current.bound < ROWS_MAX ? older : null,
  };
}

/**
 * An answer of the API, asked anew at an interval while nobody paused.
 * @param {string} path
 * @param {import('./api.js').Params} params
 * @param {number} intervalMs
 * @param {() => boolean} held true while nothing shall change
 */
export function usePolled(path, params, intervalMs, held) {
  const key = JSON.stringify([path, params]);
  const [state, setState] = useState({ key: '', value: /** @type {any} */ (null), error: /** @type {string | null} */ (null) });
  useEffect(() => {
    const stop = new AbortController();
    let running = false;
    const load = async () => {
      if (running) return;
      running = true;
      try {
        const value = await get(path, resolve(params), stop.signal);
        setState({ key, value, error: null });
      } catch (error) {
        if (!isAborted(error)) setState((s) => ({ ...s, key, error: error instanceof Error ? error.message : String(error) }));
      } finally {
        running = false;
      }
    };
    void load();
    const timer = setInterval(() => {
      if (!held() && !document.hidden) void load();
    }, intervalMs);
    const ended = onOpen(() => void load());
    return () => {
      stop.abort();
      clearInterval(timer);
      ended();
    };
  }, [key]);
  return { value: state.key === key ? state.value : null, error: state.error };
}

/** `from_ago_ms` becomes a span that ends now. @param {import('./api.js').Params} params @returns {import('./api.js').Params} */
export function resolve({ from_ago_ms, ...rest }) {
  if (from_ago_ms === undefined || from_ago_ms === null) return rest;
  const now = Math.ceil(Date.now() / 1000) * 1000;
  return { ...rest, from_unix_ms: now - Number(from_ago_ms), to_unix_ms: now };
}

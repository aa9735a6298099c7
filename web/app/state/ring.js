// Bounded memory for what arrives live.

/** Columns of one second, per second rates being the same numbers. */
export const COLUMNS = /** @type {const} */ (['rx_bytes', 'tx_bytes', 'rx_packets', 'tx_packets', 'lost_packets']);

/** @typedef {{[column in typeof COLUMNS[number]]: number}} Second */

/**
 * One slot per second over a fixed number of seconds. A slot belongs to exactly one second; a
 * newer second that maps to it takes it over.
 */
export class SecondRing {
  /** @param {number} capacity seconds */
  constructor(capacity) {
    this.capacity = capacity;
    this.stamps = new Float64Array(capacity).fill(-1);
    this.sources = new Uint16Array(capacity);
    /** @type {Record<string, Float64Array>} */
    this.columns = Object.fromEntries(COLUMNS.map((name) => [name, new Float64Array(capacity)]));
    /** Newest second with data, or -1. */
    this.newest = -1;
    /** Seconds up to this one come from the store and take no live additions. */
    this.settled = -1;
  }

  /** Adds one interface's second, as it arrives live. @param {number} second @param {Second} item */
  add(second, item) {
    if (second <= this.settled || second <= this.newest - this.capacity) return;
    const slot = this.#claim(second);
    // A first live report takes the place of an early reading of the store.
    const first = this.sources[slot] === 0;
    for (const name of COLUMNS) this.columns[name][slot] = (first ? 0 : this.columns[name][slot]) + (Number(item[name]) || 0);
    this.sources[slot] += 1;
  }

  /**
   * Lays history over what is there: the store is right about every second up to `until`; a younger
   * second is taken only where nothing live has come for it.
   * @param {{second: number, item: Second}[]} history
   * @param {number} until
   */
  settle(history, until) {
    for (const { second, item } of history) {
      if (second <= this.newest - this.capacity) continue;
      const slot = this.#claim(second);
      if (second > until && this.sources[slot] > 0) continue;
      for (const name of COLUMNS) this.columns[name][slot] = Number(item[name]) || 0;
      this.sources[slot] = 0;
    }
    this.settled = Math.max(this.settled, until);
  }

  /** @param {number} second */
  #claim(second) {
    const slot = second % this.capacity;
    if (this.stamps[slot] !== second) {
      this.stamps[slot] = second;
      this.sources[slot] = 0;
      for (const name of COLUMNS) this.columns[name][slot] = 0;
    }
    if (second > this.newest) this.newest = second;
    return slot;
  }

  /** @param {number} second @returns {Second | null} */
  at(second) {
    const slot = ((second % this.capacity) + this.capacity) % this.capacity;
    if (this.stamps[slot] !== second) return null;
    return /** @type {Second} */ (Object.fromEntries(COLUMNS.map((name) => [name, this.columns[name][slot]])));
  }

  /**
   * Newest second that every source has reported: with several interfaces the last one may still be filling.
   * @returns {number}
   */
  complete() {
    const last = this.newest;
    if (last < 0) return last;
    const slot = last % this.capacity;
    const before = (last - 1 + this.capacity) % this.capacity;
    const filling = this.stamps[before] === last - 1 && this.sources[slot] > 0 && this.sources[slot] < this.sources[before];
    return filling ? last - 1 : last;
  }

  /**
   * Columns over [from, to], null where nothing was reported.
   * @param {number} from first second
   * @param {number} to last second
   */
  range(from, to) {
    const xs = [];
    /** @type {Record<string, (number | null)[]>} */
    const out = Object.fromEntries(COLUMNS.map((name) => [name, []]));
    for (let second = from; second <= to; second += 1) {
      xs.push(second);
      const slot = ((second % this.capacity) + this.capacity) % this.capacity;
      const known = this.stamps[slot] === second;
      for (const name of COLUMNS) out[name].push(known ? this.columns[name][slot] : null);
    }
    return { xs, columns: out };
  }

  clear() {
    this.stamps.fill(-1);
    this.newest = -1;
    this.settled = -1;
  }
}

/**
 * Newest items first, at most `capacity`; an item with a known key replaces the older one.
 * @template T
 */
export class RecentList {
  /** @param {number} capacity @param {(item: T) => string} keyOf */
  constructor(capacity, keyOf) {
    this.capacity = capacity;
    this.keyOf = keyOf;
    /** @type {Map<string, T>} in order of arrival */
    this.items = new Map();
  }

  /** @param {T[]} arrived */
  add(arrived) {
    for (const item of arrived) {
      const key = this.keyOf(item);
      this.items.delete(key);
      this.items.set(key, item);
    }
    for (const key of this.items.keys()) {
      if (this.items.size <= this.capacity) break;
      this.items.delete(key);
    }
  }

  /** @param {string} key */
  get(key) {
    return this.items.get(key);
  }

  /** @returns {T[]} newest first */
  list() {
    return [...this.items.values()].reverse();
  }

  clear() {
    this.items.clear();
  }
}

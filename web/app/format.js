// Numbers, times and addresses as text. SI prefixes throughout (1 kB = 1000 bytes).

const PREFIXES = ['', 'k', 'M', 'G', 'T', 'P'];
const NARROW_SPACE = '\u202f';
const NO_BREAK = '\u00a0';

/** What stands where a value is not known. */
export const UNKNOWN = '–';

/**
 * Three significant digits with an SI prefix: 1234567 → "1.23 M".
 * @param {number} value
 * @param {string} unit
 */
export function si(value, unit) {
  if (!Number.isFinite(value)) return UNKNOWN;
  let scaled = Math.abs(value);
  let prefix = 0;
  // 999.5 rounds to "1000": it belongs to the next prefix.
  while (scaled >= 999.5 && prefix < PREFIXES.length - 1) {
    scaled /= 1000;
    prefix += 1;
  }
  const digits = prefix === 0 ? (Number.isInteger(scaled) ? 0 : scaled < 10 ? 1 : 0) : scaled < 10 ? 2 : scaled < 100 ? 1 : 0;
  const tail = `${PREFIXES[prefix]}${unit}`;
  return `${value < 0 ? '−' : ''}${scaled.toFixed(digits)}${tail ? NO_BREAK + tail : ''}`;
}

/** Bytes. @param {number} value */
export const bytes = (value) => si(value, 'B');
/** Bytes per second. @param {number} value */
export const byteRate = (value) => si(value, 'B/s');
/** Bits per second, given bytes per second. @param {number} value */
export const bitRate = (value) => si(value * 8, 'bit/s');
/** A count with an SI prefix. @param {number} value */
export const short = (value) => si(value, '');

/** An exact count with grouped digits. @param {number | null | undefined} value */
export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, NARROW_SPACE);
}

/**
 * A share as per cent; never rounds a part to nothing or to the whole.
 * @param {number} share 0 to 1
 */
export function percent(share) {
  if (!Number.isFinite(share)) return UNKNOWN;
  const value = share * 100;
  if (value > 0 && value < 0.1) return `<${NARROW_SPACE}0.1${NO_BREAK}%`;
  if (value < 100 && value > 99.9) return `>${NARROW_SPACE}99.9${NO_BREAK}%`;
  return `${value.toFixed(value === 0 || value === 100 ? 0 : 1)}${NO_BREAK}%`;
}

/** A count with its noun. @param {number} n @param {string} noun */
export const counted = (n, noun) => `${count(n)}${NO_BREAK}${noun}${n === 1 ? '' : 's'}`;

/**
 * Text that came from outside, with characters that hide or turn round what stands beside them made visible.
 * @param {unknown} text
 */
export function visible(text) {
  return String(text ?? '').replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, (c) =>
    c === '\n' || c === '\t' ? ' ' : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A number of a feature or contribution, at most three significant digits. @param {number} value */
export function plain(value) {
  if (!Number.isFinite(value)) return UNKNOWN;
  if (Number.isInteger(value)) return count(Math.abs(value)).replace(/^/, value < 0 ? '−' : '');
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3))).replace('-', '−');
}

/** A signed contribution: "+0.310". @param {number} value */
export function signed(value) {
  if (!Number.isFinite(value)) return UNKNOWN;
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`;
}

/** Expected false alarms per day. @param {number | null | undefined} value */
export function perDay(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  if (value > 0 && value < 0.01) return `<${NARROW_SPACE}0.01`;
  if (value >= 1000) return short(value);
  return value < 10 ? String(Number(value.toFixed(2))) : value.toFixed(0);
}

/** Milliseconds of a round trip. @param {number | null | undefined} value */
export function milliseconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return UNKNOWN;
  return `${value < 10 ? value.toFixed(2) : value.toFixed(1)}${NO_BREAK}ms`;
}

/** @param {number} n */
const two = (n) => String(n).padStart(2, '0');

/** Local time of day. @param {number} unixMs */
export function clock(unixMs) {
  const d = new Date(unixMs);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

/** Local time of day with milliseconds. @param {number} unixMs */
export function clockMs(unixMs) {
  return `${clock(unixMs)}.${String(Math.floor(unixMs % 1000)).padStart(3, '0')}`;
}

/** Local date and time. @param {number} unixMs */
export function dateTime(unixMs) {
  const d = new Date(unixMs);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock(unixMs)}`;
}

/** Time of day, with the date before it unless it is today. @param {number} unixMs */
export function when(unixMs) {
  return new Date(unixMs).toDateString() === new Date().toDateString() ? clock(unixMs) : dateTime(unixMs);
}

/** A length of time in at most two units. @param {number} ms */
export function duration(ms) {
  if (!Number.isFinite(ms) || ms < 0) return UNKNOWN;
  if (ms < 1) return `<${NARROW_SPACE}1${NO_BREAK}ms`; // Times come in whole milliseconds.
  if (ms < 1000) return `${Math.round(ms)}${NO_BREAK}ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.floor(s)}${NO_BREAK}s`;
  const m = Math.floor(s / 60);
  if (m < 60) return `${m}${NO_BREAK}min ${Math.floor(s % 60)}${NO_BREAK}s`;
  const h = Math.floor(m / 60);
  if (h < 48) return `${h}${NO_BREAK}h ${m % 60}${NO_BREAK}min`;
  return `${Math.floor(h / 24)}${NO_BREAK}d ${h % 24}${NO_BREAK}h`;
}

/**
 * Address and port as one end of a connection; IPv6 in brackets. Protocols without ports show the address alone.
 * @param {string} ip
 * @param {number} port
 * @param {string} protocol
 */
export function endpoint(ip, port, protocol) {
  if (protocol !== 'tcp' && protocol !== 'udp') return ip;
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

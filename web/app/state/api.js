// Calls to the collector (docs/api.md).

/** A failed call; `status` 0 means that there was no answer. */
export class ApiError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @typedef {Record<string, string | number | null | undefined>} Params */

const TIMEOUT_MS = 15_000;

/** Query string without empty values. @param {Params} [params] */
export function queryOf(params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== '') query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `?${text}` : '';
}

/**
 * @param {string} path below /api/
 * @param {Params} [params]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export function get(path, params, signal) {
  return call(`/api/${path}${queryOf(params)}`, {}, signal);
}

/** @param {string} path @param {unknown} body @returns {Promise<any>} */
export function post(path, body) {
  return call(`/api/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

/** @param {string} url @param {RequestInit} init @param {AbortSignal} [signal] */
async function call(url, init, signal) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const ended = signal ? AbortSignal.any([signal, timeout]) : timeout;
  let response;
  try {
    response = await fetch(url, { ...init, signal: ended, credentials: 'same-origin' });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'the collector does not answer: is it still running?');
  }
  const body = await response.json().catch(() => null);
  signal?.throwIfAborted();
  if (!response.ok) {
    throw new ApiError(response.status, typeof body?.error === 'string' ? body.error : `the collector answered ${response.status}`);
  }
  if (body === null) throw new ApiError(response.status, 'the answer of the collector broke off or is no JSON');
  return body;
}

/** True for a call that was cancelled because nobody waits for it. @param {unknown} error */
export const isAborted = (error) => error instanceof DOMException && error.name === 'AbortError';

/**
 * @param {'packets' | 'flows' | 'talkers' | 'traffic' | 'events'} table
 * @param {'csv' | 'ndjson'} format
 * @param {Params} params
 */
export const exportUrl = (table, format, params) => `/api/export/${table}.${format}${queryOf(params)}`;

// A stand-in for the collector: serves web/ under the collector's own headers and answers
// docs/api.md with made-up data. Node built-ins only.
//
//   node tests/mock-server.mjs 8099      to look at the dashboard without a sensor
//
// Tests import createMock() and steer it: push() sends one SSE event, state.mode makes it empty,
// failing or unreachable.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { dirname, extname, join, normalize, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Scene } from './mock-scene.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');

/** What the collector serves of web/: everything else there is development material. */
export const SERVED = /^(index\.html|favicon\.svg|app\/.+\.js|styles\/.+\.css|vendor\/.+\.(js|css))$/;

export const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
    "require-trusted-types-for 'script'; trusted-types 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
};

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/**
 * @typedef {object} MockState
 * @property {'normal'|'empty'|'ended'|'failing'|'down'} mode  `empty`: no sensor has ever connected; `ended`: none is connected now
 * @property {boolean} canChange
 * @property {string} source
 * @property {boolean} accepts whether the sensor accepts commands
 */

/**
 * @param {{port?: number, live?: boolean, hostile?: boolean, source?: string, canChange?: boolean}} [options]
 */
export async function createMock(options = {}) {
  /** @type {MockState} */
  const state = {
    mode: 'normal',
    canChange: options.canChange ?? true,
    source: options.source ?? 'live',
    accepts: true,
  };
  const scene = new Scene({ hostile: options.hostile ?? false });
  /** @type {Set<import('node:http').ServerResponse>} */
  const listeners = new Set();
  /** @type {Map<string, any>} */
  const commands = new Map();
  /** @type {{method: string, path: string}[]} */
  const log = [];

  /** @param {string} event @param {unknown} data */
  const push = (event, data) => {
    for (const response of listeners) response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  };

  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      response.writeHead(500, { ...HEADERS, 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: String(error) }));
    });
  });

  /** @param {import('node:http').IncomingMessage} request @param {import('node:http').ServerResponse} response */
  async function handle(request, response) {
    const url = new URL(request.url ?? '/', 'http://mock');
    log.push({ method: request.method ?? '', path: url.pathname + url.search });
    if (state.mode === 'down') {
      request.socket.destroy();
      return;
    }
    if (!url.pathname.startsWith('/api/')) {
      await serveFile(url.pathname, response);
      return;
    }
    /** @param {number} status @param {unknown} body */
    const json = (status, body) => {
      response.writeHead(status, { ...HEADERS, 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    };
    if (state.mode === 'failing') {
      json(503, { error: 'the store is busy: try again in a few seconds' });
      return;
    }
    const empty = state.mode === 'empty';
    const path = url.pathname.slice('/api/'.length);
    const query = url.searchParams;
    if (path === 'live') {
      response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream' });
      response.write('retry: 500\n\n');
      listeners.add(response);
      request.on('close', () => listeners.delete(response));
      return;
    }
    if (path === 'status') return json(200, scene.status(state));
    if (path === 'sensors') return json(200, { items: empty ? [] : scene.sensors(state), next: null });
    if (path === 'traffic') return json(200, empty ? { step_ms: 1000, items: [] } : scene.traffic(query));
    if (path === 'totals') return json(200, scene.totals(empty));
    if (path === 'packets') return json(200, empty ? { items: [], next: null } : scene.packets(query));
    if (path === 'flows') return json(200, empty ? { items: [], next: null } : scene.flows(query));
    if (path === 'talkers') return json(200, empty ? { items: [], next: null } : scene.talkers(query));
    if (path === 'events') return json(200, empty ? { items: [], next: null } : scene.events(query));
    if (path.startsWith('flows/')) {
      const flow = scene.flowList.find((f) => f.flow_id === decodeURIComponent(path.slice(6)));
      return flow && !empty ? json(200, flow) : json(404, { error: 'no such flow: it may have been removed by retention' });
    }
    if (path.startsWith('export/')) {
      const name = path.slice('export/'.length);
      response.writeHead(200, {
        ...HEADERS,
        'content-type': name.endsWith('.csv') ? 'text/csv' : 'application/x-ndjson',
        'content-disposition': `attachment; filename="${name}"`,
      });
      response.end('unix_ms,note\n0,mock\n');
      return;
    }
    if (path.startsWith('commands/')) {
      const command = commands.get(path.slice('commands/'.length));
      return command ? json(200, command) : json(404, { error: 'no such command' });
    }
    const posted = /^sensors\/([^/]+)\/commands$/.exec(path);
    if (posted && request.method === 'POST') {
      return runCommand(decodeURIComponent(posted[1]), await body(request), json);
    }
    json(404, { error: `no such call: /api/${path}` });
  }

  /** @param {string} sensor @param {any} wish @param {(status: number, body: unknown) => void} json */
  function runCommand(sensor, wish, json) {
    if (!state.canChange) return json(401, { error: 'a token is needed: open the address that the collector printed at start' });
    if (!state.accepts) return json(409, { error: `sensor ${sensor} does not accept ${wish.command}: allow it in the sensor's configuration` });
    if (!/^[A-Za-z0-9.:][A-Za-z0-9.:-]*$/.test(wish.target)) return json(400, { error: 'the target is neither a host name nor an address' });
    const id = `c${commands.size + 1}`;
    const result = { command_id: id, sensor, command: wish.command, target: wish.target, done: false, error: null, hops: /** @type {any[]} */ ([]), probe: /** @type {any} */ (null) };
    commands.set(id, result);
    json(202, { command_id: id });
    const steps = scene.commandSteps(wish);
    let step = 0;
    const timer = setInterval(() => {
      Object.assign(result, steps[step]);
      step += 1;
      result.done = step >= steps.length;
      push('command', result);
      if (result.done) clearInterval(timer);
    }, 150);
    timers.add(timer);
  }

  /** @param {string} pathname @param {import('node:http').ServerResponse} response */
  async function serveFile(pathname, response) {
    const name = pathname === '/' ? 'index.html' : normalize(pathname).slice(1).split(sep).join('/');
    const text = SERVED.test(name) ? await readFile(join(ROOT, name)).catch(() => null) : null;
    if (text === null) {
      response.writeHead(404, { ...HEADERS, 'content-type': 'text/plain' });
      response.end('not found');
      return;
    }
    response.writeHead(200, { ...HEADERS, 'content-type': TYPES[/** @type {keyof TYPES} */ (extname(name))] });
    response.end(text);
  }

  /** @type {Set<NodeJS.Timeout>} */
  const timers = new Set();
  if (options.live ?? true) {
    timers.add(
      setInterval(() => {
        if (state.mode !== 'normal') return;
        const made = scene.tick();
        for (const item of made.traffic) push('traffic', item);
        push('packets', made.packets);
        push('flows', made.flows);
        for (const event of made.events) push('event', event);
      }, 1000),
    );
  }

  await new Promise((resolve) => server.listen(options.port ?? 0, '127.0.0.1', () => resolve(undefined)));
  const address = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${address.port}`,
    state,
    scene,
    push,
    log,
    listeners,
    /** Ends every open SSE stream, as a restart of the collector does. */
    dropListeners() {
      for (const response of listeners) response.destroy();
    },
    async close() {
      for (const timer of timers) clearInterval(timer);
      for (const response of listeners) response.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(() => resolve(undefined)));
    },
  };
}

/** @param {import('node:http').IncomingMessage} request */
async function body(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}

if (process.argv[2] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const mock = await createMock({ port: Number(process.argv[2]), source: process.argv[3] ?? 'live' });
  console.log(`${mock.url}/  (Ctrl-C stops)`);
}

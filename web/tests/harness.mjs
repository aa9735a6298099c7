// What the browser tests share: a dashboard to look at, a browser, and a page that is watched for
// console errors, violations of the policy and requests that leave the host.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { openBrowser, openPage } from '../tools/browser.mjs';
import { createMock } from './mock-server.mjs';

/** A running collector to test instead of the mock. */
export const REAL = process.env.NETML_DASHBOARD_URL?.replace(/\/$/, '') ?? '';
/** For tests that steer the mock. */
export const MOCK_ONLY = { skip: REAL ? 'steers the mock server; NETML_DASHBOARD_URL names a real collector' : false };
export const VIEWS = ['overview', 'packets', 'flows', 'talkers', 'events', 'sensors', 'diagnose'];
/** How long anything is waited for: far longer than it takes, for machines that others share. */
export const PATIENCE_MS = 60_000;

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** @type {import('playwright-core').Browser | undefined} */
let browser;

export async function start() {
  browser = await openBrowser();
}

export async function stop() {
  await browser?.close();
}

/**
 * Runs `body` with a page on the dashboard and fails if the page complained about anything.
 * @param {object} options
 * @param {Parameters<typeof createMock>[0]} [options.mock]
 * @param {string} [options.hash]
 * @param {'dark' | 'light'} [options.theme]
 * @param {number} [options.width]
 * @param {number} [options.height]
 * @param {RegExp} [options.expected] complaints that the test causes on purpose
 * @param {(mock: Awaited<ReturnType<typeof createMock>>) => void} [options.prepare]
 * @param {(page: import('playwright-core').Page, mock: Awaited<ReturnType<typeof createMock>>, base: string) => Promise<void>} body
 */
export async function withPage({ mock: mockOptions, hash = 'overview', theme = 'dark', width = 1280, height = 800, expected, prepare }, body) {
  assert.ok(browser, 'start() was not called');
  const mock = REAL ? null : await createMock({ live: false, ...mockOptions });
  if (mock) prepare?.(mock);
  const base = REAL || /** @type {NonNullable<typeof mock>} */ (mock).url;
  // Without transitions, a contrast is never measured half way between two colours.
  const page = await openPage(browser, { theme, width, height, reducedMotion: 'reduce' });
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = watch(page, base);
  try {
    await page.goto(`${base}/#/${hash}`);
    await page.locator('main h1').waitFor({ state: 'attached' });
    await body(page, /** @type {any} */ (mock), base);
    assert.deepEqual(complaints.filter((one) => !expected?.test(one)), [], 'the page complained');
  } finally {
    await page.context().close();
    await mock?.close();
  }
}

/** @param {import('playwright-core').Page} page @param {string} base */
function watch(page, base) {
  /** @type {string[]} */
  const complaints = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== new URL(base).origin) complaints.push(`off the host: ${request.url()}`);
  });
  return complaints;
}

/**
 * WCAG 2.0 to 2.2, A and AA, by axe.
 * @param {import('playwright-core').Page} page
 * @param {string} where
 */
export async function assertAccessible(page, where) {
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const result = await /** @type {any} */ (window).axe.run(document, {
      runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa'] },
      resultTypes: ['violations'],
    });
    return result.violations.map((/** @type {any} */ v) => `${v.id}: ${v.nodes.slice(0, 3).map((/** @type {any} */ n) => `${n.target.join(' ')} (${n.failureSummary})`).join(' | ')}`);
  });
  assert.deepEqual(violations, [], `axe on ${where}`);
}

/** For what must become true: a graph takes its new width a frame after the page. @param {import('playwright-core').Page} page @param {string} where */
export async function assertNoSideScroll(page, where) {
  await eventually(async () => {
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(over <= 0, `${where} scrolls sideways by ${over} px`);
  });
}

/**
 * Repeats `check` until it holds; throws what it threw last. For what follows from an action, or comes with another answer than
 * the one waited for.
 * @param {() => Promise<void> | void} check
 */
export async function eventually(check) {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Waits until every handler of what was just done has run and the page is drawn. @param {import('playwright-core').Page} page */
export const drawn = (page) =>
  page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve)))));

/** Goes to a view and waits until it has drawn its data. @param {import('playwright-core').Page} page @param {string} view */
export async function goTo(page, view) {
  // The event comes after the address has changed: without it, the view before could be taken for the new one.
  await page.evaluate(
    (name) =>
      new Promise((resolve) => {
        if (location.hash === `#/${name}`) resolve(undefined);
        addEventListener('hashchange', resolve, { once: true });
        location.hash = `#/${name}`;
      }),
    view,
  );
  await page.locator(`nav a[aria-current="page"][href="#/${view.split('?')[0]}"]`).waitFor();
  await page.waitForFunction(() => !document.querySelector('main')?.textContent?.includes('Asking the collector'));
}

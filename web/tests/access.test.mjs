// Accessibility, reflow, policy and size: every view, both themes, wide and narrow.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { assertAccessible, assertNoSideScroll, drawn, eventually, goTo, MOCK_ONLY, start, stop, VIEWS, withPage } from './harness.mjs';

const FIRST_LOAD_MAX_BYTES = 150_000;
const themes = /** @type {const} */ (['dark', 'light']);

before(start);
after(stop);

for (const theme of themes) {
  for (const width of [1280, 375]) {
    test(`axe finds nothing in any view, ${theme}, ${width} px`, async () => {
      await withPage({ theme, width }, async (page) => {
        for (const view of VIEWS) {
          await goTo(page, view);
          await assertAccessible(page, `${view}, ${theme}, ${width} px`);
          await assertNoSideScroll(page, `${view}, ${width} px`);
        }
      });
    });
  }
}

test('nothing scrolls sideways at 320 px', async () => {
  await withPage({ width: 320, mock: { hostile: true } }, async (page) => {
    for (const view of VIEWS) {
      await goTo(page, view);
      await assertNoSideScroll(page, `${view}, 320 px`);
    }
  });
});

for (const theme of themes) {
  test(`axe finds nothing in the flow panel, the help and an open table twin, ${theme}`, MOCK_ONLY, async () => {
    await withPage({ theme, hash: 'flows?verdict=SUSPICIOUS' }, async (page) => {
      await page.locator('td button', { hasText: 'Why' }).first().click();
      await page.locator('dialog[open] .reasons').waitFor();
      await assertAccessible(page, 'flow panel');
      await page.keyboard.press('Escape');
      await page.locator('dialog').waitFor({ state: 'detached' });
      await page.keyboard.press('?');
      await page.locator('dialog[open]').waitFor();
      await assertAccessible(page, 'help');
      await page.keyboard.press('Escape');
      await page.locator('dialog').waitFor({ state: 'detached' });
      await goTo(page, 'overview');
      await page.locator('summary').first().click();
      await page.locator('.twin-scroll tbody tr').first().waitFor();
      await assertAccessible(page, 'table twin');
    });
  });
}

test('axe finds nothing in the empty, failing and paused states', MOCK_ONLY, async () => {
  for (const mode of /** @type {const} */ (['empty', 'failing'])) {
    await withPage({ prepare: (mock) => (mock.state.mode = mode), expected: /503|EventSource/ }, async (page) => {
      for (const view of VIEWS) {
        await goTo(page, view);
        await assertAccessible(page, `${view}, ${mode}`);
      }
      await page.getByRole('button', { name: 'Pause' }).click();
      await page.locator('.live-paused').waitFor();
      await assertAccessible(page, `paused, ${mode}`);
    });
  }
});

test('the first load is small, and stays on the host', async () => {
  await withPage({}, async (page, _mock, base) => {
    /** @type {Set<string>} */
    const loaded = new Set();
    page.on('response', (response) => void (response.url().includes('/api/') || loaded.add(response.url())));
    await page.goto('about:blank');
    await page.goto(`${base}/#/overview`);
    await page.locator('.tile').first().waitFor();
    // Fetched anew: the browser does not promise to keep the bodies of its answers.
    const bodies = await Promise.all([...loaded].map(async (url) => Buffer.from(await (await fetch(url)).arrayBuffer())));
    const sum = bodies.reduce((all, body) => all + gzipSync(body).length, 0);
    assert.ok(loaded.size > 10, 'the page loads its modules');
    console.log(`first load: ${loaded.size} files, ${sum} bytes compressed`);
    assert.ok(sum <= FIRST_LOAD_MAX_BYTES, `first load is ${sum} bytes compressed`);
  });
});

test('the policy refuses inline scripts and other hosts', async () => {
  await withPage({ expected: /Refused|violates|Content Security Policy|Trusted/i }, async (page) => {
    const result = await page.evaluate(async () => {
      try {
        const script = document.createElement('script');
        script.textContent = 'window.__inline = true';
        document.body.append(script);
      } catch {
        // Trusted Types refuse even the assignment.
      }
      const fetched = await fetch('http://127.0.0.1:9/').then(() => 'fetched', () => 'refused');
      return { inline: '__inline' in window, fetched };
    });
    assert.deepEqual(result, { inline: false, fetched: 'refused' });
  });
});

test('the axe check itself can fail', async () => {
  await withPage({}, async (page) => {
    await page.evaluate(() => document.querySelector('main')?.append(document.createElement('input')));
    await assert.rejects(assertAccessible(page, 'a page with a field without a label'), /label/);
  });
});

test('a keyboard reaches everything in order, and focus can be seen', async () => {
  await withPage({ hash: 'packets' }, async (page) => {
    await page.waitForFunction(() => !document.querySelector('main')?.textContent?.includes('Asking the collector'));
    const seen = [];
    for (let i = 0; i < 24; i += 1) {
      await page.keyboard.press('Tab');
      seen.push(
        await page.evaluate(() => {
          const element = document.activeElement;
          if (!element || element === document.body) return null;
          const style = getComputedStyle(element);
          return {
            name: element.getAttribute('aria-label') ?? element.textContent?.trim().slice(0, 30) ?? element.tagName,
            visible: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
          };
        }),
      );
    }
    const reached = seen.filter((one) => one !== null);
    assert.equal(reached[0]?.name, 'Skip to the content');
    for (const view of ['Overview', 'Packets', 'Flows', 'Talkers', 'Events', 'Sensors', 'Diagnose', 'CSV', 'NDJSON']) {
      assert.ok(reached.some((one) => one?.name === view), `Tab does not reach ${view}`);
    }
    for (const one of reached) assert.ok(one?.visible, `focus cannot be seen on ${one?.name}`);
  });
});

test('the skip link leads past the header and keeps the view', async () => {
  await withPage({ hash: 'sensors' }, async (page) => {
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement?.id === 'main');
    assert.match(page.url(), /#\/sensors$/);
  });
});

test('shortcuts move about, can be switched off, and leave typing alone', async () => {
  await withPage({}, async (page) => {
    await page.keyboard.press('3');
    // The address changes a moment before the view is drawn; a key pressed between finds no filter.
    await page.getByLabel('Kind').waitFor();
    await page.keyboard.press('/');
    await page.waitForFunction(() => document.activeElement?.matches('input, select'));
    await page.keyboard.type('2');
    assert.match(page.url(), /#\/flows/, 'a digit typed into a filter is no shortcut');
    await page.locator('h1').first().evaluate(() => /** @type {any} */ (document.activeElement)?.blur());
    await page.keyboard.press('?');
    await page.locator('dialog[open]').waitFor();
    await page.getByLabel('Single-key shortcuts').uncheck();
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
    await page.keyboard.press('1');
    await drawn(page);
    assert.match(page.url(), /#\/flows/, 'switched off');
  });
});

test('a dialog gives the focus back to what opened it', async () => {
  await withPage({}, async (page) => {
    await page.getByRole('button', { name: 'Help' }).click();
    await page.locator('dialog[open]').waitFor();
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
    await page.waitForFunction(() => document.activeElement?.getAttribute('aria-label') === 'Help');
  });
});

test('the theme follows the system until it is chosen, and the choice is kept', async () => {
  await withPage({ theme: 'light' }, async (page) => {
    const scheme = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await scheme();
    const button = page.getByRole('button', { name: /^Theme/ });
    await button.click();
    await page.getByRole('button', { name: /^Theme: dark/ }).waitFor();
    await eventually(async () => assert.notEqual(await scheme(), light));
    const dark = await scheme();
    await page.reload();
    await page.locator('main h1').waitFor({ state: 'attached' });
    await eventually(async () => assert.equal(await scheme(), dark, 'kept over a reload'));
    await button.click();
    await eventually(async () => assert.equal(await scheme(), light));
  });
});

test('a graph speaks: name, summary, arrow keys and a table with the same numbers', MOCK_ONLY, async () => {
  await withPage({}, async (page) => {
    const graph = page.getByRole('slider', { name: 'Download and upload, over time' });
    await page.waitForFunction(() => document.querySelector('[role=slider]')?.getAttribute('aria-valuetext')?.includes('Download'), );
    await graph.focus();
    await page.keyboard.press('Home');
    await eventually(async () => assert.equal(await graph.getAttribute('aria-valuenow'), '0'));
    const first = await graph.getAttribute('aria-valuetext');
    await page.keyboard.press('ArrowRight');
    await eventually(async () => {
      const second = await graph.getAttribute('aria-valuetext');
      assert.notEqual(first, second);
      assert.match(second ?? '', /^\d\d:\d\d:\d\d: Download .+B\/s, Upload .+B\/s$/);
    });
    const summary = await page.locator(`#${await graph.getAttribute('aria-describedby')}`.replaceAll(':', '\\:')).textContent();
    assert.match(summary ?? '', /Download: now .+, mean .+, peak /);
    await page.locator('.chart').first().locator('summary').click();
    // Built once the browser tells that it is open.
    await page.locator('.chart').first().locator('tbody tr').first().waitFor();
    const rows = await page.locator('.chart').first().locator('tbody tr').count();
    assert.ok(rows > 10 && rows <= 60, `${rows} rows`);
  });
});

// Takes a screenshot of the dashboard.
//
//   node tools/screenshot.mjs URL OUT.png [--theme dark|light] [--width N] [--height N] [--hash ROUTE] [--wait MS] [--full]
//
// The browser is Debian's chromium (or CHROMIUM=/path/to/it).
import { parseArgs } from 'node:util';
import { openBrowser, openPage } from './browser.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    theme: { type: 'string', default: 'dark' },
    width: { type: 'string', default: '1280' },
    height: { type: 'string', default: '800' },
    hash: { type: 'string', default: 'overview' },
    wait: { type: 'string', default: '3000' },
    full: { type: 'boolean', default: false },
  },
});
const [url, out] = positionals;
if (!url || !out) {
  console.error('usage: node tools/screenshot.mjs URL OUT.png [--theme dark|light] [--width N] [--height N] [--hash ROUTE] [--wait MS] [--full]');
  process.exit(2);
}
const browser = await openBrowser();
try {
  const page = await openPage(browser, {
    theme: values.theme === 'light' ? 'light' : 'dark',
    width: Number(values.width),
    height: Number(values.height),
  });
  await page.goto(`${url.replace(/\/$/, '')}/#/${values.hash.replace(/^#?\/?/, '')}`);
  await page.waitForTimeout(Number(values.wait));
  await page.screenshot({ path: out, fullPage: values.full });
} finally {
  await browser.close();
}

// Debian's Chromium, driven by playwright-core, with a fresh profile and nothing that phones home.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

export async function openBrowser() {
  if (!existsSync(EXECUTABLE)) {
    throw new Error(`no browser at ${EXECUTABLE}: install Debian's package chromium, or set CHROMIUM to its path`);
  }
  return chromium.launch({
    executablePath: EXECUTABLE,
    headless: true,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-default-apps', '--no-default-browser-check',
    ],
  });
}

/**
 * A page of its own profile.
 * @param {import('playwright-core').Browser} browser
 * @param {{theme?: 'dark' | 'light', width?: number, height?: number, reducedMotion?: 'reduce' | 'no-preference'}} [options]
 */
export async function openPage(browser, { theme = 'dark', width = 1280, height = 800, reducedMotion = 'no-preference' } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: theme,
    reducedMotion,
    serviceWorkers: 'block',
  });
  return context.newPage();
}

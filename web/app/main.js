// Starts the dashboard: theme, live feed, polls, then the page.
import { effect, html, render } from './lib.js';
import { App } from './views/app.js';
import * as live from './state/live.js';
import * as store from './state/store.js';
import { choice } from './state/theme.js';

effect(() => {
  const root = document.documentElement;
  if (choice.value === 'system') root.removeAttribute('data-theme');
  else root.setAttribute('data-theme', choice.value);
});

store.start();
live.start();

const root = document.getElementById('app');
if (root) render(html`<${App} />`, root);

// Single-key shortcuts. They can be switched off (WCAG 2.1.4), and never act while one types.
import { signal } from '../lib.js';
import { paused } from './live.js';
import { link, VIEWS } from './router.js';

const KEY = 'netml-shortcuts';

function kept() {
  try {
    return localStorage.getItem(KEY) !== 'off';
  } catch {
    return true;
  }
}
export const shortcuts = signal(kept());

/** @param {boolean} on */
export function setShortcuts(on) {
  shortcuts.value = on;
  try {
    if (on) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, 'off');
  } catch {
    // Storage is denied: the choice lasts as long as the page.
  }
}

export const KEYS = [
  { keys: '1 – 7', does: 'go to a view' },
  { keys: '/', does: 'go to the first filter' },
  { keys: 'p', does: 'pause and resume' },
  { keys: 't', does: 'change the theme' },
  { keys: '?', does: 'this help' },
];

/** @param {{help: () => void, theme: () => void}} acts */
export function bindKeys({ help, theme }) {
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const target = /** @type {Element} */ (event.target);
    if (!shortcuts.value || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (target.closest?.('input, select, textarea, dialog')) return;
    if (event.key === '?') help();
    else if (event.key === 'p') paused.value = !paused.value;
    else if (event.key === 't') theme();
    else if (event.key === '/') {
      const field = /** @type {HTMLElement | null} */ (document.querySelector('main .field input, main .field select'));
      if (!field) return;
      field.closest('details')?.setAttribute('open', '');
      field.focus();
    } else if (/^[1-9]$/.test(event.key) && VIEWS[Number(event.key) - 1]) location.hash = link(VIEWS[Number(event.key) - 1]);
    else return;
    event.preventDefault();
  };
  document.addEventListener('keydown', onKey);
  return () => document.removeEventListener('keydown', onKey);
}

// Dark or light: the system's wish until the user chooses; the choice is kept.
import { computed, signal } from '../lib.js';

const KEY = 'netml-theme';
const system = matchMedia('(prefers-color-scheme: light)');
const systemLight = signal(system.matches);
system.addEventListener('change', () => {
  systemLight.value = system.matches;
});

/** @returns {'system' | 'dark' | 'light'} */
function kept() {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'dark' || value === 'light' ? value : 'system';
  } catch {
    return 'system';
  }
}

export const choice = signal(kept());
export const theme = computed(() => (choice.value === 'system' ? (systemLight.value ? 'light' : 'dark') : choice.value));

/** @param {'system' | 'dark' | 'light'} next */
export function choose(next) {
  choice.value = next;
  try {
    if (next === 'system') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // Storage is denied: the choice lasts as long as the page.
  }
}

// The vendored libraries, in one place. Everything else imports from here.
export { html, render } from '../vendor/htm-preact.js';
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState, useCallback } from '../vendor/preact-hooks.js';
export { signal, computed, effect, batch, untracked } from '../vendor/signals.js';

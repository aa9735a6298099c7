// Icons as inline SVG: they take the colour of the text and are hidden from assistive technology.
import { html } from '../lib.js';

/** @type {Record<string, string[]>} paths on a 16 × 16 grid, drawn as strokes */
const PATHS = {
  overview: ['M2 13V8M6 13V3M10 13V6M14 13V9'],
  packets: ['M2 4h12M2 8h12M2 12h8'],
  flows: ['M2 5h10l-3-3M14 11H4l3 3'],
  talkers: ['M3 13c0-2.5 2-4 5-4s5 1.500 5 4M8 7a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5'],
  events: ['M8 2a4 4 0 0 0-4 4v3l-1.500 2.500h11L12 9V6a4 4 0 0 0-4-4M6.500 14h3'],
  sensors: ['M8 8m-1.500 0a1.500 1.500 0 1 0 3 0 1.500 1.500 0 1 0-3 0M4.800 11.200a4.500 4.500 0 0 1 0-6.400M11.200 4.800a4.500 4.500 0 0 1 0 6.400M2.700 13.300a7.500 7.500 0 0 1 0-10.600M13.300 2.700a7.500 7.500 0 0 1 0 10.600'],
  diagnose: ['M2 8h3l2-5 3 10 2-5h2'],
  pause: ['M5.500 3v10M10.500 3v10'],
  play: ['M5 3l8 5-8 5z'],
  sun: ['M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1'],
  moon: ['M13.500 9.500A6 6 0 0 1 6.500 2.500a6 6 0 1 0 7 7'],
  auto: ['M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 2v12M8 5l4 1M8 8h5M8 11l4-1'],
  help: ['M6 6a2 2 0 1 1 3 1.700c-.7.4-1 .8-1 1.600M8 12v.2'],
  close: ['M4 4l8 8M12 4l-8 8'],
  down: ['M8 2v11M4 9l4 4 4-4'],
  up: ['M8 14V3M4 7l4-4 4 4'],
  export: ['M8 2v8M5 7l3 3 3-3M3 13h10'],
  search: ['M7 2.500a4.500 4.500 0 1 0 0 9 4.500 4.500 0 0 0 0-9M10.500 10.500L14 14'],
  dot: ['M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6'],
};

/** @param {{name: string, className?: string}} props */
export function Icon({ name, className = '' }) {
  return html`<svg class=${`icon ${className}`} viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">
    ${(PATHS[name] ?? PATHS.dot).map((d) => html`<path d=${d} key=${d} />`)}
  </svg>`;
}

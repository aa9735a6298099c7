// A verdict as shape, word and colour together: none of them alone carries the meaning.
import { html } from '../lib.js';
import { kindOf, VERDICTS, verdictOf } from '../words.js';
import { perDay, percent, UNKNOWN } from '../format.js';

/** Filled octagon, triangle, ring with a tick, dashed ring. @type {Record<string, () => unknown>} */
const SHAPES = {
  SUSPICIOUS: () => html`<path class="solid" d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" /><path class="hole" d="M8 4v5M8 11.300v.4" />`,
  UNSURE: () => html`<path d="M8 2l6.500 11.500h-13z" /><path d="M8 6.500v3.200M8 11.500v.3" />`,
  NORMAL: () => html`<path d="M8 1.800a6.200 6.200 0 1 0 0 12.400A6.200 6.200 0 0 0 8 1.800" /><path d="M5 8.200l2.200 2.200L11 6" />`,
  NO_VERDICT: () => html`<path class="dashed" d="M8 1.800a6.200 6.200 0 1 0 0 12.400A6.200 6.200 0 0 0 8 1.800" />`,
};

/** @param {{name: string, kind?: string}} props */
export function Verdict({ name, kind }) {
  const verdict = verdictOf(name);
  return html`<span class=${`verdict verdict-${verdict.toLowerCase().replace('_', '-')}`} title=${VERDICTS[verdict].meaning}>
    <svg class="verdict-shape" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" focusable="false">${SHAPES[verdict]()}</svg>
    <span class="verdict-word">${VERDICTS[verdict].label}</span>${kind ? html`<span class="verdict-kind" dir="auto" title=${kindOf(kind)}>${kindOf(kind)}</span>` : null}
  </span>`;
}

/**
 * A probability. Without a verdict there is none.
 * @param {{verdict: string, probability: number}} props
 */
export function Probability({ verdict, probability }) {
  if (verdictOf(verdict) === 'NO_VERDICT') return html`<span class="quiet">${UNKNOWN}</span>`;
  return html`<span class="probability">
    <span class="meter" aria-hidden="true"><span class="meter-fill" style=${{ width: `${Math.max(0, Math.min(1, probability)) * 100}%` }}></span></span>
    <span class="number">${percent(probability)}</span>
  </span>`;
}

/**
 * What acting at this score would cost in false alarms: it stands beside every probability.
 * @param {{verdict: string, expected: number | null | undefined}} props
 */
export function FalseAlarms({ verdict, expected }) {
  const known = verdictOf(verdict) !== 'NO_VERDICT' && expected !== null && expected !== undefined;
  return html`<span class="number quiet" title="False alarms to expect in a day at this score, on the validation captures">${known ? perDay(expected) : UNKNOWN}</span>`;
}

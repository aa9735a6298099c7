// What the words and marks mean, and the keys.
import { html, useEffect, useRef } from '../lib.js';
import { KEYS, setShortcuts, shortcuts } from '../state/keys.js';
import { Icon } from '../components/icons.js';
import { Verdict } from '../components/verdict.js';
import { SOURCES, VERDICTS } from '../words.js';

/** @param {{onClose: () => void}} props */
export function Help({ onClose }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return html`<dialog class="modal" ref=${dialog} aria-labelledby="help-heading" onClose=${onClose} onClick=${(/** @type {any} */ e) => e.target === dialog.current && dialog.current?.close()}>
    <div class="sheet-body">
      <header class="sheet-head">
        <h2 id="help-heading">Help</h2>
        <button type="button" class="button icon-button" aria-label="Close" onClick=${() => dialog.current?.close()}><${Icon} name="close" /></button>
      </header>
      <h3>Verdicts</h3>
      <dl class="legend">${Object.entries(VERDICTS).map(([name, v]) => html`<div key=${name}><dt><${Verdict} name=${name} /></dt><dd>${v.meaning}</dd></div>`)}</dl>
      <p class="quiet">The probability is calibrated at the share of attacks in the model's reference data, which is far above that of live traffic. So it stands beside the false alarms to expect in a day at the same score: trust that number first.</p>
      <h3>Sources</h3>
      <dl class="legend">${Object.entries(SOURCES).map(([name, s]) => html`<div key=${name}><dt><span class=${`source source-${name}`}>${s.label}</span></dt><dd>${s.meaning}</dd></div>`)}</dl>
      <h3>Numbers</h3>
      <p class="quiet">Totals and rates come from counters in the kernel and are exact. Packets are rows of a sample when there are more than the sensor's budget; flows are complete. “Not analysed” counts packets that were seen and counted but could not be looked at, with the reason.</p>
      <h3>Keys</h3>
      <dl class="legend keys">${KEYS.map((k) => html`<div key=${k.keys}><dt><kbd>${k.keys}</kbd></dt><dd>${k.does}</dd></div>`)}
        <div><dt><kbd>← →</kbd></dt><dd>on a graph: move along time; Page Up, Page Down, Home, End too</dd></div>
        <div><dt><kbd>Esc</kbd></dt><dd>close a panel</dd></div></dl>
      <label class="check"><input type="checkbox" checked=${shortcuts.value} onChange=${(/** @type {any} */ e) => setShortcuts(e.currentTarget.checked)} /> Single-key shortcuts</label>
    </div>
  </dialog>`;
}

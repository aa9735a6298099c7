// The frame around the views: name, source, live state, navigation, banners, help.
import { html, useLayoutEffect, useState } from '../lib.js';
import { connection, paused, reconnect } from '../state/live.js';
import { lastAnswerAt, lastEventAt, sensors, status } from '../state/store.js';
import { link, view, VIEWS } from '../state/router.js';
import { choice, choose } from '../state/theme.js';
import { bindKeys } from '../state/keys.js';
import { Icon } from '../components/icons.js';
import { Notice, useNow } from '../components/common.js';
import { SOURCES } from '../words.js';
import { clock, duration } from '../format.js';
import { Overview } from './overview.js';
import { Packets } from './packets.js';
import { Flows } from './flows.js';
import { Talkers } from './talkers.js';
import { Events } from './events.js';
import { Sensors } from './sensors.js';
import { Diagnose } from './diagnose.js';
import { Help } from './help.js';

const NAMES = { overview: 'Overview', packets: 'Packets', flows: 'Flows', talkers: 'Talkers', events: 'Events', sensors: 'Sensors', diagnose: 'Diagnose' };
const PAGES = { overview: Overview, packets: Packets, flows: Flows, talkers: Talkers, events: Events, sensors: Sensors, diagnose: Diagnose };

export function App() {
  const [help, setHelp] = useState(false);
  // With the first drawing, not after it: a key pressed in between would be lost.
  useLayoutEffect(() => bindKeys({ help: () => setHelp(true), theme: cycleTheme }), []);
  const Page = PAGES[view.value];
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <${Header} onHelp=${() => setHelp(true)} />
    <${Banners} />
    <main id="main" tabindex="-1"><${Page} key=${view.value} /></main>
    <footer class="foot quiet small">
      <span>netml ${status.value.value?.version ?? ''}</span>
      <span>This page talks to its own collector and to nothing else. 1 kB = 1000 bytes; B = bytes, bit = bits.</span>
    </footer>
    ${help ? html`<${Help} onClose=${() => setHelp(false)} />` : null}
  `;
}

/** The address of the page is a route: a plain fragment link would change it. @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

const THEMES = /** @type {const} */ (['system', 'dark', 'light']);
function cycleTheme() {
  choose(THEMES[(THEMES.indexOf(choice.value) + 1) % THEMES.length]);
}

/** @param {{onHelp: () => void}} props */
function Header({ onHelp }) {
  const now = view.value;
  return html`<header class="top">
    <div class="top-row">
      <a class="brand" href=${link('overview')} aria-label="netml, overview">
        <svg viewBox="0 0 32 32" width="24" height="24" aria-hidden="true" focusable="false"><path d="M2 18h6l3-10 6 16 4-10 2 4h7" /></svg>
        <span>netml</span>
      </a>
      <${SourceMark} />
      <${LiveState} />
      <div class="top-tools">
        <button type="button" class="button" aria-pressed=${paused.value ? 'true' : 'false'} onClick=${() => (paused.value = !paused.value)}>
          <${Icon} name=${paused.value ? 'play' : 'pause'} /><span class="wide-only">${paused.value ? 'Resume' : 'Pause'}</span><span class="visually-hidden narrow-only">Pause</span>
        </button>
        <button type="button" class="button icon-button" aria-label=${`Theme: ${choice.value}. Change`} title=${`Theme: ${choice.value}`} onClick=${cycleTheme}>
          <${Icon} name=${choice.value === 'system' ? 'auto' : choice.value === 'dark' ? 'moon' : 'sun'} />
        </button>
        <button type="button" class="button icon-button" aria-label="Help" title="Help (?)" aria-haspopup="dialog" onClick=${onHelp}><${Icon} name="help" /></button>
      </div>
    </div>
    <nav class="tabs" aria-label="Views">
      <ul>
        ${VIEWS.map((name) => html`<li key=${name}><a href=${link(name)} aria-current=${now === name ? 'page' : undefined}><${Icon} name=${name} /><span>${NAMES[name]}</span></a></li>`)}
      </ul>
    </nav>
  </header>`;
}

function SourceMark() {
  const source = status.value.value?.source;
  if (!source) return null;
  // What an ended replay left behind is still on the page: it stays marked.
  const name = source === 'none' ? lastHeard() : source;
  const known = SOURCES[name] ?? { label: String(name).toUpperCase(), meaning: 'A source this dashboard does not know.' };
  const label = name === source ? known.label : `${known.label}: ENDED`;
  return html`<span class=${`source source-${name in SOURCES ? name : 'none'}`} title=${known.meaning}>${label}<span class="visually-hidden">. ${known.meaning}</span></span>`;
}

/** Source of the sensor heard last, unless it was a live one: of that nothing has ended for good. */
function lastHeard() {
  /** @type {any[]} */
  const list = sensors.value.value ?? [];
  const last = list.reduce((latest, one) => (latest && latest.last_seen_unix_ms >= one.last_seen_unix_ms ? latest : one), null);
  return last && last.source !== 'live' ? last.source : 'none';
}

function LiveState() {
  const now = useNow();
  const state = paused.value ? 'paused' : connection.value;
  const since = lastEventAt.value ? now - lastEventAt.value : null;
  const quiet = state === 'live' && since !== null && since > 5000;
  const text = {
    connecting: 'connecting',
    live: quiet ? `nothing for ${duration(Math.floor((since ?? 0) / 1000) * 1000)}` : 'live',
    lost: 'disconnected',
    hidden: 'resting',
    paused: 'paused',
  }[state];
  return html`<span class=${`live live-${quiet ? 'quiet' : state}`}><span class="live-dot" aria-hidden="true"></span>${text}</span>`;
}

function Banners() {
  const lost = connection.value === 'lost';
  const error = status.value.error;
  return html`<div class="banners">
    <span class="visually-hidden" role="status">${lost ? '' : connection.value === 'live' ? 'Connected' : ''}${paused.value ? ', paused' : ''}</span>
    ${lost
      ? html`<${Notice} tone="bad" title="No connection to the collector" action=${html`<button type="button" class="button small" onClick=${reconnect}>Try now</button>`}>
          ${lastAnswerAt.value ? `What is shown is as of ${clock(Math.max(lastAnswerAt.value, lastEventAt.value))}. ` : ''}Trying again by itself. If it was stopped, start it with <code>cargo xtask run</code> or <code>netml-collector serve</code>.
        <//>`
      : error
        ? html`<${Notice} tone="bad" title="The collector reports an error">${error}<//>`
        : null}
    ${paused.value
      ? html`<${Notice} tone="warn" title="Paused" action=${html`<button type="button" class="button small" onClick=${() => (paused.value = false)}>Resume</button>`}>
          The display stands still; the sensors go on and nothing is lost.
        <//>`
      : null}
  </div>`;
}

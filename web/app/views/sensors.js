// Every sensor: where it is attached, how it is doing, and what it could not look at.
import { html } from '../lib.js';
import { sensors, status } from '../state/store.js';
import { malformed, missed } from '../state/live.js';
import { Notice, Panel, useNow, useTitle } from '../components/common.js';
import { Fact } from './flow-detail.js';
import { NoSensor } from './overview.js';
import { lossOf, modeOf, SOURCES, splitLost } from '../words.js';
import { bytes, count, duration, percent, UNKNOWN, visible, when } from '../format.js';

export function Sensors() {
  useTitle('Sensors');
  const { value, error } = sensors.value;
  return html`<div class="view">
    <h1 class="visually-hidden">Sensors</h1>
    ${error ? html`<${Notice} tone="bad" title="The sensors could not be read">${error}<//>` : null}
    ${value === null && !error ? html`<${Notice} title="Asking the collector…" />` : null}
    ${value?.length === 0 ? html`<${NoSensor} />` : null}
    ${value?.map((/** @type {any} */ s, /** @type {number} */ i) => html`<${Sensor} key=${s.sensor} sensor=${s} index=${i} />`)}
    <${Collector} />
  </div>`;
}

/** @param {{sensor: any, index: number}} props */
function Sensor({ sensor, index }) {
  const now = useNow();
  const health = sensor.health;
  const { missing, notIp } = splitLost(sensor.lost);
  const reasons = Object.entries(sensor.lost ?? {}).filter(([, n]) => Number(n) > 0).sort((a, b) => Number(b[1]) - Number(a[1]));
  const mapped = Number(sensor.mapped ?? 0);
  const sum = Number(sensor.recorded) + mapped + reasons.reduce((all, [, n]) => all + Number(n), 0);
  const balanced = sum === Number(sensor.frames);
  return html`<${Panel}
    id=${`sensor-${index}`}
    title=${html`<bdi>${sensor.sensor}</bdi>`}
    note=${html`<span class=${`state state-${sensor.connected ? 'on' : 'off'}`}>${sensor.connected ? 'connected' : `away for ${duration(Math.max(0, now - sensor.last_seen_unix_ms))}`}</span>
      <span class="tag">${(SOURCES[sensor.source] ?? SOURCES.none).label}</span>`}
  >
    <dl class="facts facts-row facts-strong">
      <${Fact} name="State" value=${sensor.connected ? 'up' : `away for ${duration(Math.max(0, now - sensor.last_seen_unix_ms))}`} hint=${`last heard ${when(sensor.last_seen_unix_ms)}`} />
      <${Fact} name="Late by" value=${sensor.late_ms === null || sensor.late_ms === undefined ? UNKNOWN : duration(sensor.late_ms)} hint="age of its latest report that is stored" />
      <${Fact} name="Waiting on the sensor" ...${waiting(health)} />
      <${Fact} name="Lost" value=${count(missing)} hint=${`packets not analysed${Number(sensor.frames) > 0 ? `, ${percent(missing / Number(sensor.frames))} of all` : ''}`} />
      <${Fact} name="Clock" ...${clock(sensor.clock_offset_ms)} />
      <${Fact} name="Model" value=${sensor.model_id || 'none'} hint=${sensor.model_id ? undefined : 'every verdict is “no verdict”'} />
      <${Fact} name="Version" value=${sensor.version || UNKNOWN} />
    </dl>
    <div class="sensor-grid">
      <div>
        <h3>About</h3>
        <dl class="facts">
          <${Fact} name="Kernel" value=${sensor.kernel || '–'} />
          <${Fact} name="Feature schema" value=${sensor.schema_digest ? `${sensor.schema_digest.slice(0, 16)}…` : '–'} />
          <${Fact} name="Accepts" value=${sensor.accepted_commands?.length ? sensor.accepted_commands.join(', ') : 'no commands'} />
        </dl>
      </div>
      <div>
        <h3>Interfaces</h3>
        <ul class="interfaces">
          ${(sensor.interfaces ?? []).map((/** @type {any} */ one) => html`<li key=${one.slot}>
            <strong class="mono"><bdi>${visible(one.name)}</bdi></strong>
            <span>in: ${modeOf(one.ingress_mode)}</span>
            <span>out: ${modeOf(one.egress_mode)}</span>
            ${one.aggregated_totals ? html`<span class="flag" title="Generic XDP sees packets after the kernel has merged them: its counts are not those on the wire.">aggregated totals</span>` : null}
          </li>`)}
        </ul>
        <h3>Health${health && !sensor.connected ? html` <span class="as-of">as of ${when(health.unix_ms)}</span>` : null}</h3>
        ${health
          ? html`<dl class="facts">
              <${Fact} name="Memory" value=${bytes(health.resident_bytes)} />
              <${Fact} name="CPU" value=${`${percent(health.cpu_share)} of a core`} />
              <${Fact} name="Ring in use" value=${`${bytes(health.ring_backlog_bytes)} of ${bytes(health.ring_bytes)}`} />
              <${Fact} name="Capture" ...${captureMode(health)} />
              <${Fact} name="Live flows" value=${`${count(health.flows_live)} of ${count(health.flows_max)}`} />
              <${Fact} name="Not yet acknowledged" value=${`${count(health.backlog_records)} records`} />
            </dl>`
          : html`<p class="quiet">No report yet.</p>`}
      </div>
      <div>
        <h3>Books of the kernel</h3>
        <table class="plain-table books">
          <tbody>
            <tr><th scope="row">Frames seen</th><td class="right number">${count(sensor.frames)}</td></tr>
            <tr><th scope="row">Recorded for analysis</th><td class="right number">${count(sensor.recorded)}</td></tr>
            ${mapped > 0
              ? html`<tr><th scope="row" title="While the ring filled, the kernel counted these packets in the totals of their flows instead of recording each.">Counted by flow</th><td class="right number">${count(mapped)}</td></tr>`
              : null}
            ${reasons.map(([reason, n]) => html`<tr key=${reason}>
              <th scope="row" title=${lossOf(reason).meaning}>${lossOf(reason).notIp ? 'Not IP' : 'Lost'}: ${lossOf(reason).label}</th>
              <td class="right number">${count(Number(n))}</td>
            </tr>`)}
          </tbody>
        </table>
        <p class=${`small ${balanced ? 'quiet' : 'flag'}`}>
          ${balanced ? 'Balanced: every frame is accounted for.' : `Off by ${count(Math.abs(Number(sensor.frames) - sum))}: counters are read one after another while traffic flows, or a loss has no reason.`}
        </p>
        ${missing > 0 ? html`<p class="small">${missing === 1 ? '1 packet was' : `${count(missing)} packets were`} not analysed (${percent(missing / Math.max(1, Number(sensor.frames)))}).</p>` : null}
        ${notIp > 0 ? html`<p class="quiet small">${notIp === 1 ? '1 frame holds' : `${count(notIp)} frames hold`} no IP packet: nothing was lost.</p>` : null}
        <${LostBehind} books=${health?.books ?? {}} />
        ${health && Object.keys(health.books ?? {}).length > 0
          ? html`<details class="twin"><summary>Books of the agent</summary>
              <table class="plain-table books"><tbody>
                ${Object.entries(health.books).map(([name, n]) => html`<tr key=${name}><th scope="row"><bdi>${name.replaceAll('_', ' ')}</bdi></th><td class="right number">${count(Number(n))}</td></tr>`)}
              </tbody></table>
            </details>`
          : null}
      </div>
    </div>
  <//>`;
}

/**
 * What no collector has stored yet.
 * @param {any} health
 */
function waiting(health) {
  if (!health) return { value: UNKNOWN };
  const records = `${count(health.backlog_records)} records not acknowledged`;
  const onDisk = health.books?.spool_bytes;
  return onDisk === undefined
    ? { value: `${count(health.backlog_records)} records`, hint: 'in memory: it keeps none on its disk' }
    : { value: bytes(Number(onDisk)), hint: `on its disk; ${records}` };
}

/**
 * A report's own time against that of its receipt: its way here is in it.
 * @param {number | null | undefined} ms
 */
function clock(ms) {
  if (ms === null || ms === undefined) return { value: UNKNOWN, hint: 'measured while it reports live' };
  if (Math.abs(ms) < 1000) return { value: 'in step', hint: 'within a second of the collector’s' };
  return { value: `${duration(Math.abs(ms))} ${ms > 0 ? 'ahead' : 'behind'}`, hint: 'of the collector’s; up to a second of it is the way of a report' };
}

/** Losses of the agent, behind the kernel. */
const LOST_BEHIND = ['record-refused', 'backlog-full', 'spool-full', 'spool-no-space', 'spool-damaged', 'spool-refused', 'sample-budget'];

/** @param {{books: Record<string, number>}} props */
function LostBehind({ books }) {
  const known = LOST_BEHIND.filter((reason) => books[reason] !== undefined);
  const some = known.filter((reason) => Number(books[reason]) > 0);
  const none = known.filter((reason) => Number(books[reason]) === 0);
  if (known.length === 0) return null;
  /** @param {string} reason */
  const row = (reason) => html`<tr key=${reason}>
    <th scope="row" title=${lossOf(reason).meaning}>${lossOf(reason).label}</th>
    <td class="right number">${count(Number(books[reason]))}</td>
  </tr>`;
  return html`<h3>Lost behind the kernel</h3>
    ${some.length > 0 ? html`<table class="plain-table books"><tbody>${some.map(row)}</tbody></table>` : html`<p class="quiet small">Nothing.</p>`}
    ${none.length > 0
      ? html`<details class="twin"><summary>Show all: ${none.length} more at 0</summary>
          <table class="plain-table books"><tbody>${none.map(row)}</tbody></table>
        </details>`
      : null}`;
}

/**
 * Whether every packet is recorded, since when, and how often it was otherwise.
 * @param {any} health
 */
function captureMode(health) {
  const since = health.mode_since_unix_ms ? ` since ${when(health.mode_since_unix_ms)}` : '';
  const value = health.stepped_down ? `stepped down${since}` : `every packet is recorded${since}`;
  const times = Number(health.step_downs ?? 0);
  const hint = health.stepped_down
    ? 'the ring fills: known flows are counted by the kernel and sampled; totals stay exact'
    : times > 0
      ? `stepped down ${times === 1 ? 'once' : `${count(times)} times`} before`
      : undefined;
  return { value, hint };
}

/** The collector's books in words. @type {Record<string, string>} */
const BOOKS = {
  batches_in: 'Batches in', batches_refused: 'Batches refused', batches_failed: 'Batches not stored', records_in: 'Records in',
  records_stored: 'Records stored', records_duplicate: 'Sent again, stored once', records_refused: 'Records refused',
  records_gap: 'Records missing', connections_refused: 'Connections refused', connections_timed_out: 'Connections timed out',
  tls_failed: 'TLS handshakes failed', certificates_unknown: 'Unknown certificates', certificates_revoked: 'Revoked certificates',
  certificates_expired: 'Expired certificates', certificates_missing: 'Streams without a certificate', names_foreign: 'Streams under a foreign name',
  enrolments_refused: 'Enrolments refused', days_removed: 'Days beyond retention',
  live_dropped: 'Not shown live', state_forgotten: 'State read again from disk',
  days_set_aside: 'Damaged days set aside', rows_unreadable: 'Stored rows not readable',
};

/** Shown whatever they are: what came and what became of it. The others matter where they are not 0. */
const ALWAYS = ['batches_in', 'records_in', 'records_stored', 'records_duplicate', 'records_gap'];

function Collector() {
  const known = status.value.value;
  const now = useNow(5000);
  if (!known) return null;
  /** @type {[string, number][]} */
  const books = Object.entries(known.books ?? {}).map(([name, n]) => [name, Number(n)]);
  const shown = books.filter(([name, n]) => n !== 0 || ALWAYS.includes(name));
  const zero = books.filter(([name, n]) => n === 0 && !ALWAYS.includes(name));
  /** @param {[string, number]} book */
  const fact = ([name, n]) => html`<${Fact} key=${name} name=${BOOKS[name] ?? name.replaceAll('_', ' ')} value=${count(n)} />`;
  return html`<${Panel} title="Collector" id="collector-title" note=${html`version ${known.version}`}>
    <dl class="facts facts-row">
      <${Fact} name="Running for" value=${duration(now - known.started_unix_ms)} />
      ${shown.map(fact)}
      ${missed.value > 0 ? html`<${Fact} name="Live events left out" value=${count(missed.value)} hint="this page read too slowly; the tables have them" />` : null}
      ${malformed.value > 0 ? html`<${Fact} name="Live events not understood" value=${count(malformed.value)} />` : null}
    </dl>
    ${zero.length > 0
      ? html`<details class="twin"><summary>Show all: ${zero.length} more at 0</summary>
          <dl class="facts facts-row">${zero.map(fact)}</dl>
        </details>`
      : null}
  <//>`;
}

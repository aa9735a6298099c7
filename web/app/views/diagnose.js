// Traceroute and a latency probe, run by a sensor.
import { html, useEffect, useState } from '../lib.js';
import { get, post } from '../state/api.js';
import { on } from '../state/live.js';
import { sensors, status } from '../state/store.js';
import { params, setParams } from '../state/router.js';
import { Notice, Panel, useTitle } from '../components/common.js';
import { Fact } from './flow-detail.js';
import { count, milliseconds, percent, UNKNOWN } from '../format.js';

const TARGET_DEFAULT = '8.8.8.8';
/** The feed brings results; this is for when it is down. */
const POLL_MS = 2000;
const NAMES = { traceroute: 'Traceroute', probe: 'Latency probe' };

export function Diagnose() {
  useTitle('Diagnose');
  const list = sensors.value.value ?? [];
  const connected = list.filter((/** @type {any} */ s) => s.connected);
  const chosen = list.find((/** @type {any} */ s) => s.sensor === params.value.sensor) ?? connected[0] ?? list[0];
  const [target, setTarget] = useState(TARGET_DEFAULT);
  const [run, setRun] = useState({ id: '', error: /** @type {string | null} */ (null), sending: false });
  const [result, setResult] = useState(/** @type {any} */ (null));

  useEffect(() => on('command', (data) => data.command_id === run.id && setResult(data)), [run.id]);
  useEffect(() => {
    if (!run.id || result?.done) return undefined;
    const ask = () => get(`commands/${encodeURIComponent(run.id)}`).then(setResult, (error) => setRun((r) => ({ ...r, error: error.message })));
    void ask();
    const timer = setInterval(ask, POLL_MS);
    return () => clearInterval(timer);
  }, [run.id, result?.done]);

  const allowed = status.value.value?.can_change !== false;
  const start = async (/** @type {'traceroute' | 'probe'} */ command) => {
    setResult(null);
    setRun({ id: '', error: null, sending: true });
    try {
      const body = await post(`sensors/${encodeURIComponent(chosen.sensor)}/commands`, { command, target: target.trim() });
      setRun({ id: body.command_id, error: null, sending: false });
    } catch (error) {
      setRun({ id: '', error: error instanceof Error ? error.message : String(error), sending: false });
    }
  };
  const accepts = (/** @type {string} */ command) => Boolean(chosen?.connected && chosen.accepted_commands?.includes(command));
  const busy = run.sending || (run.id !== '' && !run.error && !result?.done);
  const why = !chosen
    ? 'No sensor has connected yet.'
    : !chosen.connected
      ? `${chosen.sensor} is not connected.`
      : !accepts('traceroute') && !accepts('probe')
        ? `${chosen.sensor} accepts no commands: allow them in the sensor's configuration.`
        : null;

  return html`<div class="view">
    <h1 class="visually-hidden">Diagnose</h1>
    <${Panel} title="Diagnose" id="diagnose-title" note="packets to the target are sent by the sensor, and only when you ask">
      ${allowed ? null : html`<${Notice} tone="warn" title="This browser may look, not act">
        Open the address with the token that the collector printed when it started (it ends in <code>/?token=…</code>), then come back here.
      <//>`}
      ${why ? html`<${Notice} tone="warn" title=${why} />` : null}
      <form class="filters" aria-label="Run a measurement" onSubmit=${(/** @type {Event} */ e) => { e.preventDefault(); if (!busy && accepts('traceroute')) void start('traceroute'); }}>
        <label class="field"><span>Target</span>
          <input type="text" name="target" required maxlength="253" autocomplete="off" autocapitalize="off" spellcheck=${false} value=${target} onInput=${(/** @type {any} */ e) => setTarget(e.currentTarget.value)} />
        </label>
        <label class="field"><span>Sensor</span>
          <select value=${chosen?.sensor ?? ''} disabled=${list.length === 0} onChange=${(/** @type {any} */ e) => setParams({ sensor: e.currentTarget.value })}>
            ${list.length === 0 ? html`<option value="">none</option>` : list.map((/** @type {any} */ s) => html`<option key=${s.sensor} value=${s.sensor}>${s.sensor}${s.connected ? '' : ' (away)'}</option>`)}
          </select>
        </label>
        <button type="submit" class="button primary" disabled=${busy || !accepts('traceroute')}>Traceroute</button>
        <button type="button" class="button" disabled=${busy || !accepts('probe')} onClick=${() => void start('probe')}>Latency, jitter, loss</button>
      </form>
      <div aria-live="polite" class="diagnose-result">
        ${run.error ? html`<${Notice} tone="bad" title="Not done">${run.error}<//>` : null}
        ${busy ? html`<p class="working"><span class="pulse" aria-hidden="true"></span>${run.sending ? 'Sending the command…' : `Running on ${chosen?.sensor}…`}</p>` : null}
        ${result ? html`<${Result} result=${result} />` : null}
      </div>
      ${!busy && !result && !run.error ? html`<p class="quiet">Traceroute shows each router on the way; the probe measures round trips to the target itself.</p>` : null}
    <//>
  </div>`;
}

/** @param {{result: any}} props */
function Result({ result }) {
  const name = NAMES[/** @type {keyof typeof NAMES} */ (result.command)] ?? result.command;
  return html`
    <h3>${name} to <bdi>${result.target}</bdi> from <bdi>${result.sensor}</bdi>${result.done ? '' : ' …'}</h3>
    ${result.error ? html`<${Notice} tone="bad" title="The sensor could not finish">${result.error}<//>` : null}
    ${result.command === 'traceroute' && result.hops?.length > 0 ? html`<${Hops} hops=${result.hops} />` : null}
    ${result.command === 'traceroute' && result.done && !result.error && !result.hops?.some((/** @type {any} */ h) => h.reached)
      ? html`<p class="flag">The target was not reached.</p>` : null}
    ${result.probe ? html`<${Probe} probe=${result.probe} />` : null}
  `;
}

/** @param {{hops: any[]}} props */
function Hops({ hops }) {
  const most = Math.max(...hops.flatMap((h) => h.rtt_ms ?? []), 0.001);
  return html`<div class="table-scroll" role="region" tabindex="0" aria-label="Hops">
    <table class="plain-table hops">
      <thead><tr><th scope="col" class="right">Hop</th><th scope="col">Address</th><th scope="col" class="right">Best</th><th scope="col" class="right">Mean</th><th scope="col" class="right">Worst</th><th scope="col" class="right">Loss</th><th scope="col" class="hop-graph">Round trip</th></tr></thead>
      <tbody>
        ${hops.map((hop) => {
          const rtts = hop.rtt_ms ?? [];
          const mean = rtts.length ? rtts.reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b, 0) / rtts.length : null;
          const sent = rtts.length + (hop.lost ?? 0);
          return html`<tr key=${hop.ttl} class=${hop.reached ? 'hop-reached' : ''}>
            <th scope="row" class="right number">${hop.ttl}</th>
            <td class="mono">${hop.address ? html`<bdi>${hop.address}</bdi>` : html`<span class="quiet">no answer</span>`}${hop.reached ? html` <span class="tag">target</span>` : null}</td>
            <td class="right number">${milliseconds(rtts.length ? Math.min(...rtts) : null)}</td>
            <td class="right number">${milliseconds(mean)}</td>
            <td class="right number">${milliseconds(rtts.length ? Math.max(...rtts) : null)}</td>
            <td class="right number">${sent > 0 ? percent((hop.lost ?? 0) / sent) : UNKNOWN}</td>
            <td class="hop-graph" aria-hidden="true"><span class="meter wide-meter"><span class="meter-fill" style=${{ width: `${((mean ?? 0) / most) * 100}%` }}></span></span></td>
          </tr>`;
        })}
      </tbody>
    </table>
  </div>`;
}

/** @param {{probe: any}} props */
function Probe({ probe }) {
  const lost = probe.sent > 0 ? (probe.sent - probe.received) / probe.sent : 0;
  return html`<dl class="facts facts-row facts-strong">
    <${Fact} name="Mean latency" value=${milliseconds(probe.rtt_mean_ms)} hint=${`${milliseconds(probe.rtt_min_ms)} to ${milliseconds(probe.rtt_max_ms)}`} />
    <${Fact} name="Jitter" value=${milliseconds(probe.jitter_ms)} />
    <${Fact} name="Loss" value=${percent(lost)} hint=${`${count(probe.received)} of ${count(probe.sent)} answered`} />
    <${Fact} name="Method" value=${probe.method === 'tcp-connect' ? 'TCP connect' : 'ICMP echo'} hint=${probe.address} />
  </dl>`;
}

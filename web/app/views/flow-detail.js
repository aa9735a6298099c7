// Why a flow has its verdict: the reasons, the model, and what the answer rests on.
import { html, useEffect, useRef, useState } from '../lib.js';
import { get } from '../state/api.js';
import { knownFlow, liveFlows } from '../state/store.js';
import { link } from '../state/router.js';
import { Icon } from '../components/icons.js';
import { Notice } from '../components/common.js';
import { Verdict } from '../components/verdict.js';
import { baselineOf, dnsResultOf, dnsTypeOf, endReasonOf, icmpErrorOf, protocolOf, ruleOf, tunnelOf, VERDICTS, verdictOf } from '../words.js';
import { isOfHost, reasonOf, usualOf } from '../features.js';
import { bytes, clock, count, counted, dateTime, duration, endpoint, perDay, percent, plain, signed, UNKNOWN, visible, when } from '../format.js';

/** One flow in two lines. @param {{flow: any}} props */
export function FlowBrief({ flow }) {
  return html`<a class="brief" href=${link('flows', { verdict: flow.verdict, flow: flow.flow_id })}>
    <span class="brief-head"><${Verdict} name=${flow.verdict} kind=${flow.kind} /><span class="quiet number small">${clock(flow.last_unix_ms)}</span></span>
    <span class="brief-ends mono"><bdi>${endpoint(flow.src_ip, flow.src_port, flow.protocol)}</bdi> <span aria-label="to">→</span> <bdi>${endpoint(flow.dst_ip, flow.dst_port, flow.protocol)}</bdi></span>
    <span class="quiet small number">${percent(flow.probability)} · ${perDay(flow.expected_false_alarms_per_day)} false alarms a day expected at this score</span>
  </a>`;
}

/** @param {{id: string, onClose: () => void}} props */
export function FlowDialog({ id, onClose }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [state, setState] = useState({ flow: knownFlow(id) ?? null, error: /** @type {string | null} */ (null) });
  const gone = useRef(false);
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    if (element && !element.open) element.showModal();
    return () => {
      // Its event comes later: by then the address may name another flow, whose panel stays.
      gone.current = true;
      if (element?.open) element.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  useEffect(() => {
    if (knownFlow(id)) return undefined; // The live record is whole, and the newest.
    let wanted = true;
    get(`flows/${encodeURIComponent(id)}`).then(
      (flow) => wanted && setState({ flow, error: null }),
      (error) => wanted && setState((s) => ({ ...s, error: error.message })),
    );
    return () => {
      wanted = false;
    };
  }, [id]);
  void liveFlows.value; // The flow may go on while it is open.
  const flow = knownFlow(id) ?? state.flow;
  return html`<dialog class="sheet" ref=${dialog} aria-labelledby="flow-heading" onClose=${() => gone.current || onClose()} onClick=${(/** @type {any} */ e) => e.target === dialog.current && dialog.current?.close()}>
    <div class="sheet-body">
      <header class="sheet-head">
        <h2 id="flow-heading">Why this verdict</h2>
        <button type="button" class="button icon-button" aria-label="Close" onClick=${() => dialog.current?.close()}><${Icon} name="close" /></button>
      </header>
      ${flow ? html`<${Detail} flow=${flow} />` : state.error ? html`<${Notice} tone="bad" title="This flow cannot be shown">${state.error}. A packet may be stored a little before its flow: try again in a few seconds.<//>` : html`<${Notice} title="Asking the collector…" />`}
    </div>
  </dialog>`;
}

/** @param {{flow: any}} props */
function Detail({ flow }) {
  const verdict = verdictOf(flow.verdict);
  const judged = verdict !== 'NO_VERDICT';
  return html`
    <p class="sheet-verdict"><${Verdict} name=${flow.verdict} kind=${flow.kind} /></p>
    <p class="quiet">${VERDICTS[verdict].meaning}</p>
    <p class="mono sheet-ends"><bdi>${endpoint(flow.src_ip, flow.src_port, flow.protocol)}</bdi> <span aria-label="to">→</span> <bdi>${endpoint(flow.dst_ip, flow.dst_port, flow.protocol)}</bdi></p>
    ${judged
      ? html`<dl class="facts facts-strong">
          <${Fact} name="Probability of attack" value=${percent(flow.probability)} hint="calibrated at the model's reference share of attacks; live shares are far lower" />
          <${Fact} name="False alarms expected" value=${`${perDay(flow.expected_false_alarms_per_day)} a day`} hint="at this score, on the validation captures" />
        </dl>`
      : null}
    ${flow.lost_meanwhile > 0
      ? html`<${Notice} tone="warn" title=${`${count(flow.lost_meanwhile)} packets were lost while this flow lived`}>The verdict rests on what was left.<//>`
      : null}
    ${flow.unrecorded_packets > 0
      ? html`<${Notice} tone="warn" title=${`${count(flow.unrecorded_packets)} of its packets were only counted`}>The sensor was busy: packets and bytes are exact, but timing and sizes in the verdict come from the packets it recorded.<//>`
      : null}
    ${judged ? html`<${Agreement} flow=${flow} />` : null}
    <${Reasons} flow=${flow} />
    <h3>Flow</h3>
    <dl class="facts">
      <${Fact} name="Protocol" value=${protocolOf(flow.protocol)} />
      <${Fact} name="TCP flags" value=${flow.tcp_flags || UNKNOWN} />
      <${Fact} name="Sent by the initiator" value=${`${bytes(flow.fwd_bytes)} · ${counted(flow.fwd_packets, 'packet')}`} />
      <${Fact} name="Received back" value=${`${bytes(flow.rev_bytes)} · ${counted(flow.rev_packets, 'packet')}`} />
      <${Fact} name="First seen" value=${dateTime(flow.first_unix_ms)} />
      <${Fact} name="Last seen" value=${`${when(flow.last_unix_ms)} (${duration(flow.last_unix_ms - flow.first_unix_ms)})`} />
      <${Fact} name="State" value=${flow.state === 'end' ? `ended: ${endReasonOf(flow.end_reason)}` : 'open'} />
      <${Fact} name="Initiated" value=${flow.initiator_direction === 'ingress' ? 'from outside, inwards' : flow.initiator_direction === 'egress' ? 'from inside, outwards' : UNKNOWN} />
      <${Fact} name="Sensor" value=${visible(`${flow.sensor} · ${flow.interface}`)} />
      <${Fact} name="Model" value=${flow.model_id || 'none loaded'} />
      <${Fact} name="Combined score (uncalibrated)" value=${judged ? plain(flow.score) : UNKNOWN} />
      <${Fact} name="Flow id" value=${flow.flow_id} />
    </dl>
    <${PathAndTunnel} flow=${flow} />
    ${flow.dns ? html`<${Dns} dns=${flow.dns} />` : null}
    <p class="sheet-links">
      <a class="button small" href=${link('flows', { address: flow.src_ip })}>Flows of the initiator</a>
      <a class="button small" href=${link('packets', { address: flow.src_ip })}>Packets of the initiator</a>
    </p>
  `;
}

/** @param {{name: string, value: any, hint?: string}} props */
export function Fact({ name, value, hint }) {
  return html`<div class="fact"><dt>${name}</dt><dd><bdi>${value}</bdi>${hint ? html`<span class="quiet small hint">${hint}</span>` : null}</dd></div>`;
}

/** Where else it passed, what carried it and who complained; nothing where there is nothing. @param {{flow: any}} props */
function PathAndTunnel({ flow }) {
  /** @type {string[]} */
  const others = flow.also_seen_on ?? [];
  const { tunnel, icmp_errors: errors = 0, icmp_last: last } = flow;
  if (others.length === 0 && !tunnel && !(errors > 0)) return null;
  return html`<h3>Path and tunnel</h3>
    <dl class="facts">
      ${others.length > 0
        ? html`<${Fact} name="Also seen on" value=${visible(others.join(', '))} hint="a flow on each of them; for the behaviour of its hosts a packet counts once" />`
        : null}
      ${tunnel
        ? html`<${Fact}
              name="Carried in"
              value=${`${tunnelOf(tunnel.kind).label}${tunnel.network_id === null ? '' : ` · ${tunnelOf(tunnel.kind).id} ${tunnel.network_id}`}`}
              hint=${tunnel.deeper ? 'there is a tunnel inside as well, which was not opened' : undefined}
            />
            <${Fact} name="Ends of the tunnel" value=${`${tunnel.src_ip} → ${tunnel.dst_ip}`} />`
        : null}
      ${errors > 0
        ? html`<${Fact} name="ICMP errors about it" value=${count(errors)} hint=${last ? `last: ${icmpErrorOf(last, flow.src_ip.includes(':'))}` : undefined} />`
        : null}
    </dl>`;
}

/** Numbers only: no name leaves the sensor's kernel. @param {{dns: any}} props */
function Dns({ dns }) {
  const name = `${counted(dns.name_bytes, 'character')} · ${counted(dns.labels, 'label')} · ${counted(dns.digits, 'digit')}`;
  return html`<h3>DNS numbers</h3>
    <dl class="facts">
      <${Fact} name="Questions" value=${count(dns.questions)} />
      <${Fact} name="Answers" value=${`${count(dns.answers)}${dns.failures > 0 ? ` · ${count(dns.failures)} failed` : ''}`} />
      <${Fact} name="Last question" value=${dns.labels > 0 ? `${dnsTypeOf(dns.query_type)} · ${name}` : UNKNOWN} hint="the name itself is not kept" />
      <${Fact} name="Last answer" value=${dns.answers > 0 ? `${dnsResultOf(dns.response_code)} · ${counted(dns.answer_records, 'record')}` : 'none'} />
    </dl>`;
}

/** Which of the judges said what. @param {{flow: any}} props */
function Agreement({ flow }) {
  const rule = flow.rule ? ruleOf(flow.rule.rule) : null;
  return html`<h3>Who says so</h3>
    <dl class="facts">
      <${Fact} name="Forest" value=${`${verdictOf(flow.forest)} · score ${plain(flow.forest_score)}`} hint="learnt from labelled captures" />
      <${Fact}
        name="Rules"
        value=${rule ? `${visible(rule.label)}: ${count(Math.round(flow.rule.value))} ${rule.unit}` : 'nothing found'}
        hint=${rule ? `the limit is ${count(flow.rule.limit)}` : 'fixed limits, learnt from nothing'}
      />
      ${flow.baseline ? html`<${Baseline} baseline=${flow.baseline} />` : null}
      ${flow.baseline?.new_port ? html`<${Fact} name="New port" value=${`the responder answers on ${flow.dst_port}`} hint="it was not seen answering there before; without weight in the verdict" />` : null}
      ${flow.baseline?.first_contact ? html`<${Fact} name="First contact" value="the two were not seen in touch before" hint="without weight in the verdict" />` : null}
    </dl>`;
}

/** Without weight in the verdict. @param {{baseline: any}} props */
function Baseline({ baseline }) {
  const { label, hosts } = baselineOf(baseline);
  const { farthest } = baseline;
  const words = farthest ? reasonOf(farthest.feature, farthest.value) : null;
  const known = baseline.initiator_known || baseline.responder_known;
  return html`<${Fact}
    name="The hosts' own past"
    value=${known ? `${label} · score ${plain(baseline.score)}` : label}
    hint=${words ? `${words.label}: ${words.value}, usual ${usualOf(farthest.feature, farthest.usual_low, farthest.usual_high)}; ${hosts}` : `${hosts}; without weight in the verdict`}
  />`;
}

/**
 * What is usual for the host of a reason; nothing where the feature is of no host or the sensor tells nothing.
 * @param {{reason: any, told: boolean}} props
 */
function Usual({ reason, told }) {
  const known = typeof reason.usual_low === 'number' && typeof reason.usual_high === 'number';
  if (!known && !(told && isOfHost(reason.feature))) return null;
  return html`<span class="reason-usual quiet small number">usual for this host: ${known ? usualOf(reason.feature, reason.usual_low, reason.usual_high) : 'not known yet'}</span>`;
}

/** Signed bars about a middle line. @param {{flow: any}} props */
function Reasons({ flow }) {
  /** @type {{feature: string, value: number, contribution: number, usual_low?: number | null, usual_high?: number | null}[]} */
  const reasons = flow.reasons ?? [];
  if (reasons.length === 0) {
    return html`<h3>Reasons</h3>
      <p class="quiet">${verdictOf(flow.verdict) === 'NO_VERDICT' ? 'No model has judged this flow, so there are none.' : 'None kept: reasons are kept for unsure and suspicious flows.'}</p>`;
  }
  const most = Math.max(...reasons.map((r) => Math.abs(r.contribution)), 1e-9);
  const sum = reasons.reduce((all, r) => all + r.contribution, 0);
  return html`<h3 id="reasons-heading">Reasons</h3>
    <p class="quiet small">Each part of the forest's score's distance from an average flow. To the right: towards attack; to the left: away from it.</p>
    <ol class="reasons" aria-labelledby="reasons-heading">
      ${reasons.map((r) => {
        const away = r.contribution < 0;
        const words = reasonOf(r.feature, r.value);
        const width = `${(Math.abs(r.contribution) / most) * 50}%`;
        return html`<li key=${r.feature}>
          <span class="reason-name" dir="auto" title=${`${r.feature} = ${r.value}`}>${words.label}${words.value === null ? null : html` <span class="quiet number">${words.value}</span>`}</span>
          <span class="reason-number number">${signed(r.contribution)}<span class="visually-hidden">${away ? ', away from attack' : ', towards attack'}</span></span>
          <${Usual} reason=${r} told=${Boolean(flow.baseline)} />
          <span class="reason-track" aria-hidden="true"><span class=${`reason-fill ${away ? 'reason-away' : 'reason-towards'}`} style=${{ width }}></span></span>
        </li>`;
      })}
    </ol>
    <p class="number small reason-sum">Sum ${signed(sum)}</p>`;
}

// The features of the model in words, with their values turned back into what was measured. The
// names are those of the sensor's schema (netml-agent/src/flow/schema.rs); a name that is not here
// is shown as it is.
import { bytes, count, duration, percent, plain, visible } from './format.js';

/** @param {number} v log2(1 + x) */
const unlog = (v) => 2 ** v - 1;
/** @type {Record<string, (v: number) => string>} */
const SHOW = {
  flag: (v) => (v >= 0.5 ? 'yes' : 'no'),
  share: (v) => percent(v),
  number: (v) => `≈ ${unlog(v) < 10 ? plain(unlog(v)) : count(unlog(v))}`,
  plainBytes: (v) => bytes(v),
  size: (v) => `≈ ${bytes(Math.round(unlog(v)))}`,
  rate: (v) => `≈ ${plain(unlog(v))} a second`,
  byteRate: (v) => `≈ ${bytes(Math.round(unlog(v)))}/s`,
  ms: (v) => `≈ ${duration(unlog(v))}`,
  tenthMs: (v) => `≈ ${unlog(v) < 10 ? `${plain(unlog(v) / 10)} ms` : duration(unlog(v) / 10)}`,
  tenthS: (v) => `≈ ${duration(unlog(v) * 100)}`,
  /** Deviation over mean: 0 is like clockwork. */
  spread: (v) => (v < 0 ? 'too few to say' : `${plain(v)} × the mean`),
  balance: (v) => (v === 0 ? 'even or none' : v > 0 ? `${percent((1 + v) / 2)} from the initiator` : `${percent((1 - v) / 2)} from the responder`),
  handshake: (v) => ['not seen', 'SYN only', 'SYN and answer', 'complete'][v] ?? plain(v),
  portClass: (v) => ['none', 'well known (below 1024)', 'registered (below 32768)', 'ephemeral'][v] ?? plain(v),
};

/** @type {Record<string, [string, keyof typeof SHOW]>} */
const FEATURES = Object.assign(Object.create(null), {
  packet_tcp: ['TCP', 'flag'],
  packet_udp: ['UDP', 'flag'],
  packet_icmp: ['ICMP', 'flag'],
  packet_forward: ['latest packet came from the initiator', 'flag'],
  packet_payload_bytes_log2: ['payload of the latest packet', 'size'],
  packet_syn: ['latest packet has SYN', 'flag'],
  packet_rst: ['latest packet has RST', 'flag'],
  packet_fin: ['latest packet has FIN', 'flag'],
  packet_psh: ['latest packet has PSH', 'flag'],
  flow_packets_log2: ['packets of the flow', 'number'],
  flow_rev_packet_share: ['packets that are answers', 'share'],
  flow_fwd_payload_mean_log2: ["mean payload of the initiator's packets", 'size'],
  flow_rev_payload_mean_log2: ["mean payload of the responder's packets", 'size'],
  flow_fwd_payload_cv: ["spread of the initiator's payload sizes", 'spread'],
  flow_rev_payload_cv: ["spread of the responder's payload sizes", 'spread'],
  flow_payload_packet_share: ['packets that carry payload', 'share'],
  flow_payload_balance: ['balance of the payload', 'balance'],
  flow_fwd_payload_bytes_log2: ['payload sent by the initiator', 'size'],
  flow_rev_payload_bytes_log2: ['payload sent by the responder', 'size'],
  flow_fwd_first_payload_log2: ["initiator's first payload", 'size'],
  flow_rev_first_payload_log2: ["responder's first payload", 'size'],
  flow_syn_share: ['packets that are SYN', 'share'],
  flow_rst_share: ['packets that are RST', 'share'],
  flow_ack_share: ['packets with ACK', 'share'],
  flow_psh_share: ['packets with PSH', 'share'],
  flow_fragment_share: ['packets that are fragments', 'share'],
  flow_handshake: ['TCP handshake', 'handshake'],
  flow_refused: ['refused by the responder', 'flag'],
  flow_duration_ms_log2: ['duration of the flow', 'ms'],
  flow_gap_mean_ms_log2: ['mean gap between packets', 'tenthMs'],
  flow_gap_cv: ['spread of the gaps between packets', 'spread'],
  flow_gap_last_ms_log2: ['latest gap between packets', 'tenthMs'],
  flow_gap_max_ms_log2: ['longest gap between packets', 'tenthMs'],
  flow_packets_per_s_log2: ['packets', 'rate'],
  flow_bytes_per_s_log2: ['bytes', 'byteRate'],
  flow_turn_share: ['packets that change direction', 'share'],
  flow_dst_port_class: ["responder's port", 'portClass'],
  flow_dst_multicast: ['to a multicast or broadcast address', 'flag'],
  src_packets_log2: ['packets the initiator sent lately', 'number'],
  src_flows_log2: ['flows the initiator began lately', 'number'],
  src_flows_per_packet: ["initiator's flows per packet sent", 'share'],
  src_unanswered_share: ["initiator's other flows without answer", 'share'],
  src_refused_share: ["initiator's other flows refused", 'share'],
  src_failed_log2: ["initiator's flows refused or unanswered lately", 'number'],
  src_barren_share: ["initiator's other flows that brought nothing back", 'share'],
  src_barren_log2: ["initiator's other flows lately that brought nothing back", 'number'],
  src_destinations_log2: ['hosts the initiator tried lately', 'number'],
  src_ports_log2: ['ports the initiator tried lately', 'number'],
  dst_packets_log2: ['packets the responder got lately', 'number'],
  dst_flows_log2: ['flows to the responder lately', 'number'],
  dst_flows_per_packet: ["responder's flows per packet received", 'share'],
  dst_unanswered_share: ['other flows the responder left unanswered', 'share'],
  dst_refused_share: ['other flows the responder refused', 'share'],
  dst_barren_share: ['other flows the responder sent nothing to', 'share'],
  dst_barren_log2: ['other flows lately the responder sent nothing to', 'number'],
  dst_reply_share: ["responder's packets that are replies", 'share'],
  src_slow_failed_share: ["initiator's connections that failed, over minutes", 'share'],
  src_slow_destinations_log2: ['hosts the initiator tried, over minutes', 'number'],
  src_slow_ports_log2: ['ports the initiator tried, over minutes', 'number'],
  dst_waiting_log2: ['open connections the responder sent nothing on', 'number'],
  dst_sources_log2: ['hosts that asked the responder lately', 'number'],
  pair_packets_log2: ['packets between the two lately', 'number'],
  pair_flows_log2: ['flows between the two lately', 'number'],
  pair_unanswered_share: ['other flows between the two without answer', 'share'],
  pair_refused_share: ['other flows between the two refused', 'share'],
  pair_barren_share: ['other flows between the two that brought nothing back', 'share'],
  pair_barren_log2: ['other flows between the two lately that brought nothing back', 'number'],
  pair_ports_log2: ['ports tried between the two lately', 'number'],
  pair_byte_balance: ['balance of bytes between the two', 'balance'],
  pair_start_gap_mean_s_log2: ['mean gap between flow starts of the two', 'tenthS'],
  pair_start_gap_cv: ['spread of the gaps between their flow starts', 'spread'],
  pair_ended_bytes_log2: ['mean payload of their ended flows', 'size'],
  pair_ended_bytes_cv: ['spread of payload of their ended flows', 'spread'],
  pair_logins_log2: ['flows between the two that brought data back, lately', 'number'],
  pair_dns_questions_log2: ['DNS questions between the two, lately', 'number'],
  pair_dns_name_bytes: ['mean length of the DNS names asked for', 'plainBytes'],
  pair_slow_failed_share: ['flows between the two that failed, over minutes', 'share'],
  pair_slow_ports_log2: ['ports tried between the two, over minutes', 'number'],
  pair_waiting_log2: ['open connections between the two that brought nothing back', 'number'],
  pair_dns_rare_share: ['DNS questions of rare types', 'share'],
  pair_ended_s_log2: ['mean duration of their ended flows', 'tenthS'],
});

/**
 * A reason's feature and value as words.
 * @param {string} name
 * @param {number} value
 * @returns {{label: string, value: string | null}}
 */
export function reasonOf(name, value) {
  if (name === 'others') return { label: 'all other features', value: null };
  const known = FEATURES[name];
  if (!known || !Number.isFinite(value)) return { label: visible(name).replaceAll('_', ' '), value: plain(value) };
  return { label: known[0], value: SHOW[known[1]](value) };
}

/** True of a feature of one host, for which there is a usual range once it is known. @param {string} name */
export const isOfHost = (name) => /^(src|dst)_/.test(name);

/**
 * A usual range in the words of its feature: "0 – 12".
 * @param {string} name
 * @param {number} low
 * @param {number} high
 */
export function usualOf(name, low, high) {
  const [from, to] = [low, high].map((end) => (reasonOf(name, end).value ?? '').replace('≈ ', ''));
  return from === to ? from : `${from} – ${to}`;
}

/** Names this page has words for. */
export const KNOWN_FEATURES = Object.keys(FEATURES);

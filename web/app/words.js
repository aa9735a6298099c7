// What the wire's names mean, in words a person reads.

import { visible } from './format.js';

/** @typedef {'NORMAL' | 'UNSURE' | 'SUSPICIOUS' | 'NO_VERDICT'} Verdict */

/**
 * A table of names that come from outside: without a prototype, so that "constructor" is not a name it knows.
 * @template T
 * @param {Record<string, T>} entries
 * @returns {Record<string, T>}
 */
const table = (entries) => Object.assign(Object.create(null), entries);

/** @type {Record<string, {label: string, meaning: string}>} */
export const VERDICTS = table({
  SUSPICIOUS: { label: 'suspicious', meaning: 'At or above the alarm threshold of the model.' },
  UNSURE: { label: 'unsure', meaning: 'Between the two thresholds: neither detected nor cleared, and no alarm is raised.' },
  NORMAL: { label: 'normal', meaning: 'Below the lower threshold of the model.' },
  NO_VERDICT: { label: 'no verdict', meaning: 'No model has judged it. This does not mean that it is normal.' },
});

/** An unknown name is shown as no verdict, never as normal. @param {string} name */
export const verdictOf = (name) => (name in VERDICTS ? name : 'NO_VERDICT');

/** @type {Record<string, {label: string, meaning: string, notIp?: boolean}>} */
export const LOSSES = table({
  'ring-full': { label: 'ring full', meaning: 'The sensor could not keep up: counted in the totals, not analysed.' },
  'flow-map-full': { label: 'flow map full', meaning: 'Neither the ring nor the table of flows had room: counted in the totals, not in a flow.' },
  'truncated-link': { label: 'truncated link header', meaning: 'The frame ends inside its link-layer header.' },
  arp: { label: 'ARP', meaning: 'Address resolution: there is no IP packet inside.', notIp: true },
  'other-ethertype': { label: 'other EtherType', meaning: 'Neither IPv4 nor IPv6, and without a name here: there is no IP packet inside.', notIp: true },
  'vlan-depth': { label: 'too many VLAN tags', meaning: 'More than three VLAN tags.' },
  'bad-ipv4-header': { label: 'bad IPv4 header', meaning: 'Truncated, of another version, or shorter than 20 bytes.' },
  'bad-ipv6-header': { label: 'bad IPv6 header', meaning: 'Truncated or of another version.' },
  'bad-ipv6-extension': { label: 'bad IPv6 extension', meaning: 'The chain of extension headers is truncated.' },
  'ipv6-extension-depth': { label: 'IPv6 chain too long', meaning: 'More extension headers than the sensor follows.' },
  'unknown-interface': { label: 'unknown interface', meaning: 'From an interface that the sensor does not watch.' },
  lldp: { label: 'LLDP', meaning: 'Link layer discovery: there is no IP packet inside.', notIp: true },
  llc: { label: 'LLC (802.3)', meaning: 'A length instead of an EtherType, as spanning tree has: there is no IP packet inside.', notIp: true },
  eapol: { label: 'EAPOL', meaning: 'Port authentication (802.1X): there is no IP packet inside.', notIp: true },
  'pppoe-discovery': { label: 'PPPoE discovery', meaning: 'Looks for an access concentrator: there is no IP packet inside.', notIp: true },
  'ppp-control': { label: 'PPP control', meaning: 'Sets up or keeps a PPP session: there is no IP packet inside.', notIp: true },
  ptp: { label: 'PTP', meaning: 'Precision time over Ethernet: there is no IP packet inside.', notIp: true },
  macsec: { label: 'MACsec', meaning: 'Encrypted on the link, so its headers cannot be read.', notIp: true },
  'ethernet-loopback': { label: 'Ethernet loopback', meaning: 'A test of the link: there is no IP packet inside.', notIp: true },
  'slow-protocol': { label: 'slow protocol', meaning: 'Link aggregation or OAM: there is no IP packet inside.', notIp: true },
  'mpls-depth': { label: 'too many MPLS labels', meaning: 'More than six MPLS labels.' },
  'mpls-payload': { label: 'MPLS without IP', meaning: 'A pseudowire: no IP packet directly behind the labels.', notIp: true },
  'record-refused': { label: 'record refused', meaning: 'A record contradicted itself.' },
  'sample-budget': { label: 'sample budget', meaning: 'A packet sample above the budget of its second; its flow still has it.' },
  'backlog-full': { label: 'backlog full', meaning: 'The collector was away for too long.' },
  'spool-full': { label: 'spool full', meaning: 'The oldest records on the disk of the sensor went because there was no room below its bound.' },
  'spool-no-space': { label: 'spool without space', meaning: 'The disk of the sensor took nothing and its memory was full.' },
  'spool-damaged': { label: 'spool damaged', meaning: 'Bytes on the disk of the sensor changed: these records cannot be read any more.' },
  'spool-refused': { label: 'spool refused', meaning: 'The collector refused these records as damaged, three times in a row.' },
  'capture-refused': { label: 'capture refused', meaning: 'A packet of the capture file was cut or of an unknown link type.' },
});

/** @param {string} reason */
export const lossOf = (reason) => LOSSES[reason] ?? { label: reason, meaning: 'A reason this dashboard does not know.' };

/**
 * Packets that are missing from the analysis, and frames that never held an IP packet.
 * @param {Record<string, number> | null | undefined} lost
 */
export function splitLost(lost) {
  let missing = 0;
  let notIp = 0;
  for (const [reason, n] of Object.entries(lost ?? {})) {
    if (lossOf(reason).notIp) notIp += n;
    else missing += n;
  }
  return { missing, notIp };
}

/** @type {Record<string, {label: string, meaning: string}>} */
export const SOURCES = table({
  live: { label: 'LIVE', meaning: 'Packets of a real interface, as they pass.' },
  replay: { label: 'REPLAY', meaning: 'Packets out of a capture file: this is not the traffic of this host now.' },
  bundled: { label: 'BUNDLED REPLAY', meaning: 'The sample capture that comes with netml: this is not the traffic of this host.' },
  lab: { label: 'LAB', meaning: "Traffic that netml's own lab makes: this is not the traffic of this host." },
  mixed: { label: 'MIXED', meaning: 'Sensors of several kinds: see Sensors for which is which.' },
  none: { label: 'NO SENSOR', meaning: 'No sensor is connected.' },
});

/** @type {Record<string, string>} */
const MODES = table({
  'native-xdp': 'native XDP',
  'generic-xdp': 'generic XDP',
  tcx: 'TCX',
  clsact: 'TC clsact',
  replay: 'replay',
});
/** @param {string} mode */
export const modeOf = (mode) => MODES[mode] ?? (mode || 'not attached');

/** @type {Record<string, string>} */
const PROTOCOLS = table({ tcp: 'TCP', udp: 'UDP', icmp: 'ICMP', icmpv6: 'ICMPv6', 'other-ip': 'other IP', arp: 'ARP', other: 'not IP' });
/** @param {string} name */
export const protocolOf = (name) => PROTOCOLS[name] ?? (/^\d+$/.test(name) ? `IP ${name}` : name);

/** A kind of attack as words: port_scan is "port scan". @param {string | null | undefined} kind */
export const kindOf = (kind) => visible(kind).replaceAll('_', ' ');

/** @type {Record<string, string>} */
const END_REASONS = table({
  idle: 'idle time-out', 'active-timeout': 'active time-out (continues as a new flow)', fin: 'closed (FIN)', rst: 'reset (RST)',
  'half-open': 'never answered', evicted: 'its place was needed', shutdown: 'the sensor stopped',
});
/** @param {string} reason */
export const endReasonOf = (reason) => END_REASONS[reason] ?? reason;

/** @type {Record<string, {label: string, id: string}>} */
const TUNNELS = table({
  vxlan: { label: 'VXLAN', id: 'VNI' },
  geneve: { label: 'Geneve', id: 'VNI' },
  gre: { label: 'GRE', id: 'key' },
  ipip: { label: 'IP in IP', id: 'id' },
  '6in4': { label: 'IPv6 in IPv4', id: 'id' },
  '6in6': { label: 'IPv6 in IPv6', id: 'id' },
  '4in6': { label: 'IPv4 in IPv6', id: 'id' },
});

/** A kind of tunnel in words; one not known here keeps its name. @param {string} kind */
export const tunnelOf = (kind) => TUNNELS[kind] ?? { label: visible(kind), id: 'id' };

/** A tunnel in a few characters, for a tag: "VXLAN 42". @param {{kind: string, network_id: number | null}} tunnel */
export const tunnelTag = (tunnel) => (tunnel.network_id === null ? tunnelOf(tunnel.kind).label : `${tunnelOf(tunnel.kind).label} ${tunnel.network_id}`);

/** @type {Record<string, string>} */
const ICMP_ERRORS = table({
  '3/0': 'network unreachable', '3/1': 'host unreachable', '3/2': 'protocol unreachable', '3/3': 'port unreachable', '3/4': 'packet too big',
  '3/9': 'network prohibited', '3/10': 'host prohibited', '3/13': 'prohibited by a filter', '4/0': 'source quench', '11/0': 'too many hops',
  '11/1': 'fragments missing', 3: 'unreachable', 5: 'redirect', 11: 'time exceeded', 12: 'bad header',
});
/** @type {Record<string, string>} */
const ICMPV6_ERRORS = table({
  '1/0': 'no route', '1/1': 'prohibited by a filter', '1/3': 'host unreachable', '1/4': 'port unreachable', '3/0': 'too many hops',
  '3/1': 'fragments missing', 1: 'unreachable', 2: 'packet too big', 3: 'time exceeded', 4: 'bad header',
});

/**
 * What an ICMP error says, with its numbers.
 * @param {{type: number, code: number}} error
 * @param {boolean} isV6
 */
export function icmpErrorOf({ type, code }, isV6) {
  const words = isV6 ? ICMPV6_ERRORS : ICMP_ERRORS;
  const numbers = `type ${type}, code ${code}`;
  const label = words[`${type}/${code}`] ?? words[type];
  return label ? `${label} (${numbers})` : numbers;
}

/** @type {Record<string, string>} */
const DNS_TYPES = table({
  1: 'A', 2: 'NS', 5: 'CNAME', 6: 'SOA', 10: 'NULL', 12: 'PTR', 15: 'MX', 16: 'TXT', 28: 'AAAA', 33: 'SRV', 35: 'NAPTR', 43: 'DS', 46: 'RRSIG',
  47: 'NSEC', 48: 'DNSKEY', 64: 'SVCB', 65: 'HTTPS', 99: 'SPF', 252: 'AXFR', 255: 'ANY',
});
/** A type of DNS record. @param {number} number */
export const dnsTypeOf = (number) => DNS_TYPES[number] ?? `type ${number}`;

const DNS_RESULTS = ['success', 'malformed question', 'server failure', 'no such name', 'not implemented', 'refused'];
/** A result code of DNS. @param {number} code */
export const dnsResultOf = (code) => DNS_RESULTS[code] ?? `code ${code}`;

/** @type {Record<string, {label: string, unit: string}>} */
const RULES = {
  'port-scan': { label: 'port scan', unit: 'ports tried on one host' },
  'host-scan': { label: 'scan for one service', unit: 'hosts tried' },
  'connection-flood': { label: 'flood', unit: 'connections that brought nothing back' },
  'datagram-flood': { label: 'flood', unit: 'new datagram flows without an answer' },
  'icmp-flood': { label: 'ICMP flood', unit: 'frames of one flow' },
  reflection: { label: 'reflection', unit: 'answers nobody asked for' },
  'slow-port-scan': { label: 'slow port scan', unit: 'ports tried on one host, over minutes' },
  'slow-host-scan': { label: 'slow scan for one service', unit: 'hosts tried, over minutes' },
  'slow-http': { label: 'connections held open', unit: 'open at a web server' },
  'brute-force': { label: 'password guessing', unit: 'logins that ended alike' },
  'dns-tunnel': { label: 'DNS tunnel', unit: 'questions that carry data' },
  'mail-burst': { label: 'mail burst', unit: 'mail servers' },
};

/**
 * What the hosts' own past says, in words.
 * @param {{initiator_known: boolean, responder_known: boolean, score: number, limit: number}} baseline
 * @returns {{label: string, hosts: string}}
 */
export function baselineOf({ initiator_known: initiator, responder_known: responder, score, limit }) {
  if (!initiator && !responder) return { label: 'not known yet', hosts: 'neither host has been watched for long enough' };
  const hosts = initiator && responder ? 'of both hosts' : initiator ? 'of the initiator; the responder is not known yet' : 'of the responder; the initiator is not known yet';
  return { label: score >= limit ? 'unusual' : 'as usual', hosts: `compared with the past ${hosts}` };
}

/** A rule in words; one not known here keeps its name. @param {string} name */
export function ruleOf(name) {
  return Object.hasOwn(RULES, name) ? RULES[name] : { label: name, unit: '' };
}

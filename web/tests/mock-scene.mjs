// Made-up traffic for the mock server: repeatable, bounded, shaped as docs/api.md says.

const SENSOR = 'gateway-1';
const KEEP = 2000;
const KINDS = ['port_scan', 'syn_flood', 'brute_force', 'dns_tunnel'];
const HOSTS = [
  ['10.0.0.12', '142.250.74.110', 443, 'tcp'],
  ['10.0.0.12', '151.101.1.140', 443, 'tcp'],
  ['10.0.0.31', '1.1.1.1', 53, 'udp'],
  ['10.0.0.31', '140.82.121.4', 22, 'tcp'],
  ['10.0.0.45', '2a00:1450:4001:82b::200e', 443, 'udp'],
  ['fe80::1c2d:3eff:fe4f:5a6b', 'ff02::fb', 5353, 'udp'],
  ['10.0.0.7', '17.253.144.10', 80, 'tcp'],
  ['10.0.0.12', '8.8.8.8', 0, 'icmp'],
];
export const HOSTILE = [
  `<script>window.__hacked = true</script>`,
  `"><img src=x onerror="window.__hacked=true">`,
  `\u202Egnp.exe\u202C 'quoted' "twice"`,
  `x'); DROP TABLE flows;--${'very-long-'.repeat(40)}`,
];

/** A small repeatable generator (mulberry32). @param {number} seed */
export function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export class Scene {
  /** @param {{hostile: boolean}} options */
  constructor({ hostile }) {
    this.hostile = hostile;
    this.random = random(7);
    this.started = Date.now() - 26 * 3600e3;
    this.nextId = 1;
    /** @type {any[]} newest first */
    this.packetList = [];
    /** @type {any[]} newest first */
    this.flowList = [];
    /** @type {any[]} newest first */
    this.eventList = [];
    const now = Date.now();
    for (let ago = 240; ago > 0; ago -= 1) this.make(now - ago * 1000);
    this.eventList.unshift(
      this.event(now - 3600e3, 'started', 'info', 'sensor started on eth0, native XDP and TCX'),
      this.event(now - 1800e3, 'loss', 'warning', '112 packets found the ring full within one second'),
    );
    this.eventList.sort((a, b) => b.unix_ms - a.unix_ms);
  }

  /** @param {number} unix_ms @param {string} kind @param {string} severity @param {string} message */
  event(unix_ms, kind, severity, message) {
    return { unix_ms, sensor: SENSOR, kind, severity, message: this.hostile ? HOSTILE[0] + message : message, fields: { interface: 'eth0' } };
  }

  tick() {
    return this.make(Date.now());
  }

  /** @param {number} now */
  make(now) {
    const packets = [];
    const flows = [];
    const events = [];
    const second = Math.floor(now / 1000) * 1000;
    const traffic = [{ ...this.step(second), unix_ms: second, sensor: SENSOR, interface: 'eth0' }];
    for (let i = 0; i < 4; i += 1) {
      const flow = this.flow(now);
      flows.unshift(flow);
      for (let p = 0; p < 2; p += 1) packets.unshift(this.packet(now - p * 3, flow));
      if (flow.verdict === 'SUSPICIOUS' && this.random() < 0.3) {
        events.push(this.event(now, 'alarm-start', 'alarm', `${flow.kind} from ${flow.src_ip}`));
      }
    }
    this.flowList.unshift(...flows);
    this.packetList.unshift(...packets);
    this.eventList.unshift(...events);
    this.flowList.length = Math.min(this.flowList.length, KEEP);
    this.packetList.length = Math.min(this.packetList.length, KEEP);
    this.eventList.length = Math.min(this.eventList.length, 200);
    return { packets, flows, events, traffic };
  }

  /** @param {number} now */
  flow(now) {
    const r = this.random;
    const attack = r() < 0.04;
    const roll = r();
    const verdict = attack ? 'SUSPICIOUS' : roll < 0.05 ? 'UNSURE' : roll < 0.12 ? 'NO_VERDICT' : 'NORMAL';
    let [src_ip, dst_ip, dst_port, protocol] = HOSTS[Math.floor(r() * HOSTS.length)];
    let kind = '';
    if (attack || verdict === 'UNSURE') {
      kind = KINDS[Math.floor(r() * KINDS.length)];
      [src_ip, dst_ip, dst_port, protocol] = ['203.0.113.66', '10.0.0.7', Math.floor(r() * 9000) + 20, 'tcp'];
    }
    const noProbability = verdict === 'NO_VERDICT';
    if (this.hostile) kind = HOSTILE[this.nextId % HOSTILE.length];
    const id = this.nextId++;
    const probability = verdict === 'SUSPICIOUS' ? 0.9 + r() * 0.099 : verdict === 'UNSURE' ? 0.5 + r() * 0.3 : verdict === 'NORMAL' ? r() * 0.2 : 0;
    const packetsFwd = 1 + Math.floor(r() * 60);
    const packetsRev = attack ? Math.floor(r() * 2) : Math.floor(r() * 80);
    return {
      flow_id: `f${id}`,
      sensor: SENSOR,
      interface: 'eth0',
      state: r() < 0.5 ? 'update' : 'end',
      end_reason: 'fin',
      first_unix_ms: now - Math.floor(r() * 40000),
      last_unix_ms: now,
      src_ip,
      dst_ip,
      src_port: protocol === 'icmp' ? 8 : 32768 + Math.floor(r() * 28000),
      dst_port,
      protocol,
      fwd_packets: packetsFwd,
      rev_packets: packetsRev,
      fwd_bytes: packetsFwd * 90,
      rev_bytes: packetsRev * 900,
      tcp_flags: protocol === 'tcp' ? 'SYN,ACK,PSH' : '',
      verdict,
      kind,
      probability: noProbability ? null : probability,
      score: noProbability ? null : probability * 0.8,
      reasons:
        verdict === 'NORMAL' || verdict === 'NO_VERDICT'
          ? []
          : [
              { feature: this.hostile ? HOSTILE[1] : 'src_ports_log2', value: 5.4, contribution: 0.31, usual_low: 0, usual_high: 1.5 },
              { feature: 'src_unanswered_share', value: 0.93, contribution: 0.14, usual_low: null, usual_high: null },
              { feature: 'flow_handshake', value: 1, contribution: 0.09 },
              { feature: 'flow_rev_first_payload_log2', value: 0, contribution: 0.05 },
              { feature: 'flow_gap_mean_ms_log2', value: 9.1, contribution: -0.04 },
              { feature: 'others', value: 0, contribution: 0.03 },
            ],
      model_id: noProbability ? null : 'forest-2026-11-a1b2c3',
      lost_meanwhile: id % 17 === 0 ? 12 : 0,
      unrecorded_packets: id % 17 === 0 ? 34 : 0,
      rule: verdict === 'SUSPICIOUS' ? { rule: this.hostile ? HOSTILE[1] : 'port-scan', value: 41.7, limit: 20 } : null,
      baseline:
        id % 3 === 0
          ? null
          : {
              initiator_known: attack,
              responder_known: false,
              score: attack ? 4.2 : 0,
              limit: 3,
              new_port: attack,
              first_contact: attack,
              farthest: attack ? { feature: this.hostile ? HOSTILE[0] : 'src_ports_log2', value: 5.4, usual_low: 0, usual_high: 1.5 } : null,
            },
      forest: noProbability ? 'NO_VERDICT' : verdict,
      forest_score: noProbability ? null : probability * 0.8,
      expected_false_alarms_per_day: noProbability ? null : verdict === 'SUSPICIOUS' ? 0.4 : verdict === 'UNSURE' ? 3.7 : 900,
      initiator_direction: attack ? 'ingress' : 'egress',
      also_seen_on: id % 5 === 0 ? ['veth1a2b3c', this.hostile ? HOSTILE[2] : 'br-lan'] : [],
      tunnel:
        id % 7 === 0
          ? { kind: this.hostile ? HOSTILE[0] : 'vxlan', network_id: 4711, src_ip: '192.0.2.11', dst_ip: '192.0.2.12', deeper: id % 14 === 0 }
          : null,
      icmp_errors: attack ? 3 : 0,
      icmp_last: attack ? { type: 3, code: 13 } : null,
      dns:
        dst_port === 53
          ? { questions: 12, answers: 11, failures: 2, name_bytes: 34, labels: 3, digits: 5, query_type: 16, response_code: 3, answer_records: 0 }
          : null,
    };
  }

  /** @param {number} unix_ms @param {any} flow */
  packet(unix_ms, flow) {
    const forward = this.random() < 0.5;
    const id = this.nextId++;
    return {
      id: String(id),
      unix_ms,
      unix_ns: `${unix_ms}000000`,
      sensor: SENSOR,
      interface: 'eth0',
      src_ip: forward ? flow.src_ip : flow.dst_ip,
      dst_ip: forward ? flow.dst_ip : flow.src_ip,
      src_port: forward ? flow.src_port : flow.dst_port,
      dst_port: forward ? flow.dst_port : flow.src_port,
      protocol: flow.protocol,
      bytes: 60 + Math.floor(this.random() * 1440),
      segments: 1,
      tcp_flags: flow.tcp_flags,
      direction: forward === (flow.initiator_direction === 'egress') ? 'egress' : 'ingress',
      verdict: flow.verdict,
      kind: flow.kind,
      probability: flow.probability,
      flow_id: flow.flow_id,
    };
  }

  /** Traffic of the second that starts at `ms`; a pure function of time. @param {number} ms */
  step(ms) {
    const s = ms / 1000;
    const noise = random(s)();
    const wave = 1 + 0.5 * Math.sin(s / 40) + 0.3 * Math.sin(s / 7);
    const burst = s % 180 < 25 ? 4 : 1;
    const rx_bytes = Math.round(320000 * wave * burst * (0.6 + noise * 0.8));
    const tx_bytes = Math.round(70000 * wave * (0.6 + noise * 0.8));
    return {
      rx_bytes,
      tx_bytes,
      rx_packets: Math.round(rx_bytes / 900),
      tx_packets: Math.round(tx_bytes / 300),
      lost_packets: s % 180 === 10 ? 14 : 0,
    };
  }

  /** @param {URLSearchParams} query */
  traffic(query) {
    const to = Number(query.get('to_unix_ms') ?? Date.now());
    const from = Math.max(Number(query.get('from_unix_ms') ?? to - 300e3), this.started);
    const span = to - from;
    const step_ms = span <= 15 * 60e3 + 5000 ? 1000 : span <= 24 * 3600e3 + 60e3 ? 60e3 : 3600e3;
    const items = [];
    for (let t = Math.ceil(from / step_ms) * step_ms; t < to; t += step_ms) {
      const one = this.step(t);
      const n = step_ms / 1000;
      items.push({ unix_ms: t, rx_bytes: one.rx_bytes * n, tx_bytes: one.tx_bytes * n, rx_packets: one.rx_packets * n, tx_packets: one.tx_packets * n, lost_packets: one.lost_packets });
    }
    return { step_ms, items };
  }

  /** @param {import('./mock-server.mjs').MockState} state */
  status(state) {
    const empty = state.mode === 'empty';
    const away = empty || state.mode === 'ended';
    return {
      version: '0.1.0',
      started_unix_ms: this.started,
      now_unix_ms: Date.now(),
      source: away ? 'none' : state.source,
      sensors_connected: away ? 0 : 1,
      can_change: state.canChange,
      books: { batches_in: 5021, records_in: 88123, records_stored: 88120, records_duplicate: 3, records_refused: 0, batches_refused: 0, batches_failed: 0, records_gap: 0, connections_refused: 0, connections_timed_out: 0, live_dropped: 0, state_forgotten: 0 },
    };
  }

  /** @param {import('./mock-server.mjs').MockState} state */
  sensors(state) {
    const now = Date.now();
    return [
      {
        sensor: SENSOR,
        connected: state.mode !== 'ended',
        source: state.source,
        version: '0.1.0',
        kernel: '6.18.5',
        last_seen_unix_ms: now - 400,
        model_id: 'forest-2026-11-a1b2c3',
        schema_digest: '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
        accepted_commands: state.accepts ? ['traceroute', 'probe'] : [],
        interfaces: [
          { slot: 0, name: 'eth0', ingress_mode: 'native-xdp', egress_mode: 'tcx', aggregated_totals: false },
          { slot: 1, name: this.hostile ? HOSTILE[0] : 'wlan0', ingress_mode: 'generic-xdp', egress_mode: 'clsact', aggregated_totals: true },
        ],
        health: {
          unix_ms: now, resident_bytes: 41e6, cpu_share: 0.034, ring_bytes: 16777216, ring_backlog_bytes: 20480,
          flows_live: 412, flows_max: 65536, backlog_records: 12,
          stepped_down: true, mode_since_unix_ms: now - 3000, step_downs: 2,
          books: { decoded: 12400123, in_flows: 12400123, packets_sampled: 91823, spool_bytes: 5242880, 'record-refused': 0, 'sample-budget': 12308300, 'backlog-full': 7, 'spool-full': 7, 'spool-no-space': 0, 'spool-damaged': 0, 'spool-refused': 0 },
        },
        clock_offset_ms: -2400, late_ms: 640,
        lost: { 'ring-full': 126, arp: 5512, 'other-ethertype': 31 },
        frames: 12405792,
        recorded: 12399123,
        mapped: 1000,
      },
      {
        sensor: 'lab-server', connected: false, source: 'lab', version: '0.1.0', kernel: '6.1.0',
        last_seen_unix_ms: now - 5 * 60e3, model_id: null, schema_digest: '', accepted_commands: [],
        interfaces: [{ slot: 0, name: 'veth0', ingress_mode: 'tcx', egress_mode: 'tcx', aggregated_totals: false }],
        health: null, clock_offset_ms: null, late_ms: null, lost: {}, frames: 9120, recorded: 9120, mapped: 0,
      },
    ];
  }

  /** @param {boolean} empty */
  totals(empty) {
    if (empty) {
      return { rx_bytes: 0, tx_bytes: 0, rx_packets: 0, tx_packets: 0, frames: 0, recorded: 0, mapped: 0, lost: {}, protocols: [], verdicts: {} };
    }
    const verdicts = { NORMAL: 0, UNSURE: 0, SUSPICIOUS: 0, NO_VERDICT: 0 };
    for (const flow of this.flowList) verdicts[/** @type {keyof typeof verdicts} */ (flow.verdict)] += 1;
    const ticks = this.flowList.length;
    return {
      rx_bytes: 8.2e9 + ticks * 3e5, tx_bytes: 1.1e9 + ticks * 6e4, rx_packets: 9.9e6 + ticks * 90, tx_packets: 2.5e6 + ticks * 60,
      frames: 12405792, recorded: 12399123, mapped: 1000,
      lost: { 'ring-full': 126, arp: 5512, 'other-ethertype': 31 },
      protocols: [
        { protocol: 'tcp', packets: 9.1e6, bytes: 7.9e9 },
        { protocol: 'udp', packets: 3.0e6, bytes: 1.3e9 },
        { protocol: 'icmp', packets: 21000, bytes: 2.1e6 },
        { protocol: 'icmpv6', packets: 4100, bytes: 4.1e5 },
        { protocol: 'other-ip', packets: 900, bytes: 6e4 },
        { protocol: 'arp', packets: 5512, bytes: 3.3e5 },
        { protocol: 'other', packets: 31, bytes: 4e3 },
      ],
      verdicts,
    };
  }

  /** @param {any[]} list @param {URLSearchParams} query @param {(item: any) => string} id */
  page(list, query, id) {
    const limit = Math.min(Number(query.get('limit') ?? 100), 1000);
    const before = query.get('before');
    const match = (/** @type {any} */ item) => {
      for (const name of ['verdict', 'protocol', 'direction', 'sensor', 'kind']) {
        const value = query.get(name);
        if (value && item[name] !== value) return false;
      }
      const address = query.get('address');
      if (address && item.src_ip !== address && item.dst_ip !== address) return false;
      const port = query.get('port');
      if (port && String(item.src_port) !== port && String(item.dst_port) !== port) return false;
      return true;
    };
    let start = 0;
    if (before) start = list.findIndex((item) => id(item) === before) + 1;
    const items = [];
    let index = start;
    for (; index < list.length && items.length < limit; index += 1) if (match(list[index])) items.push(list[index]);
    return { items, next: index < list.length && items.length > 0 ? id(items[items.length - 1]) : null };
  }

  /** @param {URLSearchParams} query */
  packets(query) {
    return this.page(this.packetList, query, (p) => p.id);
  }

  /** @param {URLSearchParams} query */
  flows(query) {
    return this.page(this.flowList, query, (f) => f.flow_id);
  }

  /** @param {URLSearchParams} query */
  events(query) {
    return this.page(this.eventList, query, (e) => String(e.unix_ms));
  }

  /** @param {URLSearchParams} query */
  talkers(query) {
    const by = query.get('by') ?? 'destination';
    const order = query.get('order') ?? 'bytes';
    const limit = Math.min(Number(query.get('limit') ?? 100), 1000);
    const field = { destination: 'dst_ip', source: 'src_ip', port: 'dst_port', protocol: 'protocol', sensor: 'sensor' }[by] ?? 'dst_ip';
    /** @type {Map<string, any>} */
    const sums = new Map();
    for (const flow of this.flowList) {
      const key = by === 'port' ? `${flow.dst_port}/${flow.protocol}` : String(flow[field]);
      const row = sums.get(key) ?? { key, bytes: 0, packets: 0, flows: 0 };
      row.bytes += flow.fwd_bytes + flow.rev_bytes;
      row.packets += flow.fwd_packets + flow.rev_packets;
      row.flows += 1;
      sums.set(key, row);
    }
    const rows = [...sums.values()].sort((a, b) => b[order] - a[order]);
    const items = rows.slice(0, limit);
    const other = { key: 'other', bytes: 0, packets: 0, flows: 0 };
    for (const row of rows.slice(limit)) {
      other.bytes += row.bytes;
      other.packets += row.packets;
      other.flows += row.flows;
    }
    return { items: [...items, other], next: null };
  }

  /** The states a command goes through, one after another. @param {any} wish */
  commandSteps(wish) {
    if (wish.command === 'probe') {
      return [
        {},
        { probe: { address: '8.8.8.8', method: 'icmp', sent: 10, received: 9, rtt_min_ms: 11.2, rtt_mean_ms: 13.9, rtt_max_ms: 21.7, jitter_ms: 2.4 } },
      ];
    }
    const hops = [
      { ttl: 1, address: '10.0.0.1', rtt_ms: [0.41, 0.39, 0.44], lost: 0, reached: false },
      { ttl: 2, address: '100.64.0.1', rtt_ms: [4.2, 3.9], lost: 1, reached: false },
      { ttl: 3, address: '', rtt_ms: [], lost: 3, reached: false },
      { ttl: 4, address: '72.14.215.85', rtt_ms: [12.1, 11.8, 12.6], lost: 0, reached: false },
      { ttl: 5, address: wish.target, rtt_ms: [11.9, 12.0, 12.4], lost: 0, reached: true },
    ];
    return hops.map((_, i) => ({ hops: hops.slice(0, i + 1) }));
  }
}

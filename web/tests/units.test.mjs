// The pure parts, without a browser.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { bytes, bitRate, count, duration, endpoint, perDay, percent, plain, si, signed, visible } from '../app/format.js';
import { isOfHost, KNOWN_FEATURES, reasonOf, usualOf } from '../app/features.js';
import { RecentList, SecondRing } from '../app/state/ring.js';
import { baselineOf, dnsResultOf, dnsTypeOf, icmpErrorOf, splitLost, tunnelTag, verdictOf } from '../app/words.js';

const plainSpaces = (/** @type {string} */ text) => text.replace(/[\u00a0\u202f]/g, ' ');
/** @param {number} n */
const second = (n) => ({ rx_bytes: n, tx_bytes: 0, rx_packets: 1, tx_packets: 0, lost_packets: 0 });

test('numbers carry SI prefixes and never round up to 1000', () => {
  assert.equal(plainSpaces(bytes(0)), '0 B');
  assert.equal(plainSpaces(bytes(999)), '999 B');
  assert.equal(plainSpaces(bytes(999_999)), '1.00 MB');
  assert.equal(plainSpaces(bytes(1_234_567)), '1.23 MB');
  assert.equal(plainSpaces(bitRate(125_000)), '1.00 Mbit/s');
  assert.equal(plainSpaces(si(-5000, 'B')), '−5.00 kB');
  assert.equal(bytes(NaN), '–');
});

test('a share is never rounded to nothing or to the whole', () => {
  assert.equal(plainSpaces(percent(0.0001)), '< 0.1 %');
  assert.equal(plainSpaces(percent(0.99999)), '> 99.9 %');
  assert.equal(plainSpaces(percent(0)), '0 %');
  assert.equal(plainSpaces(percent(1)), '100 %');
  assert.equal(plainSpaces(percent(0.973)), '97.3 %');
});

test('counts are grouped, contributions signed, unknown values a dash', () => {
  assert.equal(plainSpaces(count(1234567)), '1 234 567');
  assert.equal(count(null), '–');
  assert.equal(signed(-0.04), '−0.040');
  assert.equal(plain(0.0204), '0.0204');
  assert.equal(plainSpaces(plain(-12345)), '−12 345');
  assert.equal(perDay(undefined), '–');
  assert.equal(plainSpaces(perDay(0.001)), '< 0.01');
  assert.equal(plainSpaces(duration(61_000)), '1 min 1 s');
});

test('IPv6 ends are bracketed and protocols without ports show none', () => {
  assert.equal(endpoint('fe80::1', 443, 'tcp'), '[fe80::1]:443');
  assert.equal(endpoint('10.0.0.1', 8, 'icmp'), '10.0.0.1');
});

test('an unknown verdict is no verdict, never normal', () => {
  assert.equal(verdictOf('NORMAL'), 'NORMAL');
  assert.equal(verdictOf(''), 'NO_VERDICT');
  assert.equal(verdictOf('toString'), 'NO_VERDICT');
});

test('reasons are told in words and in the units that were measured', () => {
  const told = (/** @type {string} */ name, /** @type {number} */ value) => {
    const { label, value: shown } = reasonOf(name, value);
    return plainSpaces(`${label}: ${shown}`);
  };
  assert.equal(told('src_ports_log2', Math.log2(42)), 'ports the initiator tried lately: ≈ 41');
  assert.equal(told('flow_rev_payload_bytes_log2', Math.log2(1501)), 'payload sent by the responder: ≈ 1.50 kB');
  assert.equal(told('flow_gap_max_ms_log2', Math.log2(20001)), 'longest gap between packets: ≈ 2.0 s');
  assert.equal(told('flow_handshake', 1), 'TCP handshake: SYN only');
  assert.equal(told('pair_start_gap_cv', -1), 'spread of the gaps between their flow starts: too few to say');
  assert.equal(told('not_in_the_schema', 3), 'not in the schema: 3');
  assert.equal(reasonOf('others', 0).value, null);
  assert.equal(told('constructor', 1), 'constructor: 1');
});

test('most features of the schema have words', async () => {
  const schema = await readFile(new URL('../../netml-agent/src/flow/schema.rs', import.meta.url), 'utf8');
  const names = [...schema.matchAll(/spec\("([a-z0-9_]+)"/g)].map((m) => m[1]);
  assert.ok(names.length > 20, 'the schema was read');
  const without = names.filter((name) => !KNOWN_FEATURES.includes(name));
  assert.ok(without.length <= names.length / 4, `add words in app/features.js for ${without.join(', ')}`);
});

test('what is usual for a host is told in the words of the feature', () => {
  assert.equal(usualOf('src_destinations_log2', 0, Math.log2(13)).replace(/[\u00a0\u202f]/g, ' '), '0 – 12');
  assert.equal(usualOf('src_failed_log2', 0, 0), '0');
  assert.ok(isOfHost('dst_reply_share') && !isOfHost('flow_dst_port_class') && !isOfHost('others'));
  const known = { initiator_known: false, responder_known: true, score: 3, limit: 3 };
  assert.equal(baselineOf(known).label, 'unusual');
  assert.equal(baselineOf({ ...known, score: 2.9 }).label, 'as usual');
  assert.equal(baselineOf({ ...known, responder_known: false }).label, 'not known yet');
});

test('tunnels, ICMP errors and DNS numbers have words, and keep their numbers where there are none', () => {
  assert.equal(tunnelTag({ kind: 'vxlan', network_id: 0 }), 'VXLAN 0');
  assert.equal(tunnelTag({ kind: '6in4', network_id: null }), 'IPv6 in IPv4');
  assert.equal(tunnelTag({ kind: 'constructor\u202e', network_id: null }), 'constructor\\u202e');
  assert.equal(icmpErrorOf({ type: 3, code: 3 }, false), 'port unreachable (type 3, code 3)');
  assert.equal(icmpErrorOf({ type: 3, code: 0 }, true), 'too many hops (type 3, code 0)');
  assert.equal(icmpErrorOf({ type: 1, code: 6 }, true), 'unreachable (type 1, code 6)');
  assert.equal(icmpErrorOf({ type: 40, code: 2 }, false), 'type 40, code 2');
  assert.equal(dnsTypeOf(28), 'AAAA');
  assert.equal(dnsTypeOf(65399), 'type 65399');
  assert.equal(dnsResultOf(3), 'no such name');
  assert.equal(dnsResultOf(23), 'code 23');
});

test('characters that hide or turn round text are made visible', () => {
  assert.equal(visible('\u202Egnp.exe'), '\\u202egnp.exe');
  assert.equal(visible('a\u0000b\nc'), 'a\\u0000b c');
  assert.equal(visible('naïve – 漢字'), 'naïve – 漢字');
  assert.equal(visible(null), '');
});

test('frames without IP are not counted as lost', () => {
  assert.deepEqual(splitLost({ arp: 5, 'ring-full': 2, 'never-heard-of': 1 }), { missing: 3, notIp: 5 });
});

test('a second sums its interfaces and the store has the last word', () => {
  const ring = new SecondRing(10);
  ring.add(100, second(5));
  ring.add(100, second(7));
  assert.equal(ring.at(100)?.rx_bytes, 12);
  ring.settle([{ second: 100, item: second(13) }, { second: 101, item: second(1) }], 100);
  assert.equal(ring.at(100)?.rx_bytes, 13);
  ring.add(100, second(99));
  assert.equal(ring.at(100)?.rx_bytes, 13, 'a settled second takes no live additions');
  ring.add(101, second(4));
  assert.equal(ring.at(101)?.rx_bytes, 4, 'a live report replaces an early reading of the store');
});

test('the ring is bounded and shows gaps as gaps', () => {
  const ring = new SecondRing(4);
  for (const s of [1, 2, 3, 4, 5, 7]) ring.add(s, second(s));
  assert.equal(ring.at(3), null, 'second 7 took its slot');
  assert.deepEqual(ring.range(4, 7).columns.rx_bytes, [4, 5, null, 7]);
  ring.add(1, second(1));
  assert.equal(ring.at(1), null, 'a second older than the ring is ignored');
});

test('a second that one of two interfaces has reported is not complete', () => {
  const ring = new SecondRing(10);
  ring.add(5, second(1));
  ring.add(5, second(1));
  ring.add(6, second(1));
  assert.equal(ring.complete(), 5);
  ring.add(6, second(1));
  assert.equal(ring.complete(), 6);
});

test('the recent list keeps the newest and replaces by key', () => {
  const list = new RecentList(2, (/** @type {{id: string, v: number}} */ x) => x.id);
  list.add([{ id: 'a', v: 1 }, { id: 'b', v: 1 }, { id: 'a', v: 2 }, { id: 'c', v: 1 }]);
  assert.deepEqual(list.list().map((x) => x.id + x.v), ['c1', 'a2']);
});

//! Flows, time-outs, evaluation points and books, over hand-made packets.

use netml_common::{
    Direction, DnsRecord, Extras, FlowKey, Link, Marks, PacketRecord, QuotedRecord, TunnelKind,
    TunnelRecord, walk,
};
use proptest::prelude::*;

use super::super::{
    EndReason, EvaluationRow, FlowReport, FlowState, FlowTotals, HalfTotals, JudgedPacket,
    Settings, Sink,
};
use super::Engine;
use crate::flow::beside::{Beside, DnsNumbers, IcmpError, Tunnel};
use crate::flow::schema::FEATURE_SPECS;
use crate::verdict::Verdict;

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

#[derive(Default)]
struct Seen {
    flows: Vec<FlowReport>,
    packets: Vec<JudgedPacket>,
    rows: Vec<(u64, u64, Vec<f32>)>,
}

impl Sink for Seen {
    fn flow(&mut self, report: &FlowReport) {
        self.flows.push(report.clone());
    }
    fn packet(&mut self, packet: &JudgedPacket) {
        self.packets.push(*packet);
    }
    fn row(&mut self, row: &EvaluationRow<'_>) {
        self.rows
            .push((row.flow_id, row.packets, row.features.to_vec()));
    }
}

impl Seen {
    fn ended(&self) -> Vec<(EndReason, u64, u64)> {
        self.flows
            .iter()
            .filter_map(|flow| match flow.state {
                FlowState::End(reason) => Some((reason, flow.fwd_packets, flow.rev_packets)),
                _ => None,
            })
            .collect()
    }
    fn feature(&self, row: usize, name: &str) -> f32 {
        let at = FEATURE_SPECS
            .iter()
            .position(|spec| spec.name == name)
            .unwrap();
        self.rows[row].2[at]
    }
}

/// A packet from 10.0.0.`from` to 10.0.0.`to`.
fn packet(
    mono_ns: u64,
    from: u8,
    to: u8,
    ports: (u16, u16),
    protocol: u8,
    flags: u8,
) -> PacketRecord {
    let address = |last| netml_common::walk::mapped([10, 0, 0, last]);
    PacketRecord {
        kind: 1,
        version: 1,
        length_units: 8,
        ip_protocol: protocol,
        marks: Marks(0),
        slot: 0,
        segments: 1,
        mono_ns,
        src: address(from),
        dst: address(to),
        wire_bytes: 60,
        payload_bytes: 0,
        src_port: ports.0,
        dst_port: ports.1,
        tcp_flags: flags,
        hop_limit: 64,
        tcp_window: 1000,
    }
}

fn engine() -> Engine {
    Engine::new(Settings::default(), None)
}

#[test]
fn both_directions_are_one_flow_whose_initiator_sent_the_syn() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.packet(&packet(S, 1, 2, (5000, 80), 6, 0x02), &mut seen);
    engine.packet(&packet(S + MS, 2, 1, (80, 5000), 6, 0x12), &mut seen);
    engine.packet(&packet(S + 2 * MS, 1, 2, (5000, 80), 6, 0x10), &mut seen);
    engine.finish(&mut seen);
    assert_eq!(seen.ended(), [(EndReason::Shutdown, 2, 1)]);
    let flow = seen.flows.last().unwrap();
    assert_eq!((flow.ends.src_port, flow.ends.dst_port), (5000, 80));
    assert_eq!(flow.initiator_direction, Direction::Ingress);
    assert_eq!(flow.verdict.verdict, Verdict::NoVerdict);
}

#[test]
fn a_syn_ack_seen_first_names_its_receiver_as_initiator() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.packet(&packet(S, 2, 1, (80, 5000), 6, 0x12), &mut seen);
    engine.finish(&mut seen);
    let flow = seen.flows.last().unwrap();
    assert_eq!(
        (flow.ends.src_port, flow.fwd_packets, flow.rev_packets),
        (5000, 0, 1)
    );
    assert_eq!(flow.initiator_direction, Direction::Egress);
}

#[test]
fn an_echo_and_its_reply_are_one_flow() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.packet(&packet(S, 1, 2, (8, 0), 1, 0), &mut seen);
    engine.packet(&packet(S + MS, 2, 1, (0, 0), 1, 0), &mut seen);
    engine.finish(&mut seen);
    assert_eq!(seen.ended(), [(EndReason::Shutdown, 1, 1)]);
}

#[test]
fn every_time_out_ends_its_flow_with_its_reason() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.packet(&packet(S, 1, 2, (1, 80), 6, 0x02), &mut seen);
    engine.packet(&packet(S, 1, 3, (2, 80), 6, 0x10), &mut seen);
    engine.packet(&packet(S, 1, 4, (3, 53), 17, 0), &mut seen);
    engine.packet(&packet(S, 1, 5, (4, 80), 6, 0x04), &mut seen);
    engine.packet(&packet(S, 1, 6, (5, 80), 6, 0x11), &mut seen);
    engine.packet(&packet(S, 6, 1, (80, 5), 6, 0x11), &mut seen);
    let mut at = Vec::new();
    for second in 2..80 {
        engine.advance(second * S, &mut seen);
        for (reason, _, _) in seen.ended().into_iter().skip(at.len()) {
            at.push((reason, second));
        }
    }
    at.sort_by_key(|(reason, second)| (*second, reason.name()));
    assert_eq!(
        at,
        [
            (EndReason::Fin, 7),
            (EndReason::Rst, 7),
            (EndReason::HalfOpen, 12),
            (EndReason::Idle, 32),
            (EndReason::Idle, 62),
        ]
    );
    assert_eq!(engine.books().packets_live, 0);
}

#[test]
fn a_flow_that_goes_on_is_begun_anew_at_the_active_time_out_with_its_initiator() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    for second in 1..=130 {
        let ends = if second % 2 == 1 {
            (1, 2, (9, 10))
        } else {
            (2, 1, (10, 9))
        };
        engine.packet(
            &packet(second * S, ends.0, ends.1, ends.2, 17, 0),
            &mut seen,
        );
    }
    engine.finish(&mut seen);
    assert_eq!(
        seen.ended(),
        [
            (EndReason::ActiveTimeout, 60, 60),
            (EndReason::Shutdown, 5, 5)
        ]
    );
    assert!(seen.flows.iter().all(|flow| flow.ends.src_port == 9));
}

#[test]
fn a_new_syn_on_a_closed_flow_begins_another() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.packet(&packet(S, 1, 2, (5000, 80), 6, 0x02), &mut seen);
    engine.packet(&packet(S, 2, 1, (80, 5000), 6, 0x14), &mut seen);
    engine.packet(&packet(2 * S, 1, 2, (5000, 80), 6, 0x02), &mut seen);
    engine.finish(&mut seen);
    assert_eq!(
        seen.ended(),
        [(EndReason::Rst, 1, 1), (EndReason::Shutdown, 1, 0)]
    );
}

#[test]
fn rows_come_at_fibonacci_points_after_a_quiet_second_and_at_the_end() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    for i in 0..10 {
        engine.packet(&packet(S + i * MS, 1, 2, (9, 10), 17, 0), &mut seen);
    }
    let points = |seen: &Seen| seen.rows.iter().map(|row| row.1).collect::<Vec<_>>();
    assert_eq!(points(&seen), [1, 2, 3, 5, 8]);
    engine.advance(3 * S, &mut seen);
    assert_eq!(points(&seen), [1, 2, 3, 5, 8, 10], "quiet");
    engine.packet(&packet(4 * S, 1, 2, (9, 10), 17, 0), &mut seen);
    engine.advance(6 * S, &mut seen);
    assert_eq!(points(&seen).len(), 6, "once between two points");
    engine.finish(&mut seen);
    assert_eq!(points(&seen), [1, 2, 3, 5, 8, 10, 11], "end");
}

#[test]
fn a_scan_shows_in_the_first_packet_of_its_later_flows() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    for port in 1..=100u16 {
        engine.packet(
            &packet(S + u64::from(port) * MS, 1, 2, (40_000, port), 6, 0x02),
            &mut seen,
        );
        engine.packet(
            &packet(S + u64::from(port) * MS, 2, 1, (port, 40_000), 6, 0x14),
            &mut seen,
        );
    }
    engine.flush(&mut seen);
    let last = seen.rows.len() - 2;
    assert_eq!(seen.rows[last].1, 1);
    assert!(seen.feature(last, "pair_refused_share") > 0.9);
    let ports = seen.feature(last, "pair_ports_log2").exp2();
    assert!((80.0..125.0).contains(&ports), "{ports}");
    assert!(
        seen.feature(0, "pair_refused_share") < 0.01,
        "nothing is known at the first packet"
    );
}

#[test]
fn a_lone_unanswered_flow_is_no_failure_rate() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.packet(&packet(S, 1, 2, (1, 53), 17, 0), &mut seen);
    engine.flush(&mut seen);
    assert!(seen.feature(0, "src_unanswered_share") < 0.01);
}

#[test]
fn a_full_table_evicts_the_longest_untouched_and_counts_it() {
    let settings = Settings {
        flows_max: 4,
        hosts_max: 3,
        ..Settings::default()
    };
    let (mut engine, mut seen) = (Engine::new(settings, None), Seen::default());
    for i in 0..6 {
        engine.packet(
            &packet(S + i * MS, 1, 10 + i as u8, (1, 2), 17, 0),
            &mut seen,
        );
    }
    assert_eq!(engine.flows_live(), 4);
    let books = engine.books();
    assert_eq!(
        (books.flows_evicted, books.packets_ended, books.packets_live),
        (2, 2, 4)
    );
    assert!(books.hosts_evicted > 0);
}

#[test]
fn packets_lost_while_a_flow_lives_are_stamped_on_it() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.lost(5);
    engine.packet(&packet(S, 1, 2, (1, 2), 17, 0), &mut seen);
    engine.lost(7);
    engine.finish(&mut seen);
    assert_eq!(seen.flows.last().unwrap().verdict.lost_meanwhile, 7);
}

#[test]
fn time_stamps_years_apart_and_backwards_lose_nothing() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    for mono_ns in [S, u64::MAX, 0, 5 * S, u64::MAX / 2] {
        engine.packet(&packet(mono_ns, 1, 2, (1, 2), 17, 0), &mut seen);
    }
    engine.finish(&mut seen);
    assert_eq!(engine.books().packets_ended, 5);
    assert_eq!(engine.books().out_of_order, 3);
}

proptest! {
    /// Any packets at any time: each is shown once, totals of ended flows are all packets, rows
    /// are finite.
    #[test]
    fn books_balance(
        items in proptest::collection::vec((0u64..200_000, 1u8..5, 1u8..5, 0u16..4, 0u16..4, any::<u8>(), 0usize..4), 1..300),
        flows_max in 1usize..12,
    ) {
        let settings = Settings { flows_max, hosts_max: flows_max, ..Settings::default() };
        let (mut engine, mut seen) = (Engine::new(settings, None), Seen::default());
        for (ms, from, to, a, b, flags, protocol) in &items {
            let protocol = [6, 17, 1, 47][*protocol];
            engine.packet(&packet(ms * MS, *from, *to, (*a, *b), protocol, *flags), &mut seen);
            let books = engine.books();
            prop_assert_eq!(books.packets_in, books.packets_ended + books.packets_live);
            prop_assert!(engine.flows_live() <= flows_max);
        }
        engine.finish(&mut seen);
        let books = engine.books();
        prop_assert_eq!(books.packets_ended, items.len() as u64);
        prop_assert_eq!(books.flows_started, books.flows_ended);
        prop_assert_eq!(seen.packets.len(), items.len());
        let in_flows: u64 = seen.ended().iter().map(|(_, fwd, rev)| fwd + rev).sum();
        prop_assert_eq!(in_flows, items.len() as u64);
        prop_assert!(seen.rows.iter().all(|row| row.2.iter().all(|value| value.is_finite())));
    }

    /// The same packets in other batches give the same rows.
    #[test]
    fn batches_do_not_matter(cut in 1usize..40) {
        let run = |cut: usize| {
            let (mut engine, mut seen) = (engine(), Seen::default());
            for i in 0..200u64 {
                engine.packet(&packet(S + i * 100 * MS, (i % 5) as u8, 9, (i as u16 % 7, 80), 17, 0), &mut seen);
                if (i as usize).is_multiple_of(cut) {
                    engine.flush(&mut seen);
                }
            }
            engine.finish(&mut seen);
            seen.rows
        };
        prop_assert_eq!(run(cut), run(usize::MAX));
    }
}

#[test]
fn walked_frames_reach_a_flow() {
    let mut frame = vec![0u8; 12];
    frame.extend([
        8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 53, 0,
        8, 0, 0,
    ]);
    let walked = walk(&frame[..], 42, Link::Ethernet).unwrap();
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.packet(&walked.record(S, 0, Direction::Egress, 1, 42), &mut seen);
    engine.finish(&mut seen);
    assert_eq!(
        seen.flows.last().unwrap().initiator_direction,
        Direction::Egress
    );
}

/// A packet out of this VXLAN network.
fn in_vxlan(network_id: u32) -> Extras {
    let tunnel = TunnelRecord {
        kind: netml_common::extras::KIND_TUNNEL,
        tunnel: TunnelKind::Vxlan as u8 | TunnelRecord::HAS_NETWORK_ID,
        network_id,
        src: [1; 16],
        dst: [2; 16],
        ..TunnelRecord::NONE
    };
    Extras {
        tunnel: Some(tunnel),
        ..Extras::NONE
    }
}

/// Ends of flows: their networks, and packets each way.
fn networks_ended(seen: &Seen) -> Vec<(Option<u32>, u64, u64)> {
    let ended = seen
        .flows
        .iter()
        .filter(|flow| matches!(flow.state, FlowState::End(_)));
    let mut all: Vec<_> = ended
        .map(|flow| {
            let tunnel = flow.beside.tunnel;
            let id = tunnel.and_then(|tunnel| tunnel.network_id);
            (id, flow.fwd_packets, flow.rev_packets)
        })
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn the_same_ends_in_two_networks_are_two_flows() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    let there = packet(S, 1, 2, (5000, 80), 6, 0x02);
    let back = packet(S, 2, 1, (80, 5000), 6, 0x12);
    for (extras, packets) in [(in_vxlan(0), 1), (in_vxlan(7), 2), (Extras::NONE, 3)] {
        for _ in 0..packets {
            engine.packet_with(&there, &extras, &mut seen);
        }
        engine.packet_with(&back, &extras, &mut seen);
    }
    // A tunnel without an identifier carries what comes back without one: they are one flow.
    let mut ipip = in_vxlan(0);
    ipip.tunnel.as_mut().unwrap().tunnel = TunnelKind::Ipip as u8;
    engine.packet_with(&there, &ipip, &mut seen);
    // What the kernel counted goes to the flow of its network, and an error to that it came out of.
    let mut counts = counted(2 * S, 10, 4, 0);
    let network = netml_common::Network::of_extras(&in_vxlan(7));
    counts.key = FlowKey::of_packet(&there, network).key;
    engine.totals(&counts, &mut seen);
    let mut error = in_vxlan(7);
    error.quoted = Some(QuotedRecord {
        kind: netml_common::extras::KIND_QUOTED,
        ip_protocol: 6,
        src_port: 5000,
        dst_port: 80,
        src: there.src,
        dst: there.dst,
        ..QuotedRecord::NONE
    });
    engine.packet_with(&packet(3 * S, 9, 1, (3, 3), 1, 0), &error, &mut seen);
    engine.finish(&mut seen);
    let expected = [
        (None, 4, 1),
        (Some(0), 1, 1),
        (Some(7), 1, 0),
        (Some(7), 22, 9),
    ];
    assert_eq!(networks_ended(&seen), expected);
    let about = seen.flows.iter().rfind(|flow| flow.beside.icmp_errors > 0);
    assert_eq!(about.map(|flow| flow.fwd_packets), Some(22));
}

#[test]
fn a_packet_on_the_card_in_its_tunnel_and_on_the_tunnels_device_counts_once() {
    let once = conversations();
    let expected = row_after(&once);
    let twice = once.iter().flat_map(|record| {
        [
            (*record, in_vxlan(7)),
            (seen_on(1, 2_000, *record), Extras::NONE),
        ]
    });
    assert_same_row(&row_after_with(twice), &expected);
    // The other way around, and another network with the same ends on the card, which is not it.
    let thrice = once.iter().flat_map(|record| {
        [
            (seen_on(1, 0, *record), Extras::NONE),
            (seen_on(0, 2_000, *record), in_vxlan(7)),
        ]
    });
    assert_same_row(&row_after_with(thrice), &expected);
    let (mut engine, mut seen) = (engine(), Seen::default());
    for extras in [in_vxlan(7), in_vxlan(8), in_vxlan(9)] {
        engine.packet_with(&once[0], &extras, &mut seen);
    }
    engine.packet(&seen_on(1, 2_000, once[0]), &mut seen);
    engine.finish(&mut seen);
    assert!(engine.conversations.is_empty());
}

#[test]
fn a_flow_keeps_the_ends_of_its_tunnel_as_its_initiator_sees_them() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    // The first packet seen is the responder's.
    engine.packet_with(
        &packet(S, 2, 1, (80, 5000), 6, 0x12),
        &in_vxlan(7),
        &mut seen,
    );
    engine.packet(&packet(S, 3, 1, (80, 5000), 6, 0x12), &mut seen);
    engine.finish(&mut seen);
    let expected = Tunnel {
        kind: TunnelKind::Vxlan,
        network_id: Some(7),
        src: [2; 16],
        dst: [1; 16],
        deeper: false,
    };
    let tunnels: Vec<_> = seen.packets.iter().map(|packet| packet.tunnel).collect();
    assert_eq!(tunnels, [Some(expected), None]);
    let told = |flow: &&FlowReport| flow.flow_id == 1;
    let flow = seen.flows.iter().rfind(told).unwrap();
    assert_eq!(flow.beside.tunnel, Some(expected));
}

#[test]
fn an_icmp_error_counts_on_the_flow_it_is_about_and_is_a_packet_of_its_own_only() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    let question = packet(S, 1, 2, (5000, 53), 17, 0);
    engine.packet(&question, &mut seen);
    let quoted = QuotedRecord {
        kind: netml_common::extras::KIND_QUOTED,
        ip_protocol: 17,
        src_port: 5000,
        dst_port: 53,
        src: question.src,
        dst: question.dst,
        ..QuotedRecord::NONE
    };
    let about = |quoted| Extras {
        quoted: Some(quoted),
        ..Extras::NONE
    };
    let error = packet(S + MS, 9, 1, (3, 3), 1, 0);
    engine.packet_with(&error, &about(quoted), &mut seen);
    // About a flow that is not there.
    let unknown = QuotedRecord {
        dst_port: 54,
        ..quoted
    };
    engine.packet_with(&error, &about(unknown), &mut seen);
    engine.finish(&mut seen);
    assert_eq!(engine.books().icmp_errors, 1);
    assert_eq!(engine.books().packets_in, 3);
    let ended: Vec<_> = seen
        .flows
        .iter()
        .filter(|flow| matches!(flow.state, FlowState::End(_)))
        .map(|flow| {
            (
                flow.ends.ip_protocol,
                flow.fwd_packets,
                flow.beside.icmp_errors,
                flow.beside.icmp_last,
            )
        })
        .collect();
    // The longest untouched last.
    let last = Some(IcmpError {
        icmp_type: 3,
        code: 3,
    });
    assert_eq!(ended, [(1, 2, 0, None), (17, 1, 1, last)]);
}

#[test]
fn dns_numbers_of_a_flow_are_its_counts_and_its_last_question() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    let message = |flags, response_code, name_bytes| Extras {
        dns: Some(DnsRecord {
            kind: netml_common::extras::KIND_DNS,
            flags,
            response_code,
            name_bytes,
            labels: 2,
            digits: 1,
            query_type: 28,
            answers: 4,
            ..DnsRecord::NONE
        }),
        ..Extras::NONE
    };
    let ask = packet(S, 1, 2, (5000, 53), 17, 0);
    let answer = packet(S + MS, 2, 1, (53, 5000), 17, 0);
    engine.packet_with(&ask, &message(DnsRecord::NAMED, 0, 9), &mut seen);
    let both = DnsRecord::NAMED | DnsRecord::RESPONSE;
    engine.packet_with(&answer, &message(both, 3, 9), &mut seen);
    engine.packet_with(&ask, &message(0, 0, 0), &mut seen);
    engine.finish(&mut seen);
    let expected = DnsNumbers {
        questions: 2,
        answers: 1,
        failures: 1,
        answer_records: 4,
        query_type: 28,
        name_bytes: 9,
        labels: 2,
        digits: 1,
        response_code: 3,
    };
    let beside = seen.flows.last().unwrap().beside;
    assert_eq!(
        beside,
        Beside {
            dns: Some(expected),
            ..Beside::default()
        }
    );
}

/// A model whose one split calls more than eight frames an attack of class "scan".
fn model_of_frames() -> std::sync::Arc<crate::model::Model> {
    use crate::model::{Forest, Model, Node, SHARE_ONE, Tree};
    let feature = FEATURE_SPECS
        .iter()
        .position(|spec| spec.name == "flow_packets_log2")
        .unwrap();
    let split = Node {
        threshold: 3.5,
        left: 1,
        feature: feature as u8,
        flags: 0,
    };
    let nodes = vec![split, Node::leaf(1, 0), Node::leaf(2, 1)];
    let tree = Tree::new(
        nodes,
        vec![SHARE_ONE / 2, 0, SHARE_ONE],
        vec![0, 0, SHARE_ONE, 0],
        3,
    )
    .unwrap();
    let mut parts = crate::model::testing::parts(1, 1, 1);
    parts.forest = Forest::new(vec![tree], 3).unwrap();
    std::sync::Arc::new(Model::from_bytes(&crate::model::encode(&parts).unwrap()).unwrap())
}

#[test]
fn what_a_rule_said_of_silence_is_withdrawn_when_an_answer_comes() {
    let (mut engine, mut seen) = (
        Engine::new(Settings::default(), Some(model_of_frames())),
        Seen::default(),
    );
    for n in 0..2_000 {
        engine.packet(&packet(S + n * MS, 1, 2, (n as u16, 80), 6, 2), &mut seen);
    }
    let (at, client) = (4 * S, (5000, 80));
    engine.packet(&packet(at, 3, 2, client, 6, 0x02), &mut seen);
    engine.flush(&mut seen);
    let verdict = |seen: &Seen| seen.flows.last().unwrap().verdict.clone();
    let rule = verdict(&seen).rule.unwrap().rule;
    assert_eq!(rule, crate::rules::Rule::ConnectionFlood);
    assert_eq!(verdict(&seen).verdict, Verdict::Suspicious);
    engine.packet(&packet(at, 2, 3, (80, 5000), 6, 0x12), &mut seen);
    engine.packet(&packet(at, 3, 2, client, 6, 0x10), &mut seen);
    let mut answer = packet(at, 2, 3, (80, 5000), 6, 0x18);
    answer.payload_bytes = 100;
    engine.packet(&answer, &mut seen);
    engine.packet(&packet(at, 3, 2, client, 6, 0x10), &mut seen);
    engine.flush(&mut seen);
    assert_eq!(verdict(&seen).rule, None);
    assert_eq!(verdict(&seen).verdict, Verdict::Normal);
    assert_eq!(verdict(&seen).kind, None);
}

#[test]
fn a_flow_keeps_its_highest_verdict_and_packets_carry_what_was_known() {
    let (mut engine, mut seen) = (
        Engine::new(Settings::default(), Some(model_of_frames())),
        Seen::default(),
    );
    for i in 0..20 {
        engine.packet(&packet(S + i * MS, 1, 2, (9, 10), 17, 0), &mut seen);
    }
    engine.finish(&mut seen);
    let verdicts: Vec<_> = seen.packets.iter().map(|packet| packet.verdict).collect();
    // Points are 1, 2, 3, 5, 8 and 13 frames: the thirteenth is the first above eight.
    assert!(
        verdicts[..12]
            .iter()
            .all(|verdict| *verdict == Verdict::Normal)
    );
    assert!(
        verdicts[12..]
            .iter()
            .all(|verdict| *verdict == Verdict::Suspicious)
    );
    let last = &seen.flows.last().unwrap().verdict;
    assert_eq!(
        (last.verdict, last.kind.as_deref()),
        (Verdict::Suspicious, Some("scan"))
    );
    assert_eq!(last.reasons[0].feature, "flow_packets_log2");
    let sum: f32 = last.reasons.iter().map(|reason| reason.contribution).sum();
    assert!(
        (sum - last.score).abs() < 1e-3,
        "{sum} is not {}",
        last.score
    );
    assert_eq!(last.reasons.len(), 6, "five and others");
}

#[test]
fn a_raised_verdict_is_reported_at_once() {
    let (mut engine, mut seen) = (
        Engine::new(Settings::default(), Some(model_of_frames())),
        Seen::default(),
    );
    for i in 0..13 {
        engine.packet(&packet(S + i * MS, 1, 2, (9, 10), 17, 0), &mut seen);
    }
    engine.flush(&mut seen);
    let states: Vec<_> = seen
        .flows
        .iter()
        .map(|flow| (flow.state, flow.verdict.verdict))
        .collect();
    assert_eq!(
        states,
        [
            (FlowState::Start, Verdict::Normal),
            (FlowState::Update, Verdict::Suspicious)
        ]
    );
}

/// What the kernel counted of the flow of [`packet`] 10.0.0.1:1000 → 10.0.0.2:80, `there` and
/// `back` frames of 60 bytes.
fn counted(last_ns: u64, there: u64, back: u64, flags: u8) -> FlowTotals {
    let half = |frames| HalfTotals {
        packets: frames * 2,
        frames,
        bytes: frames * 60,
        payload_bytes: frames * 6,
        tcp_flags: flags,
    };
    FlowTotals {
        key: FlowKey::of_record(&packet(0, 1, 2, (1000, 80), 6, 0x10)).key,
        initiator_is_low: true,
        low_is_egress: true,
        first_mono_ns: 0,
        last_mono_ns: last_ns,
        low: half(there),
        high: half(back),
    }
}

#[test]
fn what_the_kernel_counted_is_in_the_sums_of_a_flow_and_in_no_statistic() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    for (at, flags) in [(S, 0x02), (S + MS, 0x10)] {
        engine.packet(&packet(at, 1, 2, (1000, 80), 6, flags), &mut seen);
    }
    let rows = seen.rows.len();
    engine.totals(&counted(2 * S, 10, 4, 0x18), &mut seen);
    assert_eq!(seen.rows.len(), rows, "no row without a packet");
    engine.finish(&mut seen);
    assert_eq!(seen.ended(), [(EndReason::Shutdown, 22, 8)]);
    let flow = seen.flows.last().unwrap();
    assert_eq!((flow.fwd_bytes, flow.rev_bytes), (720, 240));
    assert_eq!((flow.unrecorded_packets, flow.tcp_flags), (28, 0x1a));
    assert_eq!(flow.last_mono_ns, 2 * S);
    let last = seen.rows.last().unwrap();
    assert_eq!(last.1, 2, "packets of the row are records");
    let books = engine.books();
    assert_eq!((books.packets_in, books.packets_ended), (2, 2));
    assert_eq!((books.unrecorded_in, books.unrecorded_ended), (14, 14));
}

#[test]
fn a_flow_known_by_its_counts_alone_is_reported_and_never_judged() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.totals(&counted(S, 3, 0, 0x02), &mut seen);
    assert_eq!(seen.flows[0].state, FlowState::Start);
    assert_eq!(seen.flows[0].initiator_direction, Direction::Egress);
    // Half-open by its flags: it ends as such.
    engine.advance(S + 11 * S, &mut seen);
    assert_eq!(seen.ended(), [(EndReason::HalfOpen, 6, 0)]);
    assert_eq!(seen.rows.len(), 0);
    assert_eq!(
        seen.flows.last().unwrap().verdict.verdict,
        Verdict::NoVerdict
    );
}

#[test]
fn flags_that_the_kernel_counted_end_a_flow() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.packet(&packet(S, 1, 2, (1000, 80), 6, 0x10), &mut seen);
    engine.totals(&counted(2 * S, 1, 1, 0x11), &mut seen);
    engine.advance(8 * S, &mut seen);
    assert_eq!(seen.ended(), [(EndReason::Fin, 3, 2)]);
}

#[test]
fn established_flows_are_told_once_and_their_end_only_when_they_have_not_begun_anew() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    engine.tell_established_flows();
    let told = |engine: &mut Engine| {
        let (mut begun, mut ended) = (0, 0);
        engine.take_established(|_| begun += 1, |_| ended += 1);
        (begun, ended)
    };
    let handshake = |engine: &mut Engine, seen: &mut Seen, at: u64| {
        engine.packet(&packet(at, 1, 2, (1000, 80), 6, 0x02), seen);
        engine.packet(&packet(at + 1, 2, 1, (80, 1000), 6, 0x12), seen);
        engine.packet(&packet(at + 2, 1, 2, (1000, 80), 6, 0x10), seen);
    };
    engine.packet(&packet(S, 9, 2, (1, 80), 6, 0x02), &mut seen);
    assert_eq!(told(&mut engine), (0, 0), "half-open");
    handshake(&mut engine, &mut seen, S);
    engine.packet(&packet(S + 3, 1, 2, (1000, 80), 6, 0x18), &mut seen);
    assert_eq!(told(&mut engine), (1, 0));
    // Reset and opened again before anyone asked.
    engine.packet(&packet(S + 4, 1, 2, (1000, 80), 6, 0x04), &mut seen);
    handshake(&mut engine, &mut seen, S + 5);
    assert_eq!(told(&mut engine), (1, 0));
    engine.finish(&mut seen);
    assert_eq!(told(&mut engine), (0, 1));
}

/// A packet as seen on a slot, `late_ns` after the first sight of it.
fn seen_on(slot: u8, late_ns: u64, mut record: PacketRecord) -> PacketRecord {
    record.slot = slot;
    record.mono_ns += late_ns;
    record
}

/// A web connection of host 1 with host 2, then an unanswered and a refused one.
fn conversations() -> Vec<PacketRecord> {
    let mut all = Vec::new();
    let mut at = S;
    let mut push = |from, to, ports, flags, payload| {
        at += 10 * MS;
        let mut record = packet(at, from, to, ports, 6, flags);
        record.payload_bytes = payload;
        record.wire_bytes += payload;
        all.push(record);
    };
    push(1, 2, (5000, 80), 0x02, 0);
    push(2, 1, (80, 5000), 0x12, 0);
    for _ in 0..20 {
        push(1, 2, (5000, 80), 0x18, 100);
        push(2, 1, (80, 5000), 0x18, 900);
    }
    push(1, 2, (5000, 80), 0x11, 0);
    push(2, 1, (80, 5000), 0x11, 0);
    push(1, 2, (5001, 81), 0x02, 0);
    push(1, 2, (5002, 82), 0x02, 0);
    push(2, 1, (82, 5002), 0x14, 0);
    all
}

/// The row of the first packet of a new flow between the same hosts, on slot 0, after packets.
fn row_after(packets: &[PacketRecord]) -> Vec<f32> {
    row_after_with(packets.iter().map(|record| (*record, Extras::NONE)))
}

fn row_after_with(packets: impl Iterator<Item = (PacketRecord, Extras)>) -> Vec<f32> {
    let (mut engine, mut seen) = (engine(), Seen::default());
    let packets: Vec<_> = packets.collect();
    for (record, extras) in &packets {
        engine.packet_with(record, extras, &mut seen);
    }
    let at = packets.last().unwrap().0.mono_ns.max(2 * S) + 20 * MS;
    engine.packet(&packet(at, 1, 2, (6000, 80), 6, 0x02), &mut seen);
    engine.finish(&mut seen);
    let books = engine.books();
    assert_eq!(books.packets_in, packets.len() as u64 + 1);
    assert_eq!(books.packets_in, books.packets_ended);
    let flow_id = seen.packets.last().unwrap().flow_id;
    let row = seen.rows.iter().find(|row| row.0 == flow_id);
    row.unwrap().2.clone()
}

fn assert_same_row(got: &[f32], expected: &[f32]) {
    for ((spec, got), expected) in FEATURE_SPECS.iter().zip(got).zip(expected) {
        let difference = (got - expected).abs();
        assert!(
            difference <= 1e-3 * expected.abs().max(1.0),
            "{}: {got} and not {expected}",
            spec.name
        );
    }
}

#[test]
fn packets_that_cross_two_interfaces_count_once_for_their_hosts() {
    let once = conversations();
    let expected = row_after(&once);
    // Host 1 lies behind slot 0, host 2 behind slot 1: each way is seen first where it comes in.
    let twice: Vec<_> = once
        .iter()
        .flat_map(|record| {
            let comes_in = u8::from(record.src_port < 1000);
            [
                seen_on(comes_in, 0, *record),
                seen_on(1 - comes_in, 2_000, *record),
            ]
        })
        .collect();
    assert_same_row(&row_after(&twice), &expected);
    // A third interface changes nothing either.
    let thrice: Vec<_> = twice
        .iter()
        .flat_map(|record| [*record, seen_on(9, 500, *record)])
        .collect();
    let mut in_order = thrice;
    in_order.sort_by_key(|record| record.mono_ns);
    assert_same_row(&row_after(&in_order), &expected);
    // It matters: counted twice the hosts would look twice as busy.
    let doubled: Vec<_> = once.iter().flat_map(|record| [*record; 2]).collect();
    let at = |name| FEATURE_SPECS.iter().position(|spec| spec.name == name);
    let packets = at("src_packets_log2").unwrap();
    assert!(row_after(&doubled)[packets] > expected[packets] + 0.5);
}

#[test]
fn two_interfaces_with_one_direction_each_count_both() {
    let once = conversations();
    let split: Vec<_> = once
        .iter()
        .map(|record| seen_on(u8::from(record.src_port < 1000), 0, *record))
        .collect();
    let (got, expected) = (row_after(&split), row_after(&once));
    for (index, spec) in FEATURE_SPECS.iter().enumerate() {
        // What takes both directions of one flow is not to be had: who refused, and the end.
        let whole = ["refused", "ended", "failed"];
        if whole.iter().any(|part| spec.name.contains(part)) {
            continue;
        }
        let difference = (got[index] - expected[index]).abs();
        assert!(
            difference <= 1e-3 * expected[index].abs().max(1.0),
            "{}: {} and not {}",
            spec.name,
            got[index],
            expected[index]
        );
    }
}

#[test]
fn a_report_names_the_other_interfaces_of_a_conversation() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    for slot in [0, 3] {
        let record = packet(S, 1, 2, (5000, 53), 17, 0);
        engine.packet(&seen_on(slot, u64::from(slot), record), &mut seen);
    }
    engine.packet(&packet(S + MS, 1, 2, (5001, 53), 17, 0), &mut seen);
    engine.finish(&mut seen);
    let ended = seen
        .flows
        .iter()
        .filter(|flow| matches!(flow.state, FlowState::End(_)));
    let mut paths: Vec<_> = ended
        .map(|flow| (flow.ends.src_port, flow.ends.slot, flow.also_seen_on))
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, [(5000, 0, 8), (5000, 3, 1), (5001, 0, 0)]);
    assert!(engine.conversations.is_empty());
}

#[test]
fn where_one_interface_falls_silent_the_other_goes_on_counting() {
    let both = |at, slots: &[u8]| -> Vec<PacketRecord> {
        let record = packet(at, 1, 2, (5000, 53), 17, 0);
        slots.iter().map(|&slot| seen_on(slot, 0, record)).collect()
    };
    let sent = |records: &[PacketRecord]| {
        let row = row_after(records);
        let at = FEATURE_SPECS
            .iter()
            .position(|spec| spec.name == "src_packets_log2");
        row[at.unwrap()]
    };
    // Slot 0 saw it first and is silent from the third second on; its flow ends 30 s later.
    let mut crossing = Vec::new();
    let mut alone = Vec::new();
    for second in 1..60 {
        let slots: &[u8] = if second < 3 { &[0, 1] } else { &[1] };
        crossing.extend(both(second * S, slots));
        alone.extend(both(second * S, &[0]));
    }
    let (got, expected) = (sent(&crossing), sent(&alone));
    assert!(
        expected > 3.0 && (got - expected).abs() < 0.2,
        "{got} {expected}"
    );
}

#[test]
fn a_flood_of_invented_sources_takes_no_established_flows_place_and_ages_in_time() {
    const FLOWS_MAX: usize = 512;
    const SOURCES: u32 = 50_000;
    let settings = Settings {
        flows_max: FLOWS_MAX,
        hosts_max: 1_024,
        ..Settings::default()
    };
    let (mut engine, mut seen) = (Engine::new(settings, None), Seen::default());
    // A conversation that says nothing more while the flood goes on.
    engine.packet(&packet(S, 1, 2, (1000, 80), 6, 0x02), &mut seen);
    engine.packet(&packet(S, 2, 1, (80, 1000), 6, 0x12), &mut seen);
    engine.packet(&packet(S, 1, 2, (1000, 80), 6, 0x10), &mut seen);
    for source in 0..SOURCES {
        let mut syn = packet(S + u64::from(source), 9, 2, (7, 80), 6, 0x02);
        syn.src[4..8].copy_from_slice(&source.to_be_bytes());
        engine.packet(&syn, &mut seen);
        assert!(engine.flows_live() <= FLOWS_MAX);
    }
    let evicted = u64::from(SOURCES) + 1 - FLOWS_MAX as u64;
    assert_eq!(engine.books().flows_evicted, evicted);
    engine.advance(S + 11 * S, &mut seen);
    assert_eq!(engine.flows_live(), 1, "half-open flows are gone");
    engine.packet(&packet(20 * S, 1, 2, (1000, 80), 6, 0x18), &mut seen);
    engine.finish(&mut seen);
    let last = seen.flows.last().unwrap();
    assert_eq!((last.fwd_packets, last.rev_packets), (3, 1));
    assert_eq!(last.first_mono_ns, S);
}

/// With segmentation offload a frame is many packets. Its flow must not look another for it.
#[test]
fn a_flow_looks_the_same_with_offloads_and_without() {
    // Names of what rests on the time between segments, which offloads take away.
    const OF_TIME: [&str; 3] = ["gap", "duration", "per_s"];
    const SEGMENT_BYTES: u32 = 1448;
    let rows = |offload: bool| {
        let (mut engine, mut seen) = (engine(), Seen::default());
        engine.packet(&packet(S, 1, 2, (5000, 80), 6, 0x02), &mut seen);
        engine.packet(&packet(S + MS, 2, 1, (80, 5000), 6, 0x12), &mut seen);
        engine.packet(&packet(S + 2 * MS, 1, 2, (5000, 80), 6, 0x10), &mut seen);
        for burst in 0..8 {
            let at = S + (3 + burst) * MS;
            let segments = 5;
            let sent = PacketRecord {
                segments: if offload { segments } else { 1 },
                payload_bytes: SEGMENT_BYTES * if offload { u32::from(segments) } else { 1 },
                wire_bytes: (SEGMENT_BYTES + 66) * if offload { u32::from(segments) } else { 1 },
                ..packet(at, 2, 1, (80, 5000), 6, 0x10)
            };
            for _ in 0..if offload { 1 } else { segments } {
                engine.packet(&sent, &mut seen);
            }
        }
        engine.finish(&mut seen);
        seen
    };
    let (with, without) = (rows(true), rows(false));
    assert_eq!(with.ended(), without.ended());
    let last = |seen: &Seen| seen.rows.len() - 1;
    assert_eq!(with.rows[last(&with)].1, 43);
    for spec in &FEATURE_SPECS {
        if !OF_TIME.iter().any(|part| spec.name.contains(part)) {
            assert_eq!(
                with.feature(last(&with), spec.name).to_bits(),
                without.feature(last(&without), spec.name).to_bits(),
                "{}",
                spec.name
            );
        }
    }
    // Judged at points of the same scale, though not at each of them.
    let points: Vec<u64> = with.rows.iter().map(|row| row.1).collect();
    assert_eq!(points, [1, 2, 3, 8, 13, 23, 38, 43]);
}

/// The clock must not end a conversation that goes on: whoever answers next would be its initiator.
#[test]
fn a_flow_past_its_active_time_out_keeps_its_initiator() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    let settings = Settings::default();
    let step = settings.datagram_idle_timeout_ns - S;
    let mut at = S;
    while at < S + settings.active_timeout_ns {
        engine.packet(&packet(at, 1, 2, (5000, 9999), 17, 0), &mut seen);
        at += step;
    }
    engine.advance(at - S, &mut seen);
    engine.packet(&packet(at, 2, 1, (9999, 5000), 17, 0), &mut seen);
    engine.finish(&mut seen);
    let ended = seen.ended();
    assert_eq!(ended.len(), 2);
    assert_eq!(ended[0].0, EndReason::ActiveTimeout);
    assert_eq!(ended[1], (EndReason::Shutdown, 0, 1));
    assert_eq!(seen.flows.last().unwrap().ends.src_port, 5000);
}

/// A long conversation is cut into flows of the active time-out; to its hosts it is one.
#[test]
fn a_flow_that_goes_on_is_no_new_flow_of_its_hosts() {
    let (mut engine, mut seen) = (engine(), Seen::default());
    let settings = Settings::default();
    let step = 10 * S;
    let last = S + settings.active_timeout_ns + 2 * step;
    let mut at = S;
    while at <= last {
        engine.packet(&packet(at, 1, 2, (5000, 9999), 17, 0), &mut seen);
        engine.packet(&packet(at + MS, 2, 1, (9999, 5000), 17, 0), &mut seen);
        at += step;
    }
    engine.finish(&mut seen);
    assert_eq!(seen.ended()[0].0, EndReason::ActiveTimeout);
    let row = seen.rows.len() - 1;
    assert!(seen.feature(row, "src_flows_log2") < 0.1);
    assert!(seen.feature(row, "pair_packets_log2") > 1.0);
    for share in [
        "src_unanswered_share",
        "src_barren_share",
        "dst_barren_share",
    ] {
        assert!(seen.feature(row, share) < 1e-3, "{share}");
    }
}

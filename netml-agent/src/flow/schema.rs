//! The feature schema: names, order, formulas and code, and the digest that binds a model to them.
//!
//! A feature is one entry of [`FEATURE_SPECS`]: what is documented is what is computed. Addresses,
//! raw ports, times, TTL, window and payload are no features (they name the lab, not the
//! behaviour); a port takes part as a class of four only. "Decayed" counts halve in ten seconds.

use sha2::{Digest, Sha256};

use super::decay::{log_bin, share};
use super::features::Moment;
use super::key::is_multicast;
use super::state::tcp_flag;

/// Number of features of a row.
pub const FEATURES: usize = 81;

/// Group a feature belongs to, for ablations and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Of the packet at the evaluation point.
    Packet,
    /// Of the flow so far.
    Flow,
    /// Of the initiator's recent behaviour.
    SourceHost,
    /// Of what the responder recently received and did.
    DestinationHost,
    /// Of the two together.
    Pair,
}

/// One feature.
#[derive(Clone, Copy, Debug)]
pub struct FeatureSpec {
    /// Stable name with its unit.
    pub name: &'static str,
    /// Family.
    pub family: Family,
    /// How it is computed; part of the digest.
    pub formula: &'static str,
    /// True where the feature rests on a port class.
    pub port_based: bool,
    /// Computes it.
    pub compute: fn(&Moment<'_>) -> f32,
}

const fn spec(
    name: &'static str,
    family: Family,
    formula: &'static str,
    compute: fn(&Moment<'_>) -> f32,
) -> FeatureSpec {
    FeatureSpec {
        name,
        family,
        formula,
        port_based: false,
        compute,
    }
}

/// Parameters that no formula names and that change what features mean.
const PARAMETERS: &str = "packets are those of the wire, segments of a frame being equal and without gaps; half-life 10 s; sketch 256 bits, 15 s; slow half-life 300 s, slow sketch 128 bits, 300 s; recent weight 1/8; log bins of 1/16; multicast responders count as no flow of a host, nor does what goes on after an active time-out";

/// All features, in the order of a row.
#[rustfmt::skip]
pub const FEATURE_SPECS: [FeatureSpec; FEATURES] = [
    spec("packet_tcp", Family::Packet, "1 for TCP, else 0", |m| flag(proto(m) == 6)),
    spec("packet_udp", Family::Packet, "1 for UDP, else 0", |m| flag(proto(m) == 17)),
    spec("packet_icmp", Family::Packet, "1 for ICMP or ICMPv6, else 0", |m| flag(matches!(proto(m), 1 | 58))),
    spec("packet_forward", Family::Packet, "1 when the latest packet is the initiator's, else 0", |m| flag(m.flow.last_forward)),
    spec("packet_payload_bytes_log2", Family::Packet, "log2(1 + payload bytes) of the latest packet", |m| log_bin(m.flow.last_payload_bytes as f32)),
    spec("packet_syn", Family::Packet, "1 when the latest packet has SYN", |m| flag(m.flow.last_tcp_flags & tcp_flag::SYN != 0)),
    spec("packet_rst", Family::Packet, "1 when the latest packet has RST", |m| flag(m.flow.last_tcp_flags & tcp_flag::RST != 0)),
    spec("packet_fin", Family::Packet, "1 when the latest packet has FIN", |m| flag(m.flow.last_tcp_flags & tcp_flag::FIN != 0)),
    spec("packet_psh", Family::Packet, "1 when the latest packet has PSH", |m| flag(m.flow.last_tcp_flags & tcp_flag::PSH != 0)),
    spec("flow_packets_log2", Family::Flow, "log2(1 + packets both ways)", |m| log_bin(m.flow.packets as f32)),
    spec("flow_rev_packet_share", Family::Flow, "packets of the responder / packets", |m| share(m.flow.rev.payload.count as f32, m.flow.packets as f32)),
    spec("flow_fwd_payload_mean_log2", Family::Flow, "log2(1 + mean payload bytes of the initiator's packets)", |m| log_bin(m.flow.fwd.payload.mean())),
    spec("flow_rev_payload_mean_log2", Family::Flow, "log2(1 + mean payload bytes of the responder's packets)", |m| log_bin(m.flow.rev.payload.mean())),
    spec("flow_fwd_payload_cv", Family::Flow, "deviation / mean of the initiator's payload bytes, at most 10, -1 below two packets", |m| m.flow.fwd.payload.variation()),
    spec("flow_rev_payload_cv", Family::Flow, "deviation / mean of the responder's payload bytes, at most 10, -1 below two packets", |m| m.flow.rev.payload.variation()),
    spec("flow_payload_packet_share", Family::Flow, "packets with payload / packets", |m| share(m.flow.payload_packets as f32, m.flow.packets as f32)),
    spec("flow_payload_balance", Family::Flow, "(payload forward - reverse) / (forward + reverse), 0 without payload", |m| balance(m.flow.fwd.payload_bytes as f32, m.flow.rev.payload_bytes as f32)),
    spec("flow_fwd_payload_bytes_log2", Family::Flow, "log2(1 + payload bytes of the initiator)", |m| log_bin(m.flow.fwd.payload_bytes as f32)),
    spec("flow_rev_payload_bytes_log2", Family::Flow, "log2(1 + payload bytes of the responder)", |m| log_bin(m.flow.rev.payload_bytes as f32)),
    spec("flow_fwd_first_payload_log2", Family::Flow, "log2(1 + payload bytes of the initiator's first packet with payload)", |m| log_bin(m.flow.fwd.first_payload_bytes as f32)),
    spec("flow_rev_first_payload_log2", Family::Flow, "log2(1 + payload bytes of the responder's first packet with payload)", |m| log_bin(m.flow.rev.first_payload_bytes as f32)),
    spec("flow_syn_share", Family::Flow, "SYN without ACK / packets", |m| share(m.flow.syns as f32, m.flow.packets as f32)),
    spec("flow_rst_share", Family::Flow, "RST / packets", |m| share(m.flow.rsts as f32, m.flow.packets as f32)),
    spec("flow_ack_share", Family::Flow, "packets with ACK / packets", |m| share(m.flow.acks as f32, m.flow.packets as f32)),
    spec("flow_psh_share", Family::Flow, "packets with PSH / packets", |m| share(m.flow.pushes as f32, m.flow.packets as f32)),
    spec("flow_fragment_share", Family::Flow, "fragments / packets", |m| share(m.flow.fragments as f32, m.flow.packets as f32)),
    spec("flow_handshake", Family::Flow, "0 not seen, 1 SYN, 2 SYN-ACK, 3 established", |m| f32::from(m.flow.handshake as u8)),
    spec("flow_refused", Family::Flow, "1 when the responder sent RST before any payload", |m| flag(m.flow.refused)),
    spec("flow_duration_ms_log2", Family::Flow, "log2(1 + milliseconds from first to latest packet)", |m| log_bin(m.seconds() * 1e3)),
    spec("flow_gap_mean_ms_log2", Family::Flow, "log2(1 + mean gap between packets in tenths of a millisecond)", |m| log_bin(m.flow.gaps_ms.mean() * 10.0)),
    spec("flow_gap_cv", Family::Flow, "deviation / mean of the gaps, at most 10, -1 below two gaps", |m| m.flow.gaps_ms.variation()),
    spec("flow_gap_last_ms_log2", Family::Flow, "log2(1 + latest gap in tenths of a millisecond)", |m| log_bin(m.flow.gap_last_ms * 10.0)),
    spec("flow_gap_max_ms_log2", Family::Flow, "log2(1 + longest gap in tenths of a millisecond)", |m| log_bin(m.flow.gap_max_ms * 10.0)),
    spec("flow_packets_per_s_log2", Family::Flow, "log2(1 + packets / seconds)", |m| log_bin(m.flow.packets as f32 / m.seconds())),
    spec("flow_bytes_per_s_log2", Family::Flow, "log2(1 + wire bytes / seconds)", |m| log_bin((m.flow.fwd.bytes + m.flow.rev.bytes) as f32 / m.seconds())),
    spec("flow_turn_share", Family::Flow, "changes of direction / packets", |m| share(m.flow.turns as f32, m.flow.packets as f32)),
    FeatureSpec { port_based: true, ..spec("flow_dst_port_class", Family::Flow, "responder port: 0 none, 1 below 1024, 2 below 32768, 3 above", port_class) },
    spec("flow_dst_multicast", Family::Flow, "1 when the responder is a multicast or the limited broadcast address", |m| flag(is_multicast(&m.flow.ends().dst))),
    spec("src_packets_log2", Family::SourceHost, "log2(1 + decayed packets sent as initiator)", |m| log_bin(m.src.sent_packets)),
    spec("src_flows_log2", Family::SourceHost, "log2(1 + decayed flows begun)", |m| log_bin(m.src.flows)),
    spec("src_flows_per_packet", Family::SourceHost, "decayed flows begun / packets sent", |m| share(m.src.flows, m.src.sent_packets)),
    spec("src_unanswered_share", Family::SourceHost, "other flows begun without answer / (other flows begun + 2)", |m| m.unanswered_others(m.src.flows, m.src.answered)),
    spec("src_refused_share", Family::SourceHost, "other flows begun and refused / (other flows begun + 2)", |m| m.refused_others(m.src.flows, m.src.refused)),
    spec("src_failed_log2", Family::SourceHost, "log2(1 + decayed flows begun that were refused or not answered)", |m| log_bin((m.src.flows - m.src.answered).max(0.0) + m.src.refused)),
    spec("src_barren_share", Family::SourceHost, "other flows begun that brought no payload back / (other flows begun + 2)", |m| m.barren_share_others(m.src.flows, m.src.fed)),
    spec("src_barren_log2", Family::SourceHost, "log2(1 + decayed other flows begun that brought no payload back)", |m| log_bin(m.barren_others(m.src.flows, m.src.fed))),
    spec("src_destinations_log2", Family::SourceHost, "log2(1 + distinct responders, sketch of 15 to 30 s)", |m| log_bin(m.src.destinations.count(m.now_ns))),
    spec("src_ports_log2", Family::SourceHost, "log2(1 + distinct responder ports, sketch of 15 to 30 s)", |m| log_bin(m.src.ports.count(m.now_ns))),
    spec("dst_packets_log2", Family::DestinationHost, "log2(1 + decayed packets received as responder)", |m| log_bin(m.dst.received_packets)),
    spec("dst_flows_log2", Family::DestinationHost, "log2(1 + decayed flows begun with it)", |m| log_bin(m.dst.asked_flows)),
    spec("dst_flows_per_packet", Family::DestinationHost, "decayed flows begun with it / packets received", |m| share(m.dst.asked_flows, m.dst.received_packets)),
    spec("dst_unanswered_share", Family::DestinationHost, "other flows begun with it without answer / (others + 2)", |m| m.unanswered_others(m.dst.asked_flows, m.dst.asked_answered)),
    spec("dst_refused_share", Family::DestinationHost, "other flows it refused / (others + 2)", |m| m.refused_others(m.dst.asked_flows, m.dst.asked_refused)),
    spec("dst_barren_share", Family::DestinationHost, "other flows begun with it to which it sent no payload / (others + 2)", |m| m.barren_share_others(m.dst.asked_flows, m.dst.asked_fed)),
    spec("dst_barren_log2", Family::DestinationHost, "log2(1 + decayed other flows begun with it to which it sent no payload)", |m| log_bin(m.barren_others(m.dst.asked_flows, m.dst.asked_fed))),
    spec("dst_reply_share", Family::DestinationHost, "packets sent as responder / packets received and sent", |m| share(m.dst.replied_packets, m.dst.replied_packets + m.dst.received_packets)),
    spec("src_slow_failed_share", Family::SourceHost, "other TCP connections begun that were refused or not answered / (others + 2), half-life 300 s", |m| m.failed_others(&m.src.tries, is_tcp(m))),
    spec("src_slow_destinations_log2", Family::SourceHost, "log2(1 + distinct responders of TCP, sketch of 5 to 10 minutes)", |m| log_bin(m.src.slow_destinations.count(m.now_ns))),
    spec("src_slow_ports_log2", Family::SourceHost, "log2(1 + distinct responder ports of TCP, sketch of 5 to 10 minutes)", |m| log_bin(m.src.slow_ports.count(m.now_ns))),
    spec("dst_waiting_log2", Family::DestinationHost, "log2(1 + other connections with it that are open now and on which it has sent no payload)", |m| log_bin(m.waiting_others(m.dst.waiting))),
    spec("dst_sources_log2", Family::DestinationHost, "log2(1 + distinct initiators, sketch of 15 to 30 s)", |m| log_bin(m.dst.sources.count(m.now_ns))),
    spec("pair_packets_log2", Family::Pair, "log2(1 + decayed packets both ways)", |m| log_bin(m.pair.packets)),
    spec("pair_flows_log2", Family::Pair, "log2(1 + decayed flows begun)", |m| log_bin(m.pair.flows)),
    spec("pair_unanswered_share", Family::Pair, "other flows without answer / (others + 2)", |m| m.unanswered_others(m.pair.flows, m.pair.answered)),
    spec("pair_refused_share", Family::Pair, "other flows refused / (others + 2)", |m| m.refused_others(m.pair.flows, m.pair.refused)),
    spec("pair_barren_share", Family::Pair, "other flows that brought no payload back / (others + 2)", |m| m.barren_share_others(m.pair.flows, m.pair.fed)),
    spec("pair_barren_log2", Family::Pair, "log2(1 + decayed other flows that brought no payload back)", |m| log_bin(m.barren_others(m.pair.flows, m.pair.fed))),
    spec("pair_ports_log2", Family::Pair, "log2(1 + distinct responder ports, sketch of 15 to 30 s)", |m| log_bin(m.pair.ports.count(m.now_ns))),
    spec("pair_byte_balance", Family::Pair, "(bytes sent - received) / (sent + received), decayed", |m| balance(m.pair.sent_bytes, m.pair.received_bytes)),
    spec("pair_start_gap_mean_s_log2", Family::Pair, "log2(1 + mean gap between flow starts in tenths of a second), the last about eight", |m| log_bin(m.pair.start_gaps_s.mean() * 10.0)),
    spec("pair_start_gap_cv", Family::Pair, "deviation / mean of these gaps, at most 10, -1 below three", |m| m.pair.start_gaps_s.variation()),
    spec("pair_ended_bytes_log2", Family::Pair, "log2(1 + mean payload bytes of ended flows), the last about eight", |m| log_bin(m.pair.ended_bytes.mean())),
    spec("pair_ended_bytes_cv", Family::Pair, "deviation / mean of the payload bytes of ended flows, at most 10, -1 below three", |m| m.pair.ended_bytes.variation()),
    spec("pair_ended_s_log2", Family::Pair, "log2(1 + mean duration of ended flows in tenths of a second), the last about eight", |m| log_bin(m.pair.ended_s.mean() * 10.0)),
    spec("pair_logins_log2", Family::Pair, "log2(1 + flows begun that brought payload back, half-life 300 s)", |m| log_bin(m.pair.logins)),
    spec("pair_dns_questions_log2", Family::Pair, "log2(1 + DNS questions but for reverse look-ups, half-life 300 s)", |m| log_bin(m.pair.dns_questions)),
    spec("pair_dns_name_bytes", Family::Pair, "mean length of the names of these questions in bytes, the last about eight", |m| m.pair.dns_name_bytes.mean().round()),
    spec("pair_slow_failed_share", Family::Pair, "other flows that were refused or not answered / (others + 2), half-life 300 s", |m| m.failed_others(&m.pair.tries, true)),
    spec("pair_slow_ports_log2", Family::Pair, "log2(1 + distinct responder ports, sketch of 5 to 10 minutes)", |m| log_bin(m.pair.slow_ports.count(m.now_ns))),
    spec("pair_waiting_log2", Family::Pair, "log2(1 + other connections that are open now and brought no payload back)", |m| log_bin(m.waiting_others(m.pair.waiting))),
    spec("pair_dns_rare_share", Family::Pair, "share of these that ask for a rare type (NULL, KEY, private use), the last about eight", |m| m.pair.dns_rare_types.mean()),
];

/// SHA-256 over names, order, formulas and parameters, in lower-case hex.
#[must_use]
pub fn digest() -> String {
    let mut hasher = Sha256::new();
    hasher.update(PARAMETERS);
    for spec in &FEATURE_SPECS {
        hasher.update(spec.name);
        hasher.update([0]);
        hasher.update(spec.formula);
        hasher.update([0]);
    }
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn flag(set: bool) -> f32 {
    f32::from(u8::from(set))
}

fn proto(m: &Moment<'_>) -> u8 {
    m.flow.ends().ip_protocol
}

fn is_tcp(m: &Moment<'_>) -> bool {
    proto(m) == 6
}

fn balance(forward: f32, reverse: f32) -> f32 {
    let sum = forward + reverse;
    if sum > 0.0 {
        (forward - reverse) / sum
    } else {
        0.0
    }
}

fn port_class(m: &Moment<'_>) -> f32 {
    let ends = m.flow.ends();
    match (ends.ip_protocol, ends.dst_port) {
        (6 | 17, 0..1024) => 1.0,
        (6 | 17, 1024..32768) => 2.0,
        (6 | 17, _) => 3.0,
        _ => 0.0,
    }
}

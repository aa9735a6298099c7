//! Answers as JSON: stored rows to the shapes of `docs/api.md`.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::record::{
    Baseline, Direction, DnsNumbers, FlowState, Health, IcmpError, Interface, Reason, RuleFinding,
    Tunnel, Verdict,
};
use crate::store::{EventRow, FlowRow, PacketRow, TrafficPoint, protocol_name};

/// A list and where it goes on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// `before` of the next page; null at the end.
    pub next: Option<String>,
}

/// A packet sample.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PacketItem {
    /// Its place in the order of receipt; a `before`.
    pub id: String,
    /// When it passed.
    pub unix_ms: i64,
    /// The same in nanoseconds, which JSON numbers do not hold.
    pub unix_ns: String,
    /// Sensor that saw it.
    pub sensor: String,
    /// Interface it passed.
    pub interface: String,
    /// Source address.
    pub src_ip: String,
    /// Destination address.
    pub dst_ip: String,
    /// Source port; ICMP: type.
    pub src_port: u16,
    /// Destination port; ICMP: code.
    pub dst_port: u16,
    /// `tcp`, `udp`, `icmp`, `icmpv6` or a number.
    pub protocol: String,
    /// Bytes on the wire.
    pub bytes: u32,
    /// Wire packets in it.
    pub segments: u32,
    /// Such as `SYN,ACK`.
    pub tcp_flags: String,
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// `NO_VERDICT`, `NORMAL`, `UNSURE` or `SUSPICIOUS`.
    pub verdict: &'static str,
    /// Attack kind; empty: none.
    pub kind: String,
    /// Calibrated probability; null without a verdict.
    pub probability: Option<f64>,
    /// Its flow.
    pub flow_id: String,
}

impl From<&PacketRow> for PacketItem {
    fn from(row: &PacketRow) -> Self {
        let p = &row.packet;
        Self {
            id: row.id.to_string(),
            unix_ms: p.unix_ns.div_euclid(1_000_000),
            unix_ns: p.unix_ns.to_string(),
            sensor: row.sensor.clone(),
            interface: p.interface.clone(),
            src_ip: p.src_ip.to_string(),
            dst_ip: p.dst_ip.to_string(),
            src_port: p.src_port,
            dst_port: p.dst_port,
            protocol: protocol_name(p.ip_protocol),
            bytes: p.wire_bytes,
            segments: p.segments,
            tcp_flags: tcp_flags(p.tcp_flags),
            direction: p.direction.name(),
            verdict: p.verdict.name(),
            kind: p.kind.clone(),
            probability: probability(p.verdict, p.probability),
            flow_id: row.flow.to_string(),
        }
    }
}

/// A flow as it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FlowItem {
    /// Its id over all sensors.
    pub flow_id: String,
    /// Sensor that saw it.
    pub sensor: String,
    /// Interface.
    pub interface: String,
    /// `start`, `update` or `end`.
    pub state: &'static str,
    /// Why it ended; null before.
    pub end_reason: Option<String>,
    /// First packet.
    pub first_unix_ms: i64,
    /// Last packet.
    pub last_unix_ms: i64,
    /// Initiator's address.
    pub src_ip: String,
    /// Responder's address.
    pub dst_ip: String,
    /// Initiator's port; ICMP: type.
    pub src_port: u16,
    /// Responder's port; ICMP: code.
    pub dst_port: u16,
    /// `tcp`, `udp`, `icmp`, `icmpv6` or a number.
    pub protocol: String,
    /// Wire packets from the initiator.
    pub fwd_packets: u64,
    /// Wire packets to the initiator.
    pub rev_packets: u64,
    /// Wire bytes from the initiator.
    pub fwd_bytes: u64,
    /// Wire bytes to the initiator.
    pub rev_bytes: u64,
    /// All flags seen.
    pub tcp_flags: String,
    /// `NO_VERDICT`, `NORMAL`, `UNSURE` or `SUSPICIOUS`.
    pub verdict: &'static str,
    /// Attack kind; empty: none.
    pub kind: String,
    /// Calibrated probability; null without a verdict.
    pub probability: Option<f64>,
    /// Combined score, uncalibrated; null without a verdict.
    pub score: Option<f64>,
    /// What a rule found; null: nothing.
    pub rule: Option<RuleFinding>,
    /// The forest's own answer.
    pub forest: &'static str,
    /// The forest's own score, which the reasons sum to; null without a verdict.
    pub forest_score: Option<f64>,
    /// What the hosts' own past says, without weight in the verdict; null: not told.
    pub baseline: Option<Baseline>,
    /// What drove the verdict.
    pub reasons: Vec<Reason>,
    /// Model that judged; null: none.
    pub model_id: Option<String>,
    /// Packets the sensor lost while the flow lived.
    pub lost_meanwhile: u64,
    /// Of its packets those the sensor only counted: no feature of single packets saw them.
    pub unrecorded_packets: u64,
    /// Expected false alarms a day at this score; null where not known.
    pub expected_false_alarms_per_day: Option<f64>,
    /// Direction of the initiator's packets; null where not known.
    pub initiator_direction: Option<&'static str>,
    /// Other interfaces of the sensor the same addresses, ports and protocol were seen on meanwhile.
    pub also_seen_on: Vec<String>,
    /// The tunnel that carries it; null: none.
    pub tunnel: Option<Tunnel>,
    /// ICMP errors that quote one of its packets; they are packets of flows of their own.
    pub icmp_errors: u32,
    /// The latest of them; null: none.
    pub icmp_last: Option<IcmpError>,
    /// Of its DNS messages; null: none seen.
    pub dns: Option<DnsNumbers>,
}

impl From<&FlowRow> for FlowItem {
    fn from(row: &FlowRow) -> Self {
        let f = &row.flow;
        let judged = f.verdict != Verdict::NoVerdict;
        Self {
            flow_id: row.key().to_string(),
            sensor: row.sensor.clone(),
            interface: f.interface.clone(),
            state: f.state.name(),
            end_reason: (f.state == FlowState::End).then(|| f.end_reason.clone()),
            first_unix_ms: f.first_unix_ns.div_euclid(1_000_000),
            last_unix_ms: f.last_unix_ns.div_euclid(1_000_000),
            src_ip: f.src_ip.to_string(),
            dst_ip: f.dst_ip.to_string(),
            src_port: f.src_port,
            dst_port: f.dst_port,
            protocol: protocol_name(f.ip_protocol),
            fwd_packets: f.fwd_packets,
            rev_packets: f.rev_packets,
            fwd_bytes: f.fwd_bytes,
            rev_bytes: f.rev_bytes,
            tcp_flags: tcp_flags(f.tcp_flags),
            verdict: f.verdict.name(),
            kind: f.kind.clone(),
            probability: probability(f.verdict, f.probability),
            score: judged.then_some(f.score),
            rule: f.rule.clone(),
            forest: f.forest.name(),
            forest_score: judged.then_some(f.forest_score),
            baseline: f.baseline.clone(),
            reasons: f.reasons.clone(),
            model_id: (!f.model_id.is_empty()).then(|| f.model_id.clone()),
            lost_meanwhile: f.lost_meanwhile,
            unrecorded_packets: f.unrecorded_packets,
            expected_false_alarms_per_day: f.expected_false_alarms_per_day,
            initiator_direction: f.initiator_direction.map(Direction::name),
            also_seen_on: f.also_seen_on.clone(),
            tunnel: f.tunnel.clone(),
            icmp_errors: f.icmp_errors,
            icmp_last: f.icmp_last,
            dns: f.dns,
        }
    }
}

/// An event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventItem {
    /// Its place in the order of receipt.
    pub id: String,
    /// When.
    pub unix_ms: i64,
    /// Whom it is about.
    pub sensor: String,
    /// What, from a small set of names.
    pub kind: String,
    /// `info`, `warning` or `alarm`.
    pub severity: String,
    /// One line for people.
    pub message: String,
    /// Details.
    pub fields: BTreeMap<String, String>,
}

impl From<&EventRow> for EventItem {
    fn from(row: &EventRow) -> Self {
        Self {
            id: row.id.to_string(),
            unix_ms: row.event.unix_ns.div_euclid(1_000_000),
            sensor: row.sensor.clone(),
            kind: row.event.kind.clone(),
            severity: row.event.severity.clone(),
            message: row.event.message.clone(),
            fields: row.event.fields.clone(),
        }
    }
}

/// One step of the traffic of an interface, or of all together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TrafficItem {
    /// Start of the step.
    pub unix_ms: i64,
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Received.
    pub rx_packets: u64,
    /// Sent.
    pub tx_packets: u64,
    /// Packets missing from the analysis; frames without an IP packet inside are none.
    pub lost_packets: u64,
}

impl From<&TrafficPoint> for TrafficItem {
    fn from(point: &TrafficPoint) -> Self {
        Self {
            unix_ms: point.unix_s.saturating_mul(1_000),
            rx_bytes: point.rx_bytes,
            tx_bytes: point.tx_bytes,
            rx_packets: point.rx_packets,
            tx_packets: point.tx_packets,
            lost_packets: point.lost_packets,
        }
    }
}

/// One second of one interface, live.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LiveTrafficItem {
    /// Whose.
    pub sensor: String,
    /// Which.
    pub interface: String,
    /// What passed.
    #[serde(flatten)]
    pub traffic: TrafficItem,
}

impl From<&TrafficPoint> for LiveTrafficItem {
    fn from(point: &TrafficPoint) -> Self {
        Self {
            sensor: point.sensor.clone(),
            interface: point.interface.clone(),
            traffic: point.into(),
        }
    }
}

/// Traffic over time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Traffic {
    /// Width of a step.
    pub step_ms: i64,
    /// Steps in which something was counted, oldest first.
    pub items: Vec<TrafficItem>,
}

/// A talker, or the rest.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TalkerItem {
    /// Address, port with protocol, protocol or sensor; `other` for the rest.
    pub key: String,
    /// Both directions.
    pub bytes: u64,
    /// Both directions.
    pub packets: u64,
    /// Flows begun.
    pub flows: u64,
}

/// A sensor.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SensorItem {
    /// Its name.
    pub sensor: String,
    /// Connected now.
    pub connected: bool,
    /// `live`, `replay`, `bundled`, `lab` or `none`.
    pub source: &'static str,
    /// Version of the agent.
    pub version: String,
    /// Kernel release.
    pub kernel: String,
    /// When it was last heard.
    pub last_seen_unix_ms: i64,
    /// Model loaded; null: none.
    pub model_id: Option<String>,
    /// Digest of the feature schema.
    pub schema_digest: String,
    /// Commands it accepts.
    pub accepted_commands: Vec<String>,
    /// What it watches.
    pub interfaces: Vec<Interface>,
    /// How it fares; null until it said.
    pub health: Option<Health>,
    /// Its clock less the collector's and less the way of a report, which is some tenths of a second;
    /// null where it is away or did not report, and of a replay.
    pub clock_offset_ms: Option<i64>,
    /// Age of its latest stored report, its clock's offset taken off; null where that is not known.
    pub late_ms: Option<i64>,
    /// Frames with neither a record nor a count by flow since it attached, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Frames seen since it attached.
    pub frames: u64,
    /// Frames with a record since it attached.
    pub recorded: u64,
    /// Frames counted by flow instead of a record since it attached.
    pub mapped: u64,
}

/// Packets and bytes of one protocol class.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProtocolItem {
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `other-ip`, `arp` or `other`.
    pub protocol: String,
    /// Wire packets.
    pub packets: u64,
    /// Wire bytes.
    pub bytes: u64,
}

/// Exact totals since the sensors attached.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TotalsView {
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Received.
    pub rx_packets: u64,
    /// Sent.
    pub tx_packets: u64,
    /// Frames seen: `recorded`, `mapped` and the sum of `lost`.
    pub frames: u64,
    /// Frames with a record.
    pub recorded: u64,
    /// Frames counted by flow instead of a record.
    pub mapped: u64,
    /// Frames without one, by reason.
    pub lost: BTreeMap<String, u64>,
    /// By protocol class, most bytes first.
    pub protocols: Vec<ProtocolItem>,
    /// Flows by verdict.
    pub verdicts: BTreeMap<String, u64>,
}

/// What came in since the collector started.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BooksView {
    /// Batches whose fate is known.
    pub batches_in: u64,
    /// Messages refused as a whole.
    pub batches_refused: u64,
    /// Batches the store could not take; sensors send them again.
    pub batches_failed: u64,
    /// Records: the sum of the next three.
    pub records_in: u64,
    /// Stored.
    pub records_stored: u64,
    /// Had been stored before.
    pub records_duplicate: u64,
    /// Refused for an impossible value, or with their batch.
    pub records_refused: u64,
    /// Given up by sensors before they came here.
    pub records_gap: u64,
    /// Connections closed at once because too many were open.
    pub connections_refused: u64,
    /// Connections closed because no whole request came in time, idle ones of browsers too.
    pub connections_timed_out: u64,
    /// Connections to a port for TLS that spoke something else, or broke off before they were known.
    pub tls_failed: u64,
    /// Certificates refused at the door: of no authority here, or not known.
    pub certificates_unknown: u64,
    /// Certificates refused at the door: taken back.
    pub certificates_revoked: u64,
    /// Certificates refused at the door: too old even for renewal.
    pub certificates_expired: u64,
    /// Streams refused because no certificate good for one was shown.
    pub certificates_missing: u64,
    /// Streams refused because the name in them is not that of the certificate.
    pub names_foreign: u64,
    /// Enrolments and renewals refused.
    pub enrolments_refused: u64,
    /// Updates the live feed was too slow for.
    pub live_dropped: u64,
    /// Days that went because they were beyond the retention.
    pub days_removed: u64,
    /// Streams, counters and flows whose state left memory for want of room.
    pub state_forgotten: u64,
    /// Days whose file was found damaged and set aside.
    pub days_set_aside: u64,
    /// Stored rows left out of answers because a value in them cannot be.
    pub rows_unreadable: u64,
}

/// How the collector fares.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Status {
    /// Version of the collector.
    pub version: &'static str,
    /// When it started.
    pub started_unix_ms: i64,
    /// Its clock.
    pub now_unix_ms: i64,
    /// Where the connected sensors' packets come from.
    pub source: &'static str,
    /// Sensors connected now.
    pub sensors_connected: usize,
    /// Whether this request carried the token or the session.
    pub can_change: bool,
    /// What came in.
    pub books: BooksView,
    /// Damaged files that lie set aside in the data directory, by name.
    pub set_aside: Vec<String>,
}

/// An error, as every call answers it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorView {
    /// One line: cause and way out.
    pub error: String,
}

/// Names of the flags set, from the lowest bit on.
#[must_use]
pub fn tcp_flags(bits: u8) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = names
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits & (1 << bit) != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

/// A probability is only one where a model ran.
fn probability(verdict: Verdict, probability: f64) -> Option<f64> {
    (verdict != Verdict::NoVerdict).then_some(probability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_from_the_lowest_bit_on() {
        assert_eq!(tcp_flags(0), "");
        assert_eq!(tcp_flags(0x12), "SYN,ACK");
        assert_eq!(tcp_flags(0xff), "FIN,SYN,RST,PSH,ACK,URG,ECE,CWR");
    }

    #[test]
    fn without_a_verdict_there_is_no_probability() {
        assert_eq!(probability(Verdict::NoVerdict, 0.0), None);
        assert_eq!(probability(Verdict::Normal, 0.0), Some(0.0));
    }
}

//! Flows and packets as people and scripts read them: NDJSON and terminal lines.

use serde::Serialize;

use crate::baseline::{Opinion, UNUSUAL};
use crate::engine::{FlowReport, FlowState};
use crate::export::convert::address;
use crate::flow::beside::{DnsNumbers, IcmpError, Tunnel};
use crate::model::Model;
use crate::verdict::Verdict;

/// One ended flow as a JSON object. Names are those of the collector's API.
#[derive(Debug, Serialize)]
pub struct FlowLine<'a> {
    /// The capture it is from.
    pub capture: &'a str,
    /// Interface within the capture: its name where the file tells it, else its number.
    pub interface: String,
    /// Other interfaces of the capture the same addresses, ports and protocol were seen on meanwhile.
    pub also_seen_on: Vec<String>,
    /// Number within the capture.
    pub flow_id: u64,
    /// Initiator.
    pub src_ip: std::net::IpAddr,
    /// Responder.
    pub dst_ip: std::net::IpAddr,
    /// Initiator's port; ICMP: type.
    pub src_port: u16,
    /// Responder's port; ICMP: code.
    pub dst_port: u16,
    /// tcp, udp, icmp, icmpv6 or the number.
    pub protocol: String,
    /// Wire packets from the initiator.
    pub fwd_packets: u64,
    /// Wire packets to the initiator.
    pub rev_packets: u64,
    /// Wire bytes from the initiator.
    pub fwd_bytes: u64,
    /// Wire bytes to the initiator.
    pub rev_bytes: u64,
    /// First packet, by the capture's clock.
    pub first_unix_ns: u64,
    /// Last packet, by the capture's clock.
    pub last_unix_ns: u64,
    /// Why it ended.
    pub end_reason: &'static str,
    /// All TCP flags seen.
    pub tcp_flags: String,
    /// NO_VERDICT, NORMAL, UNSURE or SUSPICIOUS.
    pub verdict: &'static str,
    /// Most probable kind of attack, with UNSURE and SUSPICIOUS.
    pub kind: Option<&'a str>,
    /// Calibrated probability of attack; absent without a verdict.
    pub probability: Option<f32>,
    /// Uncalibrated score; absent without a verdict.
    pub score: Option<f32>,
    /// The forest's own answer; absent without a verdict.
    pub forest: Option<&'static str>,
    /// The forest's own score, which the reasons sum to; absent without a verdict.
    pub forest_score: Option<f32>,
    /// What a rule found.
    pub rule: Option<RuleLine>,
    /// What the hosts' own past says; without weight in the verdict.
    pub baseline: BaselineLine,
    /// What drove the forest's score, strongest first, then "others".
    pub reasons: Vec<ReasonLine>,
    /// The model that judged; absent without a verdict.
    pub model_id: Option<&'a str>,
    /// False alarms per host and day to expect at this score.
    pub expected_false_alarms_per_day: Option<f32>,
    /// Packets lost while the flow lived.
    pub lost_meanwhile: u64,
    /// The tunnel that carried it, if any.
    pub tunnel: Option<TunnelLine>,
    /// ICMP errors about it; packets of flows of their own.
    pub icmp_errors: u32,
    /// The latest of them, if any.
    pub icmp_last: Option<IcmpLine>,
    /// Of its DNS messages, if any.
    pub dns: Option<DnsLine>,
}

/// The tunnel that carried a flow.
#[derive(Debug, Serialize)]
pub struct TunnelLine {
    /// vxlan, geneve, gre, ipip, 6in4, 6in6 or 4in6.
    pub kind: &'static str,
    /// Network identifier or GRE key, where it has one.
    pub network_id: Option<u32>,
    /// Outer source of the initiator's packets.
    pub src_ip: std::net::IpAddr,
    /// Outer destination of the initiator's packets.
    pub dst_ip: std::net::IpAddr,
    /// There is a tunnel inside, which was not opened.
    pub deeper: bool,
}

/// An ICMP error; of ICMPv6 where the flow is of IPv6.
#[derive(Debug, Serialize)]
pub struct IcmpLine {
    /// Its type.
    #[serde(rename = "type")]
    pub icmp_type: u8,
    /// Its code.
    pub code: u8,
}

/// Numbers of a flow's DNS messages; of the name those of the last question.
#[derive(Debug, Serialize)]
pub struct DnsLine {
    /// Questions seen.
    pub questions: u32,
    /// Answers seen.
    pub answers: u32,
    /// Answers with another result code than 0.
    pub failures: u32,
    /// Length of the name as text.
    pub name_bytes: u8,
    /// Its labels.
    pub labels: u8,
    /// Decimal digits in it.
    pub digits: u8,
    /// Type asked for, by its number.
    pub query_type: u16,
    /// Result code of the last answer.
    pub response_code: u8,
    /// Records in the last answer.
    pub answer_records: u16,
}

impl From<&Tunnel> for TunnelLine {
    fn from(tunnel: &Tunnel) -> Self {
        Self {
            kind: tunnel.kind.name(),
            network_id: tunnel.network_id,
            src_ip: address(tunnel.src),
            dst_ip: address(tunnel.dst),
            deeper: tunnel.deeper,
        }
    }
}

impl From<IcmpError> for IcmpLine {
    fn from(error: IcmpError) -> Self {
        Self {
            icmp_type: error.icmp_type,
            code: error.code,
        }
    }
}

impl From<&DnsNumbers> for DnsLine {
    fn from(dns: &DnsNumbers) -> Self {
        Self {
            questions: dns.questions,
            answers: dns.answers,
            failures: dns.failures,
            name_bytes: dns.name_bytes,
            labels: dns.labels,
            digits: dns.digits,
            query_type: dns.query_type,
            response_code: dns.response_code,
            answer_records: dns.answer_records,
        }
    }
}

/// What a rule found.
#[derive(Debug, Serialize)]
pub struct RuleLine {
    /// The rule.
    pub name: &'static str,
    /// The count it looks at.
    pub value: f32,
    /// The limit that count reached.
    pub limit: f32,
}

/// One reason of a verdict.
#[derive(Debug, Serialize)]
pub struct ReasonLine {
    /// Feature name, or "others".
    pub feature: &'static str,
    /// Its value.
    pub value: f32,
    /// Its part of the margin.
    pub contribution: f32,
    /// Least that is usual for the host; null: not known yet, or the feature is of no host.
    pub usual_low: Option<f32>,
    /// Most that is usual for the host.
    pub usual_high: Option<f32>,
}

/// What the hosts' own past says.
#[derive(Debug, Serialize)]
pub struct BaselineLine {
    /// What is usual for the initiator is known.
    pub initiator_known: bool,
    /// What is usual for the responder is known.
    pub responder_known: bool,
    /// How far outside of the usual; 0 where nothing is known.
    pub score: f32,
    /// From this score on a flow is called unusual.
    pub limit: f32,
    /// A known responder answered on a port on which it was not seen answering before.
    pub new_port: bool,
    /// A known initiator was not seen in touch with this responder before.
    pub first_contact: bool,
    /// The feature farthest outside; null: all lay within.
    pub farthest: Option<DeviationLine>,
}

/// A feature outside of its usual range.
#[derive(Debug, Serialize)]
pub struct DeviationLine {
    /// Feature name.
    pub feature: &'static str,
    /// Its value.
    pub value: f32,
    /// Least that is usual.
    pub usual_low: f32,
    /// Most that is usual.
    pub usual_high: f32,
}

impl From<&Opinion> for BaselineLine {
    fn from(opinion: &Opinion) -> Self {
        Self {
            initiator_known: opinion.initiator_known,
            responder_known: opinion.responder_known,
            score: opinion.score,
            limit: UNUSUAL,
            new_port: opinion.new_port,
            first_contact: opinion.first_contact,
            farthest: opinion.farthest().map(|farthest| DeviationLine {
                feature: farthest.feature,
                value: farthest.value,
                usual_low: farthest.usual.low,
                usual_high: farthest.usual.high,
            }),
        }
    }
}

impl<'a> FlowLine<'a> {
    /// The line of a flow; `interfaces` are the names of the capture's, by slot.
    #[must_use]
    pub fn new(
        capture: &'a str,
        interfaces: &[String],
        report: &'a FlowReport,
        model: Option<&'a Model>,
    ) -> Self {
        let verdict = &report.verdict;
        let judged = verdict.verdict != Verdict::NoVerdict;
        let model = model.filter(|_| judged);
        Self {
            capture,
            interface: interface_name(interfaces, report.ends.slot),
            also_seen_on: (0..64)
                .filter(|slot| report.also_seen_on & (1 << slot) != 0)
                .map(|slot| interface_name(interfaces, slot))
                .collect(),
            flow_id: report.flow_id,
            src_ip: address(report.ends.src),
            dst_ip: address(report.ends.dst),
            src_port: report.ends.src_port,
            dst_port: report.ends.dst_port,
            protocol: protocol_name(report.ends.ip_protocol),
            fwd_packets: report.fwd_packets,
            rev_packets: report.rev_packets,
            fwd_bytes: report.fwd_bytes,
            rev_bytes: report.rev_bytes,
            first_unix_ns: report.first_mono_ns,
            last_unix_ns: report.last_mono_ns,
            end_reason: match report.state {
                FlowState::End(reason) => reason.name(),
                FlowState::Start | FlowState::Update => "",
            },
            tcp_flags: tcp_flag_names(report.tcp_flags),
            verdict: verdict.verdict.name(),
            kind: verdict.kind.as_deref(),
            probability: judged.then_some(verdict.probability),
            score: judged.then_some(verdict.score),
            forest: judged.then(|| verdict.forest.name()),
            forest_score: judged.then_some(verdict.forest_score),
            rule: verdict.rule.map(|finding| RuleLine {
                name: finding.rule.name(),
                value: finding.value,
                limit: finding.limit,
            }),
            baseline: BaselineLine::from(&verdict.baseline),
            reasons: verdict
                .reasons
                .iter()
                .map(|reason| ReasonLine {
                    feature: reason.feature,
                    value: reason.value,
                    contribution: reason.contribution,
                    usual_low: reason.usual.map(|usual| usual.low),
                    usual_high: reason.usual.map(|usual| usual.high),
                })
                .collect(),
            model_id: model.map(Model::id),
            expected_false_alarms_per_day: model
                .map(|model| model.expected_false_alarms_per_host_day(verdict.score)),
            lost_meanwhile: verdict.lost_meanwhile,
            tunnel: report.beside.tunnel.as_ref().map(TunnelLine::from),
            icmp_errors: report.beside.icmp_errors,
            icmp_last: report.beside.icmp_last.map(IcmpLine::from),
            dns: report.beside.dns.as_ref().map(DnsLine::from),
        }
    }
}

/// Name of a capture's interface, or its number where the file tells none.
fn interface_name(names: &[String], slot: u8) -> String {
    match names.get(usize::from(slot)) {
        Some(name) if !name.is_empty() => name.clone(),
        _ => slot.to_string(),
    }
}

/// Name of a transport protocol, or its number.
#[must_use]
pub fn protocol_name(ip_protocol: u8) -> String {
    match ip_protocol {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "icmpv6".into(),
        other => other.to_string(),
    }
}

/// TCP flags as a list of names.
#[must_use]
pub fn tcp_flag_names(flags: u8) -> String {
    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set: Vec<_> = NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| flags & (1 << bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    set.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_in_the_order_of_their_bits() {
        assert_eq!(tcp_flag_names(0x12), "SYN,ACK");
        assert_eq!(tcp_flag_names(0), "");
    }
}

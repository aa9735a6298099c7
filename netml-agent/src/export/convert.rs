//! The one place where engine types become wire messages.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use netml_common::{Direction, InterfaceCounters, KERNEL_LOSS_REASONS, LossReason, ProtocolClass};
use netml_proto::v1;

use super::{Observation, Watched};
use crate::baseline::{Opinion, UNUSUAL};
use crate::engine::{FlowReport, FlowState, JudgedPacket};
use crate::flow::beside::{DnsNumbers, Tunnel};
use crate::model::Model;
use crate::verdict::Verdict;

/// What the messages say beside the observation itself.
#[derive(Clone, Default)]
pub struct Context {
    /// The model that judged what is told now.
    pub model: Option<Arc<Model>>,
    /// The interfaces watched.
    pub interfaces: Watched,
}

impl Context {
    fn kind(&self, verdict: Verdict, class: u8) -> &str {
        let told = matches!(verdict, Verdict::Unsure | Verdict::Suspicious);
        self.model
            .as_ref()
            .filter(|_| told)
            .and_then(|model| model.classes().get(usize::from(class)))
            .map_or("", |name| name)
    }

    /// The wire message of an observation; `unix_offset_ns` turns its times into unix ones.
    #[must_use]
    pub fn record(&self, observation: Observation, unix_offset_ns: i64) -> v1::Record {
        let record = match observation {
            Observation::Flow(report) => {
                v1::record::Record::Flow(self.flow(report, unix_offset_ns))
            }
            Observation::Packet(packet) => {
                v1::record::Record::Packet(self.packet(&packet, unix_offset_ns))
            }
            Observation::Record(record) => return *record,
        };
        v1::Record {
            record: Some(record),
        }
    }

    /// Names of the other interfaces of a conversation; the one file of a replay is none.
    #[must_use]
    pub fn also_seen_on(&self, report: &FlowReport) -> Vec<String> {
        let own = self.interfaces.name(report.ends.slot);
        (0..64)
            .filter(|slot| report.also_seen_on & (1 << slot) != 0)
            .map(|slot| self.interfaces.name(slot))
            .filter(|name| *name != own)
            .collect()
    }

    fn flow(&self, report: FlowReport, unix_offset_ns: i64) -> v1::Flow {
        let (state, end_reason) = match report.state {
            FlowState::Start => (v1::FlowState::Start, ""),
            FlowState::Update => (v1::FlowState::Update, ""),
            FlowState::End(reason) => (v1::FlowState::End, reason.name()),
        };
        let also_seen_on = self.also_seen_on(&report);
        let verdict = report.verdict;
        let judged = verdict.verdict != Verdict::NoVerdict;
        v1::Flow {
            flow_id: report.flow_id,
            state: state.into(),
            end_reason: end_reason.into(),
            first_unix_ns: unix_ns(report.first_mono_ns, unix_offset_ns),
            last_unix_ns: unix_ns(report.last_mono_ns, unix_offset_ns),
            src_ip: address_bytes(report.ends.src),
            dst_ip: address_bytes(report.ends.dst),
            src_port: report.ends.src_port.into(),
            dst_port: report.ends.dst_port.into(),
            ip_protocol: report.ends.ip_protocol.into(),
            interface: self.interfaces.name(report.ends.slot),
            also_seen_on,
            fwd_packets: report.fwd_packets,
            rev_packets: report.rev_packets,
            fwd_bytes: report.fwd_bytes,
            rev_bytes: report.rev_bytes,
            tcp_flags: report.tcp_flags.into(),
            verdict: wire_verdict(verdict.verdict).into(),
            probability: verdict.probability.into(),
            score: verdict.score.into(),
            reasons: verdict
                .reasons
                .iter()
                .map(|reason| v1::Reason {
                    feature: reason.feature.into(),
                    value: reason.value.into(),
                    contribution: reason.contribution.into(),
                    usual_low: reason.usual.map(|usual| usual.low.into()),
                    usual_high: reason.usual.map(|usual| usual.high.into()),
                })
                .collect(),
            model_id: verdict.model_id.as_deref().unwrap_or_default().into(),
            lost_meanwhile: verdict.lost_meanwhile,
            unrecorded_packets: report.unrecorded_packets,
            rule: verdict.rule.map(|finding| v1::RuleFinding {
                rule: finding.rule.name().into(),
                value: finding.value.into(),
                limit: finding.limit.into(),
            }),
            baseline: Some(baseline(&verdict.baseline)),
            forest: wire_verdict(verdict.forest).into(),
            forest_score: verdict.forest_score.into(),
            expected_false_alarms_per_day: if judged {
                verdict.false_alarms_per_host_day.into()
            } else {
                0.0
            },
            initiator_direction: wire_direction(report.initiator_direction).into(),
            kind: verdict.kind.unwrap_or_default(),
            tunnel: report.beside.tunnel.as_ref().map(tunnel),
            icmp_errors: report.beside.icmp_errors,
            icmp_last: report.beside.icmp_last.map(|last| v1::IcmpError {
                r#type: last.icmp_type.into(),
                code: last.code.into(),
            }),
            dns: report.beside.dns.as_ref().map(dns_numbers),
        }
    }

    fn packet(&self, packet: &JudgedPacket, unix_offset_ns: i64) -> v1::PacketSample {
        let record = &packet.record;
        v1::PacketSample {
            unix_ns: unix_ns(record.mono_ns, unix_offset_ns),
            src_ip: address_bytes(record.src),
            dst_ip: address_bytes(record.dst),
            src_port: record.src_port.into(),
            dst_port: record.dst_port.into(),
            ip_protocol: record.ip_protocol.into(),
            wire_bytes: record.wire_bytes,
            segments: record.segments.into(),
            tcp_flags: record.tcp_flags.into(),
            direction: wire_direction(record.direction()).into(),
            interface: self.interfaces.name(record.slot),
            verdict: wire_verdict(packet.verdict).into(),
            kind: self.kind(packet.verdict, packet.class).into(),
            probability: packet.probability.into(),
            flow_id: packet.flow_id,
        }
    }
}

fn baseline(opinion: &Opinion) -> v1::Baseline {
    v1::Baseline {
        initiator_known: opinion.initiator_known,
        responder_known: opinion.responder_known,
        score: opinion.score.into(),
        limit: UNUSUAL.into(),
        new_port: opinion.new_port,
        first_contact: opinion.first_contact,
        farthest: opinion.farthest().map(|farthest| v1::Deviation {
            feature: farthest.feature.into(),
            value: farthest.value.into(),
            usual_low: farthest.usual.low.into(),
            usual_high: farthest.usual.high.into(),
        }),
    }
}

fn tunnel(tunnel: &Tunnel) -> v1::Tunnel {
    v1::Tunnel {
        kind: tunnel.kind.name().into(),
        network_id: tunnel.network_id,
        src_ip: address_bytes(tunnel.src),
        dst_ip: address_bytes(tunnel.dst),
        deeper: tunnel.deeper,
    }
}

fn dns_numbers(dns: &DnsNumbers) -> v1::DnsNumbers {
    v1::DnsNumbers {
        questions: dns.questions,
        answers: dns.answers,
        failures: dns.failures,
        name_bytes: dns.name_bytes.into(),
        labels: dns.labels.into(),
        digits: dns.digits.into(),
        query_type: dns.query_type.into(),
        response_code: dns.response_code.into(),
        answer_records: dns.answer_records.into(),
    }
}

/// Kernel totals of one interface and direction as a message.
#[must_use]
pub fn counters(
    unix_ns: u64,
    slot: u32,
    interface: &str,
    direction: Direction,
    attach_id: u64,
    totals: &InterfaceCounters,
) -> v1::Record {
    let by_class = |values: &[u64]| {
        ProtocolClass::ALL
            .iter()
            .zip(values)
            .filter(|(_, value)| **value > 0)
            .map(|(class, value)| (class.name().to_owned(), *value))
            .collect()
    };
    let lost = LossReason::ALL
        .iter()
        .filter(|reason| reason.index() < KERNEL_LOSS_REASONS)
        .map(|reason| (reason.name().to_owned(), totals.lost[reason.index()]))
        .filter(|(_, value)| *value > 0)
        .collect();
    v1::Record {
        record: Some(v1::record::Record::Counters(v1::Counters {
            unix_ns,
            slot,
            interface: interface.into(),
            direction: wire_direction(direction).into(),
            attach_id,
            packets: totals.packets,
            bytes: totals.bytes,
            frames: totals.frames,
            recorded: totals.recorded,
            mapped: totals.mapped,
            lost,
            protocol_packets: by_class(&totals.protocol_packets),
            protocol_bytes: by_class(&totals.protocol_bytes),
        })),
    }
}

/// An event as a message; severity is info, warning or alarm.
#[must_use]
pub fn event(
    unix_ns: u64,
    kind: &str,
    severity: &str,
    message: String,
    fields: &[(&str, String)],
) -> v1::Record {
    v1::Record {
        record: Some(v1::record::Record::Event(v1::Event {
            unix_ns,
            kind: kind.into(),
            severity: severity.into(),
            message,
            fields: fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        })),
    }
}

/// Unix time of a monotonic one, held within the range of the type.
#[must_use]
pub fn unix_ns(mono_ns: u64, unix_offset_ns: i64) -> u64 {
    mono_ns.saturating_add_signed(unix_offset_ns)
}

/// An address as people read it: IPv4 where it is mapped.
#[must_use]
pub fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

fn address_bytes(bytes: [u8; 16]) -> Vec<u8> {
    match address(bytes) {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn wire_direction(direction: Direction) -> v1::Direction {
    match direction {
        Direction::Ingress => v1::Direction::Ingress,
        Direction::Egress => v1::Direction::Egress,
    }
}

fn wire_verdict(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::NoVerdict => v1::Verdict::NoVerdict,
        Verdict::Normal => v1::Verdict::Normal,
        Verdict::Unsure => v1::Verdict::Unsure,
        Verdict::Suspicious => v1::Verdict::Suspicious,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use netml_common::walk::mapped;
    use netml_common::{Marks, PacketRecord};

    use super::*;

    /// A UDP packet 10.0.0.1:1000 → 10.0.0.2:53 at a time, of a judged flow.
    pub(crate) fn judged(mono_ns: u64, verdict: Verdict) -> JudgedPacket {
        JudgedPacket {
            record: PacketRecord {
                kind: netml_common::record::KIND_PACKET,
                version: netml_common::record::RECORD_VERSION,
                length_units: 8,
                ip_protocol: 17,
                marks: Marks(0),
                slot: 0,
                segments: 1,
                mono_ns,
                src: mapped([10, 0, 0, 1]),
                dst: mapped([10, 0, 0, 2]),
                wire_bytes: 60,
                payload_bytes: 18,
                src_port: 1_000,
                dst_port: 53,
                tcp_flags: 0,
                hop_limit: 64,
                tcp_window: 0,
            },
            flow_id: 7,
            forward: true,
            verdict,
            class: 0,
            probability: 0.25,
            score: 0.5,
            tunnel: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_keeps_its_addresses_and_its_time_moves_by_the_offset() {
        let context = Context {
            model: None,
            interfaces: Watched::of_names(vec!["eth0".into()]),
        };
        let packet = testing::judged(1_000, Verdict::NoVerdict);
        let record = context.record(Observation::Packet(packet), 500).record;
        let Some(v1::record::Record::Packet(sample)) = record else {
            panic!("not a packet: {record:?}");
        };
        assert_eq!(sample.unix_ns, 1_500);
        assert_eq!(sample.src_ip, [10, 0, 0, 1]);
        assert_eq!((sample.src_port, sample.dst_port), (1_000, 53));
        assert_eq!(sample.interface, "eth0");
        assert_eq!(sample.verdict(), v1::Verdict::NoVerdict);
        assert_eq!(sample.kind, "");
        assert_eq!(sample.direction(), v1::Direction::Ingress);
    }

    #[test]
    fn counters_name_only_what_was_counted() {
        let mut totals = InterfaceCounters::ZERO;
        totals.frames = 7;
        totals.mapped = 4;
        totals.recorded = 2;
        totals.lost[LossReason::Arp.index()] = 1;
        totals.protocol_packets[ProtocolClass::Tcp.index()] = 2;
        let record = counters(9, 1, "eth0", Direction::Egress, 5, &totals).record;
        let Some(v1::record::Record::Counters(sent)) = record else {
            panic!("no counters: {record:?}");
        };
        assert_eq!(sent.lost, [("arp".to_owned(), 1)].into());
        assert_eq!(sent.protocol_packets, [("tcp".to_owned(), 2)].into());
        assert_eq!(sent.protocol_bytes, [].into());
        assert_eq!(sent.direction(), v1::Direction::Egress);
        assert_eq!(
            sent.frames,
            sent.recorded + sent.mapped + sent.lost.values().sum::<u64>()
        );
    }

    #[test]
    fn other_interfaces_of_a_conversation_are_named_and_one_file_is_no_path() {
        use crate::engine::{Engine, FlowReport, Settings, Sink};
        struct Reports(Vec<FlowReport>);
        impl Sink for Reports {
            fn flow(&mut self, report: &FlowReport) {
                self.0.push(report.clone());
            }
            fn packet(&mut self, _packet: &JudgedPacket) {}
        }
        let mut engine = Engine::new(Settings::default(), None);
        let mut reports = Reports(Vec::new());
        for slot in [0, 2] {
            let mut record = testing::judged(1_000, Verdict::NoVerdict).record;
            record.slot = slot;
            engine.packet(&record, &mut reports);
        }
        engine.finish(&mut reports);
        let told = |names: [&str; 3]| {
            let context = Context {
                model: None,
                interfaces: Watched::of_names(names.map(str::to_owned).into()),
            };
            let of_slot_0 = reports.0.iter().rfind(|report| report.ends.slot == 0);
            context.also_seen_on(of_slot_0.unwrap())
        };
        assert_eq!(told(["eth0", "eth1", "veth7"]), ["veth7"]);
        assert_eq!(told(["file", "file", "file"]), [""; 0]);
    }

    #[test]
    fn a_flow_tells_its_tunnel_the_errors_about_it_and_its_dns_numbers() {
        use crate::engine::{Engine, FlowReport, Settings, Sink};
        use netml_common::extras::{KIND_DNS, KIND_QUOTED, KIND_TUNNEL};
        use netml_common::walk::mapped;
        use netml_common::{DnsRecord, Extras, QuotedRecord, TunnelKind, TunnelRecord};
        #[derive(Default)]
        struct Ended(Vec<FlowReport>);
        impl Sink for Ended {
            fn flow(&mut self, report: &FlowReport) {
                if matches!(report.state, FlowState::End(_)) {
                    self.0.push(report.clone());
                }
            }
            fn packet(&mut self, _packet: &JudgedPacket) {}
        }
        let mut engine = Engine::new(Settings::default(), None);
        let mut ended = Ended::default();
        let question = testing::judged(1_000, Verdict::NoVerdict).record;
        let beside = Extras {
            tunnel: Some(TunnelRecord {
                kind: KIND_TUNNEL,
                tunnel: TunnelKind::Vxlan as u8
                    | TunnelRecord::HAS_NETWORK_ID
                    | TunnelRecord::DEEPER,
                network_id: 42,
                src: mapped([192, 0, 2, 1]),
                dst: [0xfe; 16],
                ..TunnelRecord::NONE
            }),
            dns: Some(DnsRecord {
                kind: KIND_DNS,
                flags: DnsRecord::NAMED,
                name_bytes: 34,
                labels: 3,
                digits: 5,
                query_type: 16,
                ..DnsRecord::NONE
            }),
            quoted: None,
        };
        engine.packet_with(&question, &beside, &mut ended);
        let error = netml_common::PacketRecord {
            src: question.dst,
            dst: question.src,
            ip_protocol: 1,
            src_port: 3,
            dst_port: 1,
            ..question
        };
        let about = QuotedRecord {
            kind: KIND_QUOTED,
            ip_protocol: 17,
            src_port: question.src_port,
            dst_port: question.dst_port,
            src: question.src,
            dst: question.dst,
            ..QuotedRecord::NONE
        };
        // The error comes back in the network of what it quotes.
        let about = Extras {
            quoted: Some(about),
            tunnel: beside.tunnel,
            ..Extras::NONE
        };
        engine.packet_with(&error, &about, &mut ended);
        engine.finish(&mut ended);

        let context = Context::default();
        let [icmp, udp] = [1, 17].map(|protocol| {
            let report = ended.0.iter().find(|r| r.ends.ip_protocol == protocol);
            context.flow(report.unwrap().clone(), 0)
        });
        assert_eq!((icmp.icmp_errors, icmp.dns), (0, None));
        let tunnel = v1::Tunnel {
            kind: "vxlan".into(),
            network_id: Some(42),
            src_ip: vec![192, 0, 2, 1],
            dst_ip: vec![0xfe; 16],
            deeper: true,
        };
        assert_eq!(icmp.tunnel.as_ref(), Some(&tunnel));
        assert_eq!(udp.tunnel, Some(tunnel));
        let last = v1::IcmpError { r#type: 3, code: 1 };
        assert_eq!((udp.icmp_errors, udp.icmp_last), (1, Some(last)));
        let dns = v1::DnsNumbers {
            questions: 1,
            name_bytes: 34,
            labels: 3,
            digits: 5,
            query_type: 16,
            ..v1::DnsNumbers::default()
        };
        assert_eq!(udp.dns, Some(dns));
    }

    #[test]
    fn a_time_before_the_epoch_is_held_at_it() {
        assert_eq!(unix_ns(5, -6), 0);
        assert_eq!(unix_ns(u64::MAX, 1), u64::MAX);
    }
}

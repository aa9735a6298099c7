//! Wire messages to domain types: the one place where a sensor's bytes are judged. Pure.
//!
//! A batch whose frame is wrong (size, checksum, count, numbering) is refused as a whole and ends
//! the stream: nothing of it can be trusted. A single record with an impossible value is refused
//! alone and counted: it would be as wrong when resent, and must not hold up those behind it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use netml_proto::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, STREAMS_MAX, v1,
};
use prost::Message;

use crate::record::{
    Baseline, CounterTotals, Counters, Deviation, Direction, DnsNumbers, Event, Flow, FlowState,
    Health, Hello, IcmpError, Interface, Packet, Reason, Record, RuleFinding, SensorBatch,
    SensorName, Source, Tunnel, Verdict,
};

/// Longest short text (interface, kind, model id, feature name) in bytes; a longer one refuses
/// its record.
pub const SHORT_TEXT_BYTES_MAX: usize = 128;

/// Longest event message or field in bytes; a longer one refuses its record.
pub const MESSAGE_BYTES_MAX: usize = 1_024;

/// Most entries of any map or list within a record or hello; more refuse it.
pub const ENTRIES_MAX: usize = 64;

/// Largest count or total, 2^53 - 1: the largest that JSON readers keep exact. A larger one refuses
/// its record.
pub const COUNT_MAX: u64 = (1 << 53) - 1;

/// See [`stored_elsewhere`].
pub type Elsewhere = HashMap<u64, u64>;

/// Why a message was refused as a whole. The stream ends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The first message was something else.
    #[error("the first message of a stream must be a hello")]
    HelloFirst,
    /// A hello within a stream.
    #[error("a hello is only allowed as the first message of a stream")]
    HelloAgain,
    /// A message of no known kind: it alone is left out, and the stream goes on.
    #[error("the message has no content known to protocol version {PROTOCOL_VERSION}")]
    EmptyMessage,
    /// No version is spoken by both.
    #[error(
        "the sensor speaks protocol versions {oldest} to {newest}, this collector {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}: update the {}",
        if *newest < PROTOCOL_VERSION_MIN { "sensor" } else { "collector" }
    )]
    ProtocolVersion {
        /// Oldest of the sensor.
        oldest: u32,
        /// Newest of the sensor.
        newest: u32,
    },
    /// A name outside the pattern.
    #[error("the sensor's name does not match [A-Za-z0-9._-]{{1,64}}")]
    SensorName,
    /// A field of the hello is too long, too many or not of the known values.
    #[error("the hello's field {0} is out of bounds")]
    HelloField(&'static str),
    /// The payload is too large.
    #[error("a batch of {0} bytes is above the limit of {BATCH_BYTES_MAX}")]
    BatchBytes(usize),
    /// No records, or too many.
    #[error("a batch of {0} records is outside 1 to {BATCH_RECORDS_MAX}")]
    BatchRecords(u32),
    /// The checksum is another.
    #[error("the batch's checksum does not match its payload")]
    Checksum,
    /// The payload is no `Payload`.
    #[error("the batch's payload cannot be decoded")]
    Payload,
    /// `count` and the decoded records differ.
    #[error("the batch states {stated} records and holds {held}")]
    Count {
        /// As stated.
        stated: u32,
        /// As decoded.
        held: usize,
    },
    /// The first sequence number is 0, or the last one overflows what the store can hold.
    #[error("sequence number {0} is outside 1 to 2^63-1")]
    Sequence(u64),
}

/// Checks a hello.
///
/// # Errors
/// What is wrong with it.
pub fn hello(wire: v1::Hello) -> Result<Hello, Refusal> {
    let newest = wire.protocol_version;
    let oldest = match wire.protocol_version_min {
        0 => newest,
        oldest => oldest.min(newest),
    };
    if oldest > PROTOCOL_VERSION || newest < PROTOCOL_VERSION_MIN {
        return Err(Refusal::ProtocolVersion { oldest, newest });
    }
    let sensor = SensorName::parse(&wire.sensor).ok_or(Refusal::SensorName)?;
    // Shown only: one that is not known here is not said.
    let source = Source::of_number(wire.source).unwrap_or(Source::Unspecified);
    for (name, text) in [
        ("version", &wire.version),
        ("kernel", &wire.kernel),
        ("boot_id", &wire.boot_id),
        ("model_id", &wire.model_id),
        ("schema_digest", &wire.schema_digest),
    ] {
        if text.len() > SHORT_TEXT_BYTES_MAX * 2 {
            return Err(Refusal::HelloField(name));
        }
    }
    if wire.interfaces.len() > ENTRIES_MAX
        || wire.interfaces.iter().any(|i| {
            [&i.name, &i.ingress_mode, &i.egress_mode]
                .iter()
                .any(|text| text.len() > SHORT_TEXT_BYTES_MAX)
        })
    {
        return Err(Refusal::HelloField("interfaces"));
    }
    if wire.accepted_commands.len() > ENTRIES_MAX
        || wire
            .accepted_commands
            .iter()
            .any(|c| c.len() > SHORT_TEXT_BYTES_MAX)
    {
        return Err(Refusal::HelloField("accepted_commands"));
    }
    let interfaces = wire.interfaces.into_iter().map(|i| Interface {
        slot: i.slot,
        name: i.name,
        ingress_mode: i.ingress_mode,
        egress_mode: i.egress_mode,
        aggregated_totals: i.aggregated_totals,
    });
    Ok(Hello {
        sensor,
        version: wire.version,
        kernel: wire.kernel,
        boot_id: wire.boot_id,
        source,
        stream_id: wire.stream_id,
        interfaces: interfaces.collect(),
        model_id: wire.model_id,
        schema_digest: wire.schema_digest,
        accepted_commands: wire.accepted_commands,
    })
}

/// How far other collectors have streams of the sensor, by stream id.
///
/// # Errors
/// Where there are too many.
pub fn stored_elsewhere(wire: &v1::Hello) -> Result<Elsewhere, Refusal> {
    if wire.stored_elsewhere.len() > STREAMS_MAX {
        return Err(Refusal::HelloField("stored_elsewhere"));
    }
    let streams = wire.stored_elsewhere.iter();
    Ok(streams.map(|ack| (ack.stream_id, ack.seq)).collect())
}

/// Checks a batch of `sensor`. Records that are refused alone are `None` in the answer.
///
/// # Errors
/// What is wrong with the batch as a whole.
pub fn batch(
    sensor: &SensorName,
    wire: &v1::Batch,
    elsewhere: &Elsewhere,
) -> Result<SensorBatch, Refusal> {
    if wire.payload.len() > BATCH_BYTES_MAX {
        return Err(Refusal::BatchBytes(wire.payload.len()));
    }
    let count = usize::try_from(wire.count).map_err(|_| Refusal::BatchRecords(wire.count))?;
    if !(1..=BATCH_RECORDS_MAX).contains(&count) {
        return Err(Refusal::BatchRecords(wire.count));
    }
    let last_seq = wire.first_seq.saturating_add(u64::from(wire.count) - 1);
    if wire.first_seq == 0 || i64::try_from(last_seq).is_err() {
        return Err(Refusal::Sequence(wire.first_seq));
    }
    if crc32fast::hash(&wire.payload) != wire.crc32 {
        return Err(Refusal::Checksum);
    }
    let payload = v1::Payload::decode(wire.payload.as_slice()).map_err(|_| Refusal::Payload)?;
    if payload.records.len() != count {
        return Err(Refusal::Count {
            stated: wire.count,
            held: payload.records.len(),
        });
    }
    Ok(SensorBatch {
        sensor: sensor.clone(),
        stream_id: wire.stream_id,
        first_seq: wire.first_seq,
        elsewhere_seq: elsewhere.get(&wire.stream_id).copied().unwrap_or(0),
        records: payload.records.into_iter().map(record).collect(),
    })
}

/// Checks one record; `None`: refused.
fn record(wire: v1::Record) -> Option<Record> {
    use v1::record::Record as Wire;
    match wire.record? {
        Wire::Counters(c) => counters(c).map(Record::Counters),
        Wire::Flow(f) => flow(f).map(|f| Record::Flow(Box::new(f))),
        Wire::Packet(p) => packet(p).map(Record::Packet),
        Wire::Event(e) => event(e).map(Record::Event),
        Wire::Health(h) => health(h).map(Record::Health),
    }
}

fn counters(c: v1::Counters) -> Option<Counters> {
    Some(Counters {
        unix_ns: time(c.unix_ns)?,
        interface: short(c.interface)?,
        direction: Direction::of_number(c.direction)?,
        attach_id: c.attach_id,
        totals: CounterTotals {
            packets: number(c.packets)?,
            bytes: number(c.bytes)?,
            frames: number(c.frames)?,
            recorded: number(c.recorded)?,
            mapped: number(c.mapped)?,
            lost: numbers(c.lost)?,
            protocol_packets: numbers(c.protocol_packets)?,
            protocol_bytes: numbers(c.protocol_bytes)?,
        },
    })
}

fn flow(f: v1::Flow) -> Option<Flow> {
    if f.reasons.len() > ENTRIES_MAX || f.also_seen_on.len() > ENTRIES_MAX {
        return None;
    }
    let reasons = f.reasons.into_iter().map(|r| {
        Some(Reason {
            feature: short(r.feature)?,
            value: finite(r.value)?,
            contribution: finite(r.contribution)?,
            usual_low: optional(r.usual_low, finite)?,
            usual_high: optional(r.usual_high, finite)?,
        })
        .filter(is_range)
    });
    let expected = f.expected_false_alarms_per_day;
    let (forest, verdict) = (verdict(f.forest)?, verdict(f.verdict)?);
    let is_known = verdict != Verdict::NoVerdict && expected.is_finite() && expected >= 0.0;
    Some(Flow {
        flow_id: f.flow_id,
        state: FlowState::of_number(f.state)?,
        end_reason: short(f.end_reason)?,
        first_unix_ns: time(f.first_unix_ns)?,
        last_unix_ns: time(f.last_unix_ns)?,
        src_ip: address(&f.src_ip)?,
        dst_ip: address(&f.dst_ip)?,
        src_port: u16::try_from(f.src_port).ok()?,
        dst_port: u16::try_from(f.dst_port).ok()?,
        ip_protocol: u8::try_from(f.ip_protocol).ok()?,
        interface: short(f.interface)?,
        fwd_packets: number(f.fwd_packets)?,
        rev_packets: number(f.rev_packets)?,
        fwd_bytes: number(f.fwd_bytes)?,
        rev_bytes: number(f.rev_bytes)?,
        tcp_flags: u8::try_from(f.tcp_flags).ok()?,
        verdict,
        kind: short(f.kind)?,
        probability: share(f.probability)?,
        score: share(f.score)?,
        reasons: reasons.collect::<Option<_>>()?,
        model_id: short(f.model_id)?,
        lost_meanwhile: number(f.lost_meanwhile)?,
        expected_false_alarms_per_day: is_known.then_some(expected),
        unrecorded_packets: number(f.unrecorded_packets)?,
        rule: optional(f.rule, rule)?,
        baseline: optional(f.baseline, baseline)?,
        forest,
        forest_score: share(f.forest_score)?,
        initiator_direction: optional_direction(f.initiator_direction)?,
        also_seen_on: f
            .also_seen_on
            .into_iter()
            .map(short)
            .collect::<Option<_>>()?,
        tunnel: optional(f.tunnel, tunnel)?,
        icmp_errors: f.icmp_errors,
        icmp_last: optional(f.icmp_last, icmp_error)?,
        dns: optional(f.dns, dns)?,
    })
}

/// `None` where the field is there and refused.
fn optional<W, T>(wire: Option<W>, check: fn(W) -> Option<T>) -> Option<Option<T>> {
    match wire {
        Some(wire) => check(wire).map(Some),
        None => Some(None),
    }
}

fn tunnel(t: v1::Tunnel) -> Option<Tunnel> {
    Some(Tunnel {
        kind: short(t.kind)?,
        network_id: t.network_id,
        src_ip: address(&t.src_ip)?,
        dst_ip: address(&t.dst_ip)?,
        deeper: t.deeper,
    })
}

fn icmp_error(e: v1::IcmpError) -> Option<IcmpError> {
    Some(IcmpError {
        icmp_type: u8::try_from(e.r#type).ok()?,
        code: u8::try_from(e.code).ok()?,
    })
}

fn dns(d: v1::DnsNumbers) -> Option<DnsNumbers> {
    Some(DnsNumbers {
        questions: d.questions,
        answers: d.answers,
        failures: d.failures,
        name_bytes: u8::try_from(d.name_bytes).ok()?,
        labels: u8::try_from(d.labels).ok()?,
        digits: u8::try_from(d.digits).ok()?,
        query_type: u16::try_from(d.query_type).ok()?,
        response_code: u8::try_from(d.response_code).ok()?,
        answer_records: u16::try_from(d.answer_records).ok()?,
    })
}

/// True where both ends of the usual are told or neither, in their order.
fn is_range(reason: &Reason) -> bool {
    match (reason.usual_low, reason.usual_high) {
        (Some(low), Some(high)) => low <= high,
        (low, high) => low.is_none() && high.is_none(),
    }
}

fn baseline(told: v1::Baseline) -> Option<Baseline> {
    let farthest = optional(told.farthest, |farthest: v1::Deviation| {
        let (low, high) = (finite(farthest.usual_low)?, finite(farthest.usual_high)?);
        Some(Deviation {
            feature: short(farthest.feature)?,
            value: finite(farthest.value)?,
            usual_low: low,
            usual_high: (low <= high).then_some(high)?,
        })
    })?;
    Some(Baseline {
        initiator_known: told.initiator_known,
        responder_known: told.responder_known,
        score: finite(told.score).filter(|score| *score >= 0.0)?,
        limit: finite(told.limit)?,
        new_port: told.new_port,
        first_contact: told.first_contact,
        farthest,
    })
}

fn rule(found: v1::RuleFinding) -> Option<RuleFinding> {
    Some(RuleFinding {
        rule: short(found.rule)?,
        value: finite(found.value)?,
        limit: finite(found.limit)?,
    })
}

fn packet(p: v1::PacketSample) -> Option<Packet> {
    Some(Packet {
        unix_ns: time(p.unix_ns)?,
        src_ip: address(&p.src_ip)?,
        dst_ip: address(&p.dst_ip)?,
        src_port: u16::try_from(p.src_port).ok()?,
        dst_port: u16::try_from(p.dst_port).ok()?,
        ip_protocol: u8::try_from(p.ip_protocol).ok()?,
        wire_bytes: p.wire_bytes,
        segments: p.segments,
        tcp_flags: u8::try_from(p.tcp_flags).ok()?,
        direction: Direction::of_number(p.direction)?,
        interface: short(p.interface)?,
        verdict: verdict(p.verdict)?,
        kind: short(p.kind)?,
        probability: share(p.probability)?,
        flow_id: p.flow_id,
    })
}

fn event(e: v1::Event) -> Option<Event> {
    if e.fields.len() > ENTRIES_MAX {
        return None;
    }
    let fields = e
        .fields
        .into_iter()
        .map(|(name, value)| (value.len() <= MESSAGE_BYTES_MAX).then_some((short(name)?, value)));
    Some(Event {
        unix_ns: time(e.unix_ns)?,
        kind: short(e.kind)?,
        severity: matches!(e.severity.as_str(), "info" | "warning" | "alarm")
            .then_some(e.severity)?,
        message: (e.message.len() <= MESSAGE_BYTES_MAX).then_some(e.message)?,
        fields: fields.collect::<Option<_>>()?,
    })
}

fn health(h: v1::Health) -> Option<Health> {
    Some(Health {
        unix_ms: time(h.unix_ns)? / 1_000_000,
        resident_bytes: number(h.resident_bytes)?,
        cpu_share: finite(h.cpu_share)?,
        ring_bytes: number(h.ring_bytes)?,
        ring_backlog_bytes: number(h.ring_backlog_bytes)?,
        flows_live: number(h.flows_live)?,
        flows_max: number(h.flows_max)?,
        backlog_records: number(h.backlog_records)?,
        stepped_down: h.stepped_down,
        mode_since_unix_ms: match h.mode_since_unix_ns {
            0 => None,
            since => Some(time(since)? / 1_000_000),
        },
        step_downs: number(h.step_downs)?,
        books: numbers(h.books)?,
    })
}

/// A verdict the sensor did not state is none, never normal.
fn verdict(number: i32) -> Option<Verdict> {
    match number {
        0 => Some(Verdict::NoVerdict),
        number => Verdict::of_number(number),
    }
}

fn optional_direction(number: i32) -> Option<Option<Direction>> {
    match number {
        0 => Some(None),
        number => Direction::of_number(number).map(Some),
    }
}

/// Four or sixteen bytes in network order; a mapped IPv4 address becomes the IPv4 address, so that
/// one host has one form.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(IpAddr::from(v6).to_canonical())
}

fn time(unix_ns: u64) -> Option<i64> {
    i64::try_from(unix_ns).ok()
}

/// A count up to [`COUNT_MAX`], so that sums of it fit a column and a JSON number is exact.
fn number(n: u64) -> Option<u64> {
    (n <= COUNT_MAX).then_some(n)
}

fn numbers(map: HashMap<String, u64>) -> Option<BTreeMap<String, u64>> {
    if map.len() > ENTRIES_MAX {
        return None;
    }
    map.into_iter()
        .map(|(name, n)| Some((short(name)?, number(n)?)))
        .collect()
}

fn short(text: String) -> Option<String> {
    (text.len() <= SHORT_TEXT_BYTES_MAX).then_some(text)
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn share(value: f64) -> Option<f64> {
    (0.0..=1.0).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(records: Vec<v1::Record>) -> v1::Batch {
        let count = u32::try_from(records.len()).unwrap();
        let payload = v1::Payload { records }.encode_to_vec();
        v1::Batch {
            stream_id: 1,
            first_seq: 1,
            count,
            crc32: crc32fast::hash(&payload),
            payload,
        }
    }

    fn name() -> SensorName {
        SensorName::parse("a").unwrap()
    }

    #[test]
    fn a_record_of_a_kind_not_known_here_is_refused_alone() {
        let health = v1::record::Record::Health(v1::Health::default());
        let records = vec![
            v1::Record { record: None },
            v1::Record {
                record: Some(health),
            },
        ];
        let batch = batch(&name(), &wire(records), &Elsewhere::new()).unwrap();
        assert_eq!(batch.records[0], None);
        assert!(matches!(batch.records[1], Some(Record::Health(_))));
        assert_eq!(batch.last_seq(), 2);
    }

    #[test]
    fn a_flow_keeps_its_path_and_tunnel_and_impossible_ones_refuse_it() {
        let tunnel = v1::Tunnel {
            kind: "gre".into(),
            network_id: None,
            src_ip: vec![192, 0, 2, 1],
            dst_ip: vec![0xfe; 16],
            deeper: true,
        };
        let good = v1::Flow {
            state: 1,
            src_ip: vec![10, 0, 0, 1],
            dst_ip: vec![10, 0, 0, 2],
            also_seen_on: vec!["eth1".into(), "veth7".into()],
            tunnel: Some(tunnel.clone()),
            icmp_errors: 3,
            icmp_last: Some(v1::IcmpError { r#type: 3, code: 1 }),
            dns: Some(v1::DnsNumbers {
                questions: 2,
                query_type: 255,
                ..v1::DnsNumbers::default()
            }),
            ..v1::Flow::default()
        };
        let taken = flow(good.clone()).unwrap();
        assert_eq!(taken.also_seen_on, ["eth1", "veth7"]);
        let seen = taken.tunnel.unwrap();
        assert_eq!((seen.kind.as_str(), seen.network_id), ("gre", None));
        assert_eq!(seen.src_ip, IpAddr::from([192, 0, 2, 1]));
        let last = IcmpError {
            icmp_type: 3,
            code: 1,
        };
        assert_eq!((taken.icmp_errors, taken.icmp_last), (3, Some(last)));
        assert_eq!(taken.dns.unwrap().query_type, 255);
        // An older sensor tells nothing of it.
        let older = v1::Flow {
            also_seen_on: Vec::new(),
            tunnel: None,
            icmp_last: None,
            dns: None,
            ..good.clone()
        };
        assert_eq!(flow(older).unwrap().tunnel, None);
        let refused: [fn(&mut v1::Flow); 6] = [
            |f| f.also_seen_on = vec![String::new(); ENTRIES_MAX + 1],
            |f| f.also_seen_on = vec!["x".repeat(SHORT_TEXT_BYTES_MAX + 1)],
            |f| f.tunnel.as_mut().unwrap().src_ip = vec![1],
            |f| f.tunnel.as_mut().unwrap().kind = "x".repeat(SHORT_TEXT_BYTES_MAX + 1),
            |f| f.icmp_last.as_mut().unwrap().r#type = 256,
            |f| f.dns.as_mut().unwrap().query_type = 65_536,
        ];
        for spoil in refused {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert_eq!(flow(bad), None);
        }
    }

    #[test]
    fn what_is_usual_is_kept_and_an_impossible_range_refuses_the_flow() {
        let good = v1::Flow {
            state: 1,
            src_ip: vec![10, 0, 0, 1],
            dst_ip: vec![10, 0, 0, 2],
            reasons: vec![v1::Reason {
                feature: "src_flows_log2".into(),
                usual_low: Some(0.0),
                usual_high: Some(2.5),
                ..v1::Reason::default()
            }],
            baseline: Some(v1::Baseline {
                initiator_known: true,
                score: 4.5,
                limit: 3.0,
                farthest: Some(v1::Deviation {
                    feature: "src_flows_log2".into(),
                    value: 9.0,
                    usual_low: 0.0,
                    usual_high: 2.5,
                }),
                ..v1::Baseline::default()
            }),
            ..v1::Flow::default()
        };
        let taken = flow(good.clone()).unwrap();
        assert_eq!(taken.reasons[0].usual_high, Some(2.5));
        let told = taken.baseline.unwrap();
        assert_eq!((told.initiator_known, told.responder_known), (true, false));
        assert_eq!(told.farthest.unwrap().feature, "src_flows_log2");
        // An older sensor tells nothing of it.
        let mut older = good.clone();
        older.baseline = None;
        older.reasons[0].usual_low = None;
        older.reasons[0].usual_high = None;
        let taken = flow(older).unwrap();
        assert_eq!((taken.baseline, taken.reasons[0].usual_low), (None, None));
        let refused: [fn(&mut v1::Flow); 7] = [
            |f| f.reasons[0].usual_low = Some(3.0),
            |f| f.reasons[0].usual_low = None,
            |f| f.reasons[0].usual_high = Some(f64::NAN),
            |f| f.baseline.as_mut().unwrap().score = -1.0,
            |f| f.baseline.as_mut().unwrap().limit = f64::INFINITY,
            |f| {
                f.baseline
                    .as_mut()
                    .unwrap()
                    .farthest
                    .as_mut()
                    .unwrap()
                    .usual_low = 3.0
            },
            |f| {
                let farthest = f.baseline.as_mut().unwrap().farthest.as_mut().unwrap();
                farthest.feature = "x".repeat(SHORT_TEXT_BYTES_MAX + 1);
            },
        ];
        for spoil in refused {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert_eq!(flow(bad), None);
        }
    }

    #[test]
    fn one_host_has_one_form_of_address() {
        let v4 = IpAddr::from([1, 2, 3, 4]);
        assert_eq!(address(&[1, 2, 3, 4]), Some(v4));
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4];
        assert_eq!(address(&mapped), Some(v4));
        assert_eq!(address(&[0; 5]), None);
        assert_eq!(address(&[]), None);
    }

    #[test]
    fn an_unstated_verdict_is_none_and_never_normal() {
        assert_eq!(verdict(0), Some(Verdict::NoVerdict));
        assert_eq!(verdict(5), None);
        assert_eq!(verdict(-1), None);
    }

    #[test]
    fn a_batch_above_the_size_limit_is_refused_before_it_is_read() {
        let mut big = wire(vec![]);
        big.payload = vec![0; BATCH_BYTES_MAX + 1];
        let refusal = batch(&name(), &big, &Elsewhere::new()).unwrap_err();
        assert_eq!(refusal, Refusal::BatchBytes(BATCH_BYTES_MAX + 1));
    }

    proptest! {
        #[test]
        fn any_payload_is_taken_or_refused_without_a_panic(
            payload in prop::collection::vec(any::<u8>(), 0..400),
            first_seq: u64,
            count in 0u32..5,
        ) {
            let wire = v1::Batch {
                stream_id: 1,
                first_seq,
                count,
                crc32: crc32fast::hash(&payload),
                payload,
            };
            if let Ok(batch) = batch(&name(), &wire, &Elsewhere::new()) {
                prop_assert_eq!(batch.records.len(), usize::try_from(count).unwrap());
                prop_assert!(batch.last_seq() >= batch.first_seq);
            }
        }
    }
}

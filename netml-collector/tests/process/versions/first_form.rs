//! Messages with the fields of the protocol's first form, each of them set. Compiled with the types of
//! then they gave `tests/recorded/first-*.hex`; with those of today they have to give the same bytes.

use netml_proto::v1;
use prost::Message as _;

/// Stream of all batches.
pub(crate) const STREAM: u64 = 0x0102_0304_0506_0708;

/// A time within the first day of the protocol.
const UNIX_NS: u64 = 1_795_353_600_000_000_000;

fn hello() -> v1::Hello {
    v1::Hello {
        protocol_version: 1,
        sensor: "recorded".into(),
        version: "0.1.0".into(),
        kernel: "6.18.0".into(),
        boot_id: "6d1a3c0e-0000-4000-8000-000000000001".into(),
        source: v1::Source::Live.into(),
        stream_id: STREAM,
        interfaces: vec![v1::Interface {
            slot: 1,
            ifindex: 2,
            name: "eth0".into(),
            ingress_mode: "native-xdp".into(),
            egress_mode: "tcx".into(),
            aggregated_totals: true,
        }],
        model_id: "m1".into(),
        schema_digest: "0123456789abcdef".into(),
        accepted_commands: vec!["traceroute".into(), "probe".into()],
        ..Default::default()
    }
}

fn counters() -> v1::Counters {
    v1::Counters {
        unix_ns: UNIX_NS,
        slot: 1,
        interface: "eth0".into(),
        direction: v1::Direction::Ingress.into(),
        attach_id: 77,
        packets: 100,
        bytes: 10_000,
        frames: 93,
        recorded: 90,
        lost: [("arp".to_owned(), 3)].into(),
        protocol_packets: [("tcp".to_owned(), 100)].into(),
        protocol_bytes: [("tcp".to_owned(), 10_000)].into(),
        ..Default::default()
    }
}

fn flow() -> v1::Flow {
    v1::Flow {
        flow_id: 0x1111_0000_0001,
        state: v1::FlowState::End.into(),
        end_reason: "fin".into(),
        first_unix_ns: UNIX_NS,
        last_unix_ns: UNIX_NS + 2_000_000_000,
        src_ip: vec![10, 0, 0, 1],
        dst_ip: vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        src_port: 40_000,
        dst_port: 443,
        ip_protocol: 6,
        interface: "eth0".into(),
        fwd_packets: 10,
        rev_packets: 9,
        fwd_bytes: 1_000,
        rev_bytes: 9_000,
        tcp_flags: 0x1b,
        verdict: v1::Verdict::Suspicious.into(),
        kind: "scan".into(),
        probability: 0.9,
        score: 0.8,
        reasons: vec![v1::Reason {
            feature: "syn_share".into(),
            value: 1.0,
            contribution: 0.25,
            ..Default::default()
        }],
        model_id: "m1".into(),
        lost_meanwhile: 1,
        expected_false_alarms_per_day: 0.5,
        initiator_direction: v1::Direction::Egress.into(),
        ..Default::default()
    }
}

fn packet() -> v1::PacketSample {
    v1::PacketSample {
        unix_ns: UNIX_NS,
        src_ip: vec![10, 0, 0, 1],
        dst_ip: vec![10, 0, 0, 2],
        src_port: 40_000,
        dst_port: 53,
        ip_protocol: 17,
        wire_bytes: 80,
        segments: 1,
        tcp_flags: 0x10,
        direction: v1::Direction::Egress.into(),
        interface: "eth0".into(),
        verdict: v1::Verdict::Unsure.into(),
        kind: "tunnel".into(),
        probability: 0.5,
        flow_id: 0x1111_0000_0001,
    }
}

fn event() -> v1::Event {
    v1::Event {
        unix_ns: UNIX_NS,
        kind: "started".into(),
        severity: "info".into(),
        message: "netml-agent 0.1.0 started".into(),
        fields: [("version".to_owned(), "0.1.0".to_owned())].into(),
    }
}

fn health() -> v1::Health {
    v1::Health {
        unix_ns: UNIX_NS,
        resident_bytes: 50 << 20,
        cpu_share: 0.25,
        ring_bytes: 16 << 20,
        ring_backlog_bytes: 4_096,
        flows_live: 12,
        flows_max: 100_000,
        backlog_records: 3,
        books: [("engine_in".to_owned(), 90)].into(),
        ..Default::default()
    }
}

/// A batch of records, numbered from `first_seq`.
pub(crate) fn batch_of(
    first_seq: u64,
    records: Vec<v1::record::Record>,
    crc32: fn(&[u8]) -> u32,
) -> v1::SensorMessage {
    let records: Vec<v1::Record> = records
        .into_iter()
        .map(|record| v1::Record {
            record: Some(record),
        })
        .collect();
    let count = u32::try_from(records.len()).unwrap();
    let payload = v1::Payload { records }.encode_to_vec();
    from_sensor(v1::sensor_message::Message::Batch(v1::Batch {
        stream_id: STREAM,
        first_seq,
        count,
        crc32: crc32(&payload),
        payload,
    }))
}

pub(crate) fn from_sensor(message: v1::sensor_message::Message) -> v1::SensorMessage {
    v1::SensorMessage {
        message: Some(message),
    }
}

pub(crate) fn from_collector(message: v1::collector_message::Message) -> v1::CollectorMessage {
    v1::CollectorMessage {
        message: Some(message),
    }
}

/// What a sensor of the first form sends: a hello, one record of each kind, a resend that overlaps, results of
/// commands.
pub(crate) fn first_sensor(crc32: fn(&[u8]) -> u32) -> Vec<v1::SensorMessage> {
    use v1::command_result::Result as Answer;
    use v1::record::Record;
    use v1::sensor_message::Message;
    let result = |done, result| {
        from_sensor(Message::Result(v1::CommandResult {
            id: 9,
            done,
            error: String::new(),
            result: Some(result),
        }))
    };
    vec![
        from_sensor(Message::Hello(hello())),
        batch_of(
            1,
            vec![
                Record::Event(event()),
                Record::Counters(counters()),
                Record::Packet(packet()),
            ],
            crc32,
        ),
        batch_of(
            3,
            vec![
                Record::Packet(packet()),
                Record::Flow(flow()),
                Record::Health(health()),
            ],
            crc32,
        ),
        result(
            false,
            Answer::Hop(v1::TracerouteHop {
                ttl: 1,
                address: "192.0.2.1".into(),
                rtt_ms: vec![0.5, 0.75],
                lost: 1,
                reached: true,
            }),
        ),
        result(
            true,
            Answer::Probe(v1::ProbeSummary {
                address: "192.0.2.1".into(),
                sent: 3,
                received: 2,
                rtt_min_ms: 0.5,
                rtt_mean_ms: 0.75,
                rtt_max_ms: 1.0,
                jitter_ms: 0.25,
                method: "icmp".into(),
            }),
        ),
    ]
}

/// What a collector of the first form sends: commands, and acknowledgements up to record 5.
pub(crate) fn first_collector() -> Vec<v1::CollectorMessage> {
    use v1::collector_message::Message;
    let command = |id, command| {
        from_collector(Message::Command(v1::Command {
            id,
            command: Some(command),
        }))
    };
    let ack = |seq| {
        from_collector(Message::Ack(v1::Ack {
            stream_id: STREAM,
            seq,
        }))
    };
    vec![
        command(
            8,
            v1::command::Command::Traceroute(v1::Traceroute {
                target: "127.0.0.1".into(),
                hops_max: 1,
                probes_per_hop: 1,
            }),
        ),
        command(
            9,
            v1::command::Command::Probe(v1::Probe {
                target: "127.0.0.1".into(),
                count: 2,
                interval_ms: 10,
            }),
        ),
        ack(3),
        ack(5),
    ]
}

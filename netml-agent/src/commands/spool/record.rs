//! Records of the wire as JSON for people and scripts. Names are those of the protocol; numbers that
//! JSON readers would round are hexadecimal text.

use std::net::IpAddr;

use netml_proto::v1;
use serde_json::{Value, json};

/// A record as an object with its kind as `record`.
pub(super) fn json(record: &v1::Record) -> Value {
    use v1::record::Record;
    match &record.record {
        Some(Record::Counters(counters)) => self::counters(counters),
        Some(Record::Flow(flow)) => self::flow(flow),
        Some(Record::Packet(packet)) => self::packet(packet),
        Some(Record::Event(event)) => json!({
            "record": "event",
            "unix_ns": event.unix_ns,
            "kind": event.kind,
            "severity": event.severity,
            "message": event.message,
            "fields": event.fields,
        }),
        Some(Record::Health(health)) => json!({
            "record": "health",
            "unix_ns": health.unix_ns,
            "resident_bytes": health.resident_bytes,
            "cpu_share": health.cpu_share,
            "ring_bytes": health.ring_bytes,
            "ring_backlog_bytes": health.ring_backlog_bytes,
            "flows_live": health.flows_live,
            "flows_max": health.flows_max,
            "backlog_records": health.backlog_records,
            "books": health.books,
            "stepped_down": health.stepped_down,
            "step_downs": health.step_downs,
        }),
        None => json!({ "record": "unknown" }),
    }
}

fn counters(counters: &v1::Counters) -> Value {
    json!({
        "record": "counters",
        "unix_ns": counters.unix_ns,
        "interface": counters.interface,
        "direction": name(counters.direction().as_str_name(), "DIRECTION_"),
        "attach_id": hex(counters.attach_id),
        "packets": counters.packets,
        "bytes": counters.bytes,
        "frames": counters.frames,
        "recorded": counters.recorded,
        "mapped": counters.mapped,
        "lost": counters.lost,
        "protocol_packets": counters.protocol_packets,
        "protocol_bytes": counters.protocol_bytes,
    })
}

fn flow(flow: &v1::Flow) -> Value {
    let reasons: Vec<Value> = flow
        .reasons
        .iter()
        .map(|reason| {
            json!({
                "feature": reason.feature,
                "value": reason.value,
                "contribution": reason.contribution,
            })
        })
        .collect();
    json!({
        "record": "flow",
        "flow_id": hex(flow.flow_id),
        "state": name(flow.state().as_str_name(), "FLOW_STATE_"),
        "end_reason": flow.end_reason,
        "first_unix_ns": flow.first_unix_ns,
        "last_unix_ns": flow.last_unix_ns,
        "src_ip": address(&flow.src_ip),
        "dst_ip": address(&flow.dst_ip),
        "src_port": flow.src_port,
        "dst_port": flow.dst_port,
        "ip_protocol": flow.ip_protocol,
        "interface": flow.interface,
        "fwd_packets": flow.fwd_packets,
        "rev_packets": flow.rev_packets,
        "fwd_bytes": flow.fwd_bytes,
        "rev_bytes": flow.rev_bytes,
        "tcp_flags": flow.tcp_flags,
        "verdict": name(flow.verdict().as_str_name(), "VERDICT_"),
        "kind": flow.kind,
        "probability": flow.probability,
        "score": flow.score,
        "reasons": reasons,
        "model_id": flow.model_id,
        "lost_meanwhile": flow.lost_meanwhile,
        "unrecorded_packets": flow.unrecorded_packets,
    })
}

fn packet(packet: &v1::PacketSample) -> Value {
    json!({
        "record": "packet",
        "unix_ns": packet.unix_ns,
        "src_ip": address(&packet.src_ip),
        "dst_ip": address(&packet.dst_ip),
        "src_port": packet.src_port,
        "dst_port": packet.dst_port,
        "ip_protocol": packet.ip_protocol,
        "wire_bytes": packet.wire_bytes,
        "segments": packet.segments,
        "tcp_flags": packet.tcp_flags,
        "direction": name(packet.direction().as_str_name(), "DIRECTION_"),
        "interface": packet.interface,
        "verdict": name(packet.verdict().as_str_name(), "VERDICT_"),
        "kind": packet.kind,
        "probability": packet.probability,
        "flow_id": hex(packet.flow_id),
    })
}

/// A name of the protocol without what all of its kind begin with.
fn name(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

/// An address, or nothing where the bytes are none.
fn address(bytes: &[u8]) -> Option<String> {
    let address: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
        _ => return None,
    };
    Some(address.to_string())
}

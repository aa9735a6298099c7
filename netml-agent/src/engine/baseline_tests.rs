//! What is usual for hosts, through the engine: packets and their time in, opinions out.

use std::sync::{Arc, LazyLock};

use netml_common::{Marks, PacketRecord};

use super::{Engine, FlowReport, FlowState, JudgedPacket, Settings, Sink};
use crate::baseline::WarmUp;
use crate::model::Model;
use crate::verdict::Verdict;

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Seconds of ordinary traffic before the scan, and of these until it is known what is usual.
const ORDINARY_S: u64 = 150;
const WARM_UP_S: u64 = 100;

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

fn packet(at: u64, from: u8, to: u8, ports: (u16, u16), flags: u8, payload: u32) -> PacketRecord {
    let address = |last| netml_common::walk::mapped([10, 0, 0, last]);
    PacketRecord {
        kind: 1,
        version: 1,
        length_units: 8,
        ip_protocol: 6,
        marks: Marks(0),
        slot: 0,
        segments: 1,
        mono_ns: at,
        src: address(from),
        dst: address(to),
        wire_bytes: 60 + payload,
        payload_bytes: payload,
        src_port: ports.0,
        dst_port: ports.1,
        tcp_flags: flags,
        hop_limit: 64,
        tcp_window: 1000,
    }
}

/// Host 1 asks server 2 for something and gets it.
fn exchange(at: u64, port: u16) -> [PacketRecord; 6] {
    let there =
        |step: u64, flags, payload| packet(at + step * MS, 1, 2, (port, 443), flags, payload);
    let back =
        |step: u64, flags, payload| packet(at + step * MS, 2, 1, (443, port), flags, payload);
    [
        there(0, 0x02, 0),
        back(10, 0x12, 0),
        there(20, 0x18, 300),
        back(40, 0x18, 900),
        there(60, 0x11, 0),
        back(70, 0x11, 0),
    ]
}

/// Such, every second, then host 1 tries the ports of host 3.
fn ordinary_then_scan(begin: u64) -> Vec<PacketRecord> {
    let mut packets: Vec<_> = (0..ORDINARY_S)
        .flat_map(|second| exchange(begin + second * S, 10_000 + second as u16))
        .collect();
    for port in 1..=400 {
        let at = begin + ORDINARY_S * S + u64::from(port) * 5 * MS;
        packets.push(packet(at, 1, 3, (60_000, port), 0x02, 0));
        packets.push(packet(at + MS, 3, 1, (port, 60_000), 0x14, 0));
    }
    packets
}

/// Flows in the order in which they began; `batch` packets between two flushes.
fn judged(begin: u64, batch: usize) -> Vec<FlowReport> {
    static MODEL: LazyLock<Arc<Model>> =
        LazyLock::new(|| Arc::new(crate::model::embedded().unwrap()));
    let settings = Settings {
        warm_up: WarmUp {
            observations: 50,
            time_ns: WARM_UP_S * S,
        },
        ..Settings::default()
    };
    let mut engine = Engine::new(settings, Some(Arc::clone(&MODEL)));
    let mut ended = Ended::default();
    for packets in ordinary_then_scan(begin).chunks(batch) {
        for packet in packets {
            engine.packet(packet, &mut ended);
        }
        engine.flush(&mut ended);
    }
    engine.finish(&mut ended);
    assert_eq!(engine.books().baselines_evicted, 0);
    ended.0.sort_by_key(|flow| flow.flow_id);
    ended.0
}

#[test]
fn a_known_host_that_scans_is_unusual_and_its_reasons_tell_what_is_usual() {
    let flows = judged(S, 1);
    let (ordinary, scan) = flows.split_at(ORDINARY_S as usize);
    // The warm-up is not over, then it is, and nothing is unusual of what the host does all day.
    let (new, known) = ordinary.split_at(WARM_UP_S as usize);
    assert!(new.iter().all(|flow| !flow.verdict.baseline.is_known()));
    let known = &known[2..];
    assert!(known.iter().all(|flow| {
        let opinion = flow.verdict.baseline;
        opinion.initiator_known && opinion.responder_known && !opinion.is_unusual()
    }));
    let last = scan.last().unwrap();
    assert_eq!(last.verdict.verdict, Verdict::Suspicious);
    let opinion = last.verdict.baseline;
    assert!(
        opinion.initiator_known && opinion.is_unusual(),
        "{opinion:?}"
    );
    assert!(!opinion.responder_known, "nobody has asked host 3 before");
    let farthest = opinion.farthest().unwrap();
    assert!(farthest.feature.starts_with("src_"), "{farthest:?}");
    assert!(farthest.value > farthest.usual.high);
    // The reasons that are of the known host have a range, those of the other one and of flows none.
    let told = |prefix: &str| {
        let reasons = scan.iter().flat_map(|flow| &flow.verdict.reasons);
        let of_prefix: Vec<_> = reasons.filter(|r| r.feature.starts_with(prefix)).collect();
        let with = of_prefix.iter().filter(|r| r.usual.is_some()).count();
        (with, of_prefix.len())
    };
    let (with, all) = told("src_");
    assert!(all > 0 && with == all, "{with} of {all}");
    for prefix in ["dst_", "pair_", "flow_", "others"] {
        assert_eq!(told(prefix).0, 0, "{prefix}");
    }
    assert!(ordinary.iter().all(|flow| flow.verdict.reasons.is_empty()));
}

#[test]
fn neither_batches_nor_the_time_of_day_change_what_is_usual() {
    let opinions = |flows: &[FlowReport]| -> Vec<_> {
        let told = flows
            .iter()
            .map(|flow| (flow.verdict.baseline, flow.verdict.reasons.clone()));
        told.collect()
    };
    let expected = opinions(&judged(S, 1));
    assert!(expected.iter().any(|(opinion, _)| opinion.is_unusual()));
    assert_eq!(opinions(&judged(S, 1_000)), expected);
    assert_eq!(opinions(&judged(1_000_000 * S, 64)), expected);
}

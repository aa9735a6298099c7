//! Packets per second through decode, flow table and features, without and with the forest.
//!
//! Records of a mix of 4,096 flows (web-like, DNS-like, bulk, a scan) are made once in memory and
//! pushed through each stage in turn, several rounds, so that a slow moment of the machine hits
//! all stages alike. Prints the median, minimum and maximum of each stage and its ratio to
//! decoding alone. Run: `cargo bench --bench pipeline`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use netml_agent::engine::{Engine, FlowReport, JudgedPacket, Settings, Sink};
use netml_agent::model::Model;
use netml_common::{Marks, PACKET_RECORD_BYTES, PacketRecord};

const PACKETS: usize = 1_000_000;
const ROUNDS: usize = 7;

#[derive(Default)]
struct Counting {
    flows: u64,
    packets: u64,
}

impl Sink for Counting {
    fn flow(&mut self, _report: &FlowReport) {
        self.flows += 1;
    }
    fn packet(&mut self, _packet: &JudgedPacket) {
        self.packets += 1;
    }
}

fn main() {
    let ring = ring_bytes();
    let model = netml_agent::model::embedded().ok().map(Arc::new);
    let mut stages: Vec<(&str, Vec<f64>)> = vec![
        ("decode", Vec::new()),
        ("decode + flows + features", Vec::new()),
        ("decode + flows + features + forest", Vec::new()),
    ];
    let (mut rows, mut flows) = (0, 0);
    for _ in 0..ROUNDS {
        stages[0].1.push(timed(|| {
            for record in ring.chunks_exact(PACKET_RECORD_BYTES) {
                let record = black_box(PacketRecord::from_bytes(black_box(record)));
                assert!(record.is_ok(), "the records are valid");
            }
        }));
        stages[1]
            .1
            .push(timed(|| (rows, flows) = through_engine(&ring, None)));
        if model.is_some() {
            let model = model.clone();
            stages[2]
                .1
                .push(timed(|| (rows, flows) = through_engine(&ring, model)));
        }
    }
    println!(
        "input: {PACKETS} records in memory, {flows} flows, {rows} rows judged; {ROUNDS} rounds, one thread"
    );
    let base = median(&mut stages[0].1);
    for (name, rates) in &mut stages {
        if rates.is_empty() {
            println!("{name:38} no embedded model");
            continue;
        }
        let middle = median(rates);
        println!(
            "{name:38} median {:7.2} M packets/s (min {:.2}, max {:.2}), {:.3} of decode",
            middle / 1e6,
            rates[0] / 1e6,
            rates[rates.len() - 1] / 1e6,
            middle / base
        );
    }
}

fn through_engine(ring: &[u8], model: Option<Arc<Model>>) -> (u64, u64) {
    let mut engine = Engine::new(Settings::default(), model);
    let mut sink = Counting::default();
    for batch in ring.chunks(PACKET_RECORD_BYTES * 256) {
        for record in batch.chunks_exact(PACKET_RECORD_BYTES) {
            if let Ok(record) = PacketRecord::from_bytes(record) {
                engine.packet(&record, &mut sink);
            }
        }
        engine.flush(&mut sink);
    }
    engine.finish(&mut sink);
    assert_eq!(sink.packets as usize, PACKETS, "every packet is shown once");
    (engine.books().rows, engine.books().flows_ended)
}

/// Packets per second.
fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    PACKETS as f64 / start.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The records as they would lie in the ring: one packet a microsecond.
fn ring_bytes() -> Vec<u8> {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut bytes = Vec::with_capacity(PACKETS * PACKET_RECORD_BYTES);
    for i in 0..PACKETS as u64 {
        let flow = random(4096);
        let forward = random(2) == 0;
        let scan = random(50) == 0;
        let client = netml_common::walk::mapped([10, 0, (flow >> 8) as u8, flow as u8]);
        let server = netml_common::walk::mapped([10, 1, 0, (flow % 32) as u8]);
        let (client_port, server_port, protocol, flags) = match flow % 4 {
            _ if scan => (50_000, random(1024) as u16, 6, 0x02),
            0 => (40_000 + flow as u16, 53, 17, 0),
            _ => (30_000 + flow as u16, 443, 6, 0x18),
        };
        let forward = forward || scan;
        let payload_bytes = if scan { 0 } else { random(1400) as u32 };
        let record = PacketRecord {
            kind: 1,
            version: 1,
            length_units: 8,
            ip_protocol: protocol,
            marks: Marks(if forward { 0 } else { Marks::EGRESS }),
            slot: 0,
            segments: 1,
            mono_ns: 1_000_000_000 + i * 1000,
            src: if forward { client } else { server },
            dst: if forward { server } else { client },
            wire_bytes: 54 + payload_bytes,
            payload_bytes,
            src_port: if forward { client_port } else { server_port },
            dst_port: if forward { server_port } else { client_port },
            tcp_flags: flags,
            hop_limit: 64,
            tcp_window: 500,
        };
        bytes.extend(record.to_bytes());
    }
    bytes
}

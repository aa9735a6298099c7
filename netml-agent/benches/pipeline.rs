//! Packets per second of each stage: the walk of a frame, a capture file in memory, decoding of
//! records, flow table and features, the forest, and the whole from file to verdict.
//!
//! Packets of a mix of 4,096 flows (web-like, DNS-like, bulk, a scan) are made once in memory, as
//! records and as a capture with a snap length of 64 bytes, and pushed through each stage in turn,
//! several rounds, so that a slow moment of the machine hits all stages alike. Prints the median,
//! minimum and maximum of each stage and its ratio to decoding alone. The clock is the processor
//! time of the thread: what other programs take from it does not count. Run:
//! `cargo xtask bench capture`.

mod clock;

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;

use netml_agent::capture_file::{self, Item, Reader, write::Writer};
use netml_agent::engine::{Engine, FlowReport, JudgedPacket, Settings, Sink};
use netml_agent::model::Model;
use netml_common::{Link, Marks, PACKET_RECORD_BYTES, PacketRecord, walk};

use clock::processor_s;

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

/// Bytes of each packet that the capture keeps.
const SNAP_BYTES: usize = 64;

/// A stage's name and what it does with the records and the capture.
type Stage<'a> = (&'static str, Box<dyn Fn() + 'a>);

fn main() {
    let ring = ring_bytes();
    let frames = frames(&ring);
    let capture = capture_bytes(&ring, &frames);
    let model = netml_agent::model::embedded().ok().map(Arc::new);
    let mut stages: Vec<Stage<'_>> = vec![
        ("decode a record", Box::new(|| decode(&ring))),
        ("walk a frame", Box::new(|| walk_all(&ring, &frames))),
        ("file in memory to records", Box::new(|| read(&capture))),
        (
            "decode + flows + features",
            Box::new(|| {
                through_engine(&ring, None);
            }),
        ),
    ];
    if let Some(model) = &model {
        stages.push((
            "decode + flows + features + forest",
            Box::new(|| {
                through_engine(&ring, Some(Arc::clone(model)));
            }),
        ));
    }
    stages.push((
        "file to verdict, the whole",
        Box::new(|| replay(&capture, model.clone())),
    ));
    let (rows, flows) = through_engine(&ring, None);
    let mut rates = vec![Vec::with_capacity(ROUNDS); stages.len()];
    for _ in 0..ROUNDS {
        for ((_, stage), rates) in stages.iter().zip(&mut rates) {
            rates.push(timed(stage));
        }
    }
    println!(
        "input: {PACKETS} packets in memory, {flows} flows, {rows} rows judged; {ROUNDS} rounds, one thread, its processor time"
    );
    let base = median(&mut rates[0]);
    for ((name, _), rates) in stages.iter().zip(&mut rates) {
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

fn decode(ring: &[u8]) {
    for record in ring.chunks_exact(PACKET_RECORD_BYTES) {
        let record = black_box(PacketRecord::from_bytes(black_box(record)));
        assert!(record.is_ok(), "the records are valid");
    }
}

fn walk_all(ring: &[u8], frames: &[u8]) {
    for (frame, record) in frames
        .chunks_exact(SNAP_BYTES)
        .zip(ring.chunks_exact(PACKET_RECORD_BYTES))
    {
        let wire_bytes = u32::from_ne_bytes([record[48], record[49], record[50], record[51]]);
        let walked = black_box(walk(black_box(frame), wire_bytes, Link::Ethernet));
        assert!(walked.is_ok(), "the frames are valid");
    }
}

fn open(capture: &Arc<[u8]>) -> Option<Reader> {
    let read = Box::new(Cursor::new(Arc::clone(capture)));
    capture_file::from_read("memory", read).ok()
}

/// Every record of the capture.
fn each(capture: &Arc<[u8]>, mut take: impl FnMut(&PacketRecord)) {
    let mut packets = 0;
    if let Some(mut reader) = open(capture) {
        while let Ok(Some(Item::Packet(record))) = reader.next_item() {
            take(&record);
            packets += 1;
        }
    }
    assert_eq!(packets, PACKETS, "every packet of the capture is read");
}

fn read(capture: &Arc<[u8]>) {
    each(capture, |record| {
        black_box(record);
    });
}

fn replay(capture: &Arc<[u8]>, model: Option<Arc<Model>>) {
    let mut engine = Engine::new(Settings::default(), model);
    let mut sink = Counting::default();
    let mut since_flush = 0;
    each(capture, |record| {
        engine.packet(record, &mut sink);
        since_flush += 1;
        if since_flush == 256 {
            engine.flush(&mut sink);
            since_flush = 0;
        }
    });
    engine.finish(&mut sink);
    assert_eq!(sink.packets as usize, PACKETS, "every packet is shown once");
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

/// Packets per second of this thread's processor time.
fn timed(run: impl FnOnce()) -> f64 {
    let start = processor_s();
    run();
    PACKETS as f64 / (processor_s() - start)
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

/// The beginning of each packet's frame, [`SNAP_BYTES`] each.
fn frames(ring: &[u8]) -> Vec<u8> {
    let mut frames = Vec::with_capacity(PACKETS * SNAP_BYTES);
    for record in ring.chunks_exact(PACKET_RECORD_BYTES) {
        let Ok(record) = PacketRecord::from_bytes(record) else {
            continue;
        };
        let mut frame = [0; SNAP_BYTES];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(record.wire_bytes as u16 - 14).to_be_bytes());
        frame[22] = record.hop_limit;
        frame[23] = record.ip_protocol;
        frame[26..30].copy_from_slice(&record.src[12..]);
        frame[30..34].copy_from_slice(&record.dst[12..]);
        frame[34..36].copy_from_slice(&record.src_port.to_be_bytes());
        frame[36..38].copy_from_slice(&record.dst_port.to_be_bytes());
        frame[46..48].copy_from_slice(&[0x50, record.tcp_flags]);
        frames.extend(frame);
    }
    frames
}

/// The same as a capture file.
fn capture_bytes(ring: &[u8], frames: &[u8]) -> Arc<[u8]> {
    let mut file = Vec::with_capacity(PACKETS * (SNAP_BYTES + 16) + 24);
    let link = netml_agent::capture_file::write::LINK_ETHERNET;
    let mut written = Writer::new(&mut file, link, SNAP_BYTES as u32);
    if let Ok(writer) = &mut written {
        for (frame, record) in frames
            .chunks_exact(SNAP_BYTES)
            .zip(ring.chunks_exact(PACKET_RECORD_BYTES))
        {
            if let Ok(record) = PacketRecord::from_bytes(record) {
                let done = writer.packet(record.mono_ns, record.wire_bytes, frame);
                assert!(done.is_ok(), "memory takes everything");
            }
        }
    }
    drop(written);
    file.into()
}

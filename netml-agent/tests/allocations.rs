//! Nothing is allocated per packet in steady state: from the record's bytes, or a capture file,
//! through flows, features and the forest to the sink. Counted by the allocator itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;
use std::sync::Arc;

use netml_agent::baseline::WarmUp;
use netml_agent::capture_file::{self, Item};
use netml_agent::engine::{Books, Engine, FlowReport, JudgedPacket, Settings, Sink};
use netml_agent::verdict::Verdict;
use netml_common::{Marks, PACKET_RECORD_BYTES, PacketRecord};

thread_local! {
    /// Allocations and growths of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator can be counted by an allocator only"
)]
// SAFETY: every call goes to the system's allocator as it came; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of `dealloc`, and `alloc` gave what System gave.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the rules of `realloc`.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

/// Allocations of this thread while `run` runs.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    run();
    ALLOCATIONS.with(Cell::get) - before
}

#[derive(Default)]
struct Counted {
    packets: u64,
    reports: u64,
    not_normal: u64,
    compared: u64,
}

impl Sink for Counted {
    fn flow(&mut self, report: &FlowReport) {
        self.reports += 1;
        self.not_normal += u64::from(report.verdict.verdict > Verdict::Normal);
        self.compared += u64::from(report.verdict.baseline.is_known());
    }
    fn packet(&mut self, packet: &JudgedPacket) {
        self.packets += 1;
        self.not_normal += u64::from(packet.verdict > Verdict::Normal);
    }
}

const FLOWS: u32 = 200;
/// Between two packets: 200 flows in turn, each has a packet every 300 ms.
const STEP_NS: u64 = 1_500_000;
/// Five minutes and two and a half: flows are judged when quiet, reported, aged out at their active
/// time-out and begun anew.
const WARM_PACKETS: u64 = 200_000;
const PACKETS: u64 = 100_000;

/// Packet `number` of clients that ask a server over TLS and get answers.
fn record(number: u64) -> PacketRecord {
    let flow = (number % u64::from(FLOWS)) as u32;
    let turn = number / u64::from(FLOWS);
    let client = netml_common::walk::mapped([10, 0, 0, (flow % 20) as u8 + 1]);
    let server = netml_common::walk::mapped([192, 0, 2, (flow % 5) as u8 + 1]);
    let forward = turn.is_multiple_of(3);
    let tcp_flags = match turn {
        0 => 0x02,
        1 => 0x12,
        _ if forward => 0x18,
        _ => 0x10,
    };
    let payload_bytes = match turn {
        0 | 1 => 0,
        _ if forward => 200 + (turn % 7) as u32 * 31,
        _ => 1_200 + (turn % 11) as u32 * 17,
    };
    let (src, dst, src_port, dst_port) = if forward {
        (client, server, 40_000 + flow as u16, 443)
    } else {
        (server, client, 443, 40_000 + flow as u16)
    };
    PacketRecord {
        kind: 1,
        version: 1,
        length_units: 8,
        ip_protocol: 6,
        marks: Marks(if forward { Marks::EGRESS } else { 0 }),
        slot: 0,
        segments: 1,
        mono_ns: 1_000_000_000 + number * STEP_NS,
        src,
        dst,
        wire_bytes: 66 + payload_bytes,
        payload_bytes,
        src_port,
        dst_port,
        tcp_flags,
        hop_limit: 64,
        tcp_window: 500,
    }
}

/// Records `from..to` as bytes through the engine, in batches as the ring reader makes them.
fn drive(engine: &mut Engine, sink: &mut Counted, bytes: &[u8]) {
    for batch in bytes.chunks(256 * PACKET_RECORD_BYTES) {
        for bytes in batch.chunks_exact(PACKET_RECORD_BYTES) {
            engine.packet(&PacketRecord::from_bytes(bytes).unwrap(), sink);
        }
        engine.flush(sink);
    }
}

fn bytes(numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers
        .flat_map(|number| record(number).to_bytes())
        .collect()
}

/// Allocations in steady state, and what the engine did meanwhile.
fn steady(model: Option<Arc<netml_agent::model::Model>>) -> (u64, Books, Counted) {
    // Hosts are compared with their past in all of the measured span.
    let settings = Settings {
        warm_up: WarmUp {
            observations: 5,
            time_ns: 30_000_000_000,
        },
        ..Settings::default()
    };
    let mut engine = Engine::new(settings, model);
    let mut sink = Counted::default();
    drive(&mut engine, &mut sink, &bytes(0..WARM_PACKETS));
    let before = engine.books();
    let records = bytes(WARM_PACKETS..WARM_PACKETS + PACKETS);
    let mut sink = Counted::default();
    let count = allocations(|| drive(&mut engine, &mut sink, &records));
    let mut books = engine.books();
    books.rows -= before.rows;
    books.flows_ended -= before.flows_ended;
    (count, books, sink)
}

#[test]
fn records_through_flows_and_features_allocate_nothing() {
    let (count, books, sink) = steady(None);
    assert_eq!(sink.packets, PACKETS);
    // The measured span holds all that happens in the life of a flow.
    assert!(books.rows > 1_000 && sink.reports > 1_000 && sink.compared > 1_000);
    assert!(books.flows_ended >= u64::from(FLOWS));
    assert_eq!(count, 0, "allocations for {PACKETS} packets");
}

#[test]
fn records_through_the_forest_allocate_nothing_while_flows_stay_normal() {
    let model = netml_agent::model::embedded().unwrap();
    let (count, books, sink) = steady(Some(Arc::new(model)));
    assert_eq!(sink.packets, PACKETS);
    assert_eq!(sink.not_normal, 0, "the traffic is meant to be normal");
    assert!(books.rows > 1_000 && books.flows_ended >= u64::from(FLOWS));
    assert_eq!(count, 0, "allocations for {PACKETS} packets");
}

#[test]
fn a_capture_is_read_without_an_allocation_per_packet() {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([
        10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4,
    ]);
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0]);
    for value in [0, 0, 65_535, 1] {
        file.extend(u32::to_le_bytes(value));
    }
    for second in 0..20_000 {
        let length = frame.len() as u32;
        for value in [1_600_000_000 + second, 0, length, length] {
            file.extend(value.to_le_bytes());
        }
        file.extend(&frame);
    }
    let mut reader = capture_file::from_read("test", Box::new(Cursor::new(file))).unwrap();
    let mut packets = 0;
    let mut read = |at_most: u64| {
        let mut left = at_most;
        while left > 0
            && let Some(Item::Packet(_)) = reader.next_item().unwrap()
        {
            packets += 1;
            left -= 1;
        }
    };
    read(100);
    let count = allocations(|| read(u64::MAX));
    assert_eq!((packets, count), (20_000, 0));
}

//! Step-down: what becomes of packets when the reader cannot keep up. Each goes exactly one way,
//! flows keep exact totals, half-open flows cannot crowd out established ones, and the kernel goes
//! back to recording everything by itself.
//!
//! The first tests run the programs over hand-made frames. The last ones run the sensor itself in
//! a namespace, with a reader that rests, and under a flood from inside the kernel.
#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking"
)]

mod kernel;
/// The benches send by the same means.
#[path = "../../xtask/src/bench/live_frames.rs"]
mod live_frames;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use kernel::may_load;
use netml_agent::engine::FlowTotals;
use netml_agent::probe::StepDownSettings;
use netml_agent::probe::object::{self, LoadSettings, Loaded};
use netml_common::knobs::{EGRESS_PROGRAM, InterfaceEntry, XDP_PROGRAM};
use netml_common::{
    Direction, Extras, FlowKey, InterfaceCounters, Link, LossReason, Network, PacketRecord,
    StepDown, walk_with_extras,
};

/// The kernel's test run sends frames from the loopback device.
const TEST_RUN_IFINDEX: u32 = 1;
const RING_BYTES: u32 = 64 << 10;

const SYN: u8 = 2;
const ACK: u8 = 16;
const PSH_ACK: u8 = 24;

/// Ethernet, IPv4, TCP without options.
fn tcp(src: (u32, u16), dst: (u32, u16), flags: u8, payload: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((40 + payload as u16).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(src.0.to_be_bytes());
    frame.extend(dst.0.to_be_bytes());
    frame.extend(src.1.to_be_bytes());
    frame.extend(dst.1.to_be_bytes());
    frame.extend([0; 8]);
    frame.extend([0x50, flags, 0x12, 0x34, 0, 0, 0, 0]);
    frame.extend(vec![0; payload]);
    frame
}

struct Bench {
    loaded: Loaded,
    records: HashMap<FlowKey, u64>,
    mapped: HashMap<FlowKey, u64>,
    mapped_bytes: u64,
}

impl Bench {
    fn new(step_down: StepDownSettings) -> Self {
        let entry = InterfaceEntry {
            slot: 0,
            link: InterfaceEntry::ETHERNET,
            ingress_marks: 0,
            reserved: 0,
        };
        let mut loaded = object::load(&LoadSettings {
            ring_bytes: RING_BYTES,
            wake_fill_bytes: RING_BYTES / 2,
            decapsulate: true,
            interfaces: vec![(TEST_RUN_IFINDEX, entry)],
            step_down,
        })
        .unwrap();
        object::xdp(&mut loaded.bpf, XDP_PROGRAM).unwrap();
        object::classifier(&mut loaded.bpf, EGRESS_PROGRAM).unwrap();
        Self {
            loaded,
            records: HashMap::new(),
            mapped: HashMap::new(),
            mapped_bytes: 0,
        }
    }

    fn run(&mut self, direction: Direction, frame: &[u8], times: u32) {
        let options = repeated(frame, times);
        let bpf = &mut self.loaded.bpf;
        let result = match direction {
            Direction::Ingress => object::xdp(bpf, XDP_PROGRAM).unwrap().test_run(options),
            Direction::Egress => object::classifier(bpf, EGRESS_PROGRAM)
                .unwrap()
                .test_run(options),
        };
        result.unwrap();
    }

    fn counters(&self) -> InterfaceCounters {
        let mut sum = InterfaceCounters::ZERO;
        for direction in [Direction::Ingress, Direction::Egress] {
            sum.add(&self.loaded.counters.read(0, direction).unwrap());
        }
        assert!(sum.balanced(), "{sum:?}");
        sum
    }

    fn state(&self) -> StepDown {
        self.loaded.flows.state().unwrap()
    }

    /// Takes all records.
    fn drain(&mut self) {
        let records = &mut self.records;
        self.loaded.ring.drain(usize::MAX, |record| {
            let (record, extras): (PacketRecord, Extras) = record.unwrap();
            let keyed = FlowKey::of_packet(&record, Network::of_extras(&extras));
            *records.entry(keyed.key).or_default() += 1;
        });
    }

    /// Takes what the maps counted.
    fn read(&mut self, now_mono_ns: u64) {
        let Self {
            mapped,
            mapped_bytes,
            loaded,
            ..
        } = self;
        let take = |totals: &FlowTotals| {
            *mapped.entry(totals.key).or_default() += totals.frames();
            *mapped_bytes += totals.low.bytes + totals.high.bytes;
        };
        loaded.flows.read(now_mono_ns, |_| false, take).unwrap();
    }

    fn seen(&self, key: &FlowKey) -> u64 {
        let of = |map: &HashMap<FlowKey, u64>| map.get(key).copied().unwrap_or(0);
        of(&self.records) + of(&self.mapped)
    }
}

fn repeated(frame: &[u8], times: u32) -> TestRunOptions<'_> {
    TestRunOptions {
        data_in: Some(frame),
        repeat: times,
        ..TestRunOptions::new()
    }
}

fn key(frame: &[u8]) -> FlowKey {
    let bytes = frame.len() as u32;
    let (walked, extras) = walk_with_extras(frame, bytes, Link::Ethernet, true).unwrap();
    let record = walked.record(0, 0, Direction::Ingress, 1, bytes);
    FlowKey::of_packet(&record, Network::of_extras(&extras)).key
}

/// The frame in a VXLAN network.
fn in_vxlan(network_id: u32, frame: &[u8]) -> Vec<u8> {
    let mut outer = tcp((0xc0a8_0001, 9999), (0xc0a8_0002, 4789), 0, 0)[..42].to_vec();
    let udp_bytes = (16 + frame.len()) as u16;
    outer[16..18].copy_from_slice(&(20 + udp_bytes).to_be_bytes());
    outer[23] = 17;
    outer[38..40].copy_from_slice(&udp_bytes.to_be_bytes());
    outer.extend([8, 0, 0, 0]);
    outer.extend((network_id << 8).to_be_bytes());
    outer.extend(frame);
    outer
}

#[test]
fn what_finds_no_room_is_counted_in_its_flow_and_the_mode_ends_by_itself() {
    if !may_load() {
        return;
    }
    const RUNS: u32 = 700;
    let mut bench = Bench::new(StepDownSettings::of_ring(RING_BYTES));
    let pairs: Vec<_> = (0..5)
        .map(|i| {
            let (a, b) = ((0x0a00_0001, 4000 + i), (0x0a00_0002, 80));
            (tcp(a, b, PSH_ACK, 100), tcp(b, a, ACK, 0))
        })
        .collect();
    let mut sent_bytes = 0;
    for (there, back) in &pairs {
        bench.run(Direction::Ingress, there, RUNS);
        bench.run(Direction::Egress, back, RUNS);
        sent_bytes += u64::from(RUNS) * (there.len() + back.len()) as u64;
    }
    let counters = bench.counters();
    assert_eq!(counters.frames, u64::from(RUNS) * 10);
    assert_eq!(counters.bytes, sent_bytes);
    assert_eq!(counters.lost_total(), 0, "every frame found a place");
    assert!(counters.mapped > 4_000, "{counters:?}");
    let state = bench.state();
    assert!(state.is_stepped_down() && state.since_mono_ns > 0);
    // In two steps: nothing is told twice.
    bench.read(0);
    bench.read(0);
    bench.drain();
    for (there, _) in &pairs {
        assert_eq!(bench.seen(&key(there)), u64::from(RUNS) * 2);
    }
    assert_eq!(bench.loaded.flows.books().frames, counters.mapped);
    // The ring is empty: the next frame is recorded and the mode is over.
    bench.run(Direction::Ingress, &pairs[0].0, 1);
    let state = bench.state();
    assert!(!state.is_stepped_down());
    assert_eq!(state.step_downs(), 1);
    assert_eq!(bench.counters().recorded, counters.recorded + 1);
}

#[test]
fn the_same_ends_in_two_networks_are_counted_apart() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(StepDownSettings::of_ring(RING_BYTES));
    let (a, b) = ((0x0a00_0001, 4000), (0x0a00_0002, 80));
    let (there, back) = (tcp(a, b, PSH_ACK, 100), tcp(b, a, ACK, 0));
    let ways = [None, Some(0), Some(7), Some(0x00ff_ffff)].map(|network_id| {
        [&there, &back].map(|frame| match network_id {
            Some(network_id) => in_vxlan(network_id, frame),
            None => frame.clone(),
        })
    });
    // Some are recorded, the rest is counted; of each network another number of both.
    let runs = [900, 1_000, 1_100, 1_200];
    for ([there, back], runs) in ways.iter().zip(runs) {
        bench.run(Direction::Ingress, there, runs);
        bench.run(Direction::Egress, back, 1);
    }
    let counters = bench.counters();
    assert_eq!(counters.lost_total(), 0);
    assert!(counters.mapped > 1_000, "{counters:?}");
    bench.read(0);
    bench.drain();
    for ([there, back], runs) in ways.iter().zip(runs) {
        assert_eq!(key(there), key(back));
        assert_eq!(bench.seen(&key(there)), u64::from(runs) + 1);
    }
    assert_eq!(bench.records.len(), 4);
}

#[test]
fn a_flow_keeps_its_first_records_its_turns_and_one_in_k_while_stepped_down() {
    if !may_load() {
        return;
    }
    // Stepped down from the first frame on, with room in the ring for all that is offered.
    let mut bench = Bench::new(StepDownSettings {
        high_mark_bytes: 0,
        low_mark_bytes: 0,
        first_records: 4,
        sample_one_in: 16,
        ..StepDownSettings::of_ring(RING_BYTES)
    });
    let (a, b) = ((0x0a00_0001, 4000), (0x0a00_0002, 80));
    let data = tcp(a, b, ACK, 10);
    bench.run(Direction::Ingress, &data, 100);
    // Frames 1 to 4, and those where the count so far is 16, 32, … 96.
    assert_eq!(bench.counters().recorded, 4 + 6);
    for (flags, recorded) in [(PSH_ACK, 1), (PSH_ACK, 0), (ACK | 1, 1), (ACK | 1, 1)] {
        let before = bench.counters().recorded;
        bench.run(Direction::Ingress, &tcp(a, b, flags, 10), 1);
        assert_eq!(bench.counters().recorded - before, recorded, "{flags:#x}");
    }
    let counters = bench.counters();
    assert_eq!(counters.frames, 104);
    assert_eq!(counters.recorded + counters.mapped, 104);
}

/// A program that has just found an entry counts there, removed or not: in the latter case the
/// books would miss a frame.
#[test]
fn an_entry_in_use_stays_though_all_its_packets_were_recorded() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(StepDownSettings {
        high_mark_bytes: 0,
        low_mark_bytes: 0,
        ..StepDownSettings::of_ring(RING_BYTES)
    });
    let (a, b) = ((0x0a00_0001, 4000), (0x0a00_0002, 80));
    let one_way = tcp((0x0a00_0003, 4000), b, ACK, 0);
    bench.run(Direction::Ingress, &tcp(a, b, ACK, 0), 1);
    bench.run(Direction::Egress, &tcp(b, a, ACK, 0), 1);
    bench.run(Direction::Ingress, &one_way, 1);
    assert_eq!(bench.counters().recorded, 3);
    let now_ns = bench.state().since_mono_ns;
    bench.read(now_ns + 1_000_000_000);
    let books = bench.loaded.flows.books();
    assert_eq!((books.removed, books.opening), (0, 2));
    bench.read(now_ns + 600_000_000_000);
    bench.read(now_ns + 600_000_000_000);
    let books = bench.loaded.flows.books();
    assert_eq!((books.removed, books.opening), (3, 0));
}

/// Half-open flows of as many sources, one established flow among them.
fn flood(sources: u32) {
    const OPENING_ENTRIES: u32 = 512;
    const EVERY: u32 = 1_000;
    let mut bench = Bench::new(StepDownSettings {
        opening_entries: OPENING_ENTRIES,
        established_entries: 64,
        ..StepDownSettings::of_ring(RING_BYTES)
    });
    let (a, b) = ((0x0a00_0001, 4000), (0x0a00_0002, 80));
    let (there, back) = (tcp(a, b, PSH_ACK, 100), tcp(b, a, ACK, 0));
    bench.run(Direction::Ingress, &there, 1);
    bench.run(Direction::Egress, &back, 1);
    // The ring is filled past its mark by one flow, so that the next frames are looked up.
    bench.run(
        Direction::Ingress,
        &tcp((0x0a00_0009, 9), b, ACK, 0),
        RING_BYTES / 72,
    );
    bench.run(Direction::Ingress, &there, 1);
    bench.run(Direction::Egress, &back, 1);
    let mut frames = 4;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for i in 0..sources {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let source = (random as u32, (random >> 32) as u16);
        bench.run(Direction::Ingress, &tcp(source, b, SYN, 0), 1);
        if i % EVERY == 0 {
            bench.run(Direction::Ingress, &there, 1);
            bench.run(Direction::Egress, &back, 1);
            frames += 2;
        }
    }
    let counters = bench.counters();
    let full = counters.lost[LossReason::FlowMapFull.index()];
    assert!(full > u64::from(sources) / 2, "{counters:?}");
    assert_eq!(counters.lost_total(), full);
    let state = bench.state();
    assert_eq!(state.lost, full);
    assert!(state.opening_full >= full);
    bench.read(0);
    bench.drain();
    assert_eq!(bench.seen(&key(&there)), frames, "the established flow");
    assert_eq!(bench.loaded.flows.books().frames, counters.mapped);
    assert!(bench.loaded.flows.books().opening <= u64::from(OPENING_ENTRIES));
    // Ten seconds later the half-open ones are gone, and there is room again.
    let state_ns = state.since_mono_ns;
    bench.read(state_ns + 600_000_000_000);
    bench.read(state_ns + 600_000_000_000);
    assert_eq!(bench.loaded.flows.books().opening, 0);
}

#[test]
fn half_open_flows_do_not_take_the_place_of_an_established_one() {
    if may_load() {
        flood(20_000);
    }
}

#[test]
#[ignore = "a minute: half-open flows of a million sources"]
fn half_open_flows_of_a_million_sources_do_not_take_the_place_of_an_established_one() {
    if may_load() {
        flood(1_000_000);
    }
}

#[test]
fn two_processors_make_one_entry_and_count_every_frame_once() {
    if !may_load() {
        return;
    }
    const RUNS: u32 = 20_000;
    const ROUNDS: u16 = 20;
    let mut bench = Bench::new(StepDownSettings {
        high_mark_bytes: 0,
        low_mark_bytes: 0,
        ..StepDownSettings::of_ring(RING_BYTES)
    });
    // Both directions at once: each makes, finds or moves the entry of the same flow.
    for round in 0..ROUNDS {
        let (a, b) = ((0x0a00_0001, 5000 + round), (0x0a00_0002, 80));
        let (there, back) = (tcp(a, b, ACK, 20), tcp(b, a, ACK, 0));
        let bpf = &bench.loaded.bpf;
        let ingress: &Xdp = bpf.program(XDP_PROGRAM).unwrap().try_into().unwrap();
        let egress: &SchedClassifier = bpf.program(EGRESS_PROGRAM).unwrap().try_into().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| ingress.test_run(repeated(&there, RUNS)).unwrap());
            scope.spawn(|| egress.test_run(repeated(&back, RUNS)).unwrap());
        });
        bench.read(0);
        bench.drain();
        assert_eq!(bench.seen(&key(&there)), u64::from(RUNS) * 2);
    }
    let counters = bench.counters();
    assert_eq!(counters.frames, u64::from(RUNS) * 2 * u64::from(ROUNDS));
    assert_eq!(counters.lost_total(), 0);
    assert_eq!(bench.loaded.flows.books().frames, counters.mapped);
}

const A: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);
const A_MAC: &str = "02:00:00:00:98:01";
const B_MAC: &str = "02:00:00:00:98:02";
const A_MAC_BYTES: [u8; 6] = [2, 0, 0, 0, 0x98, 1];
const B_MAC_BYTES: [u8; 6] = [2, 0, 0, 0, 0x98, 2];
const FIRST_PORT: u16 = 6_000;
const FLOWS: u16 = 8;
const DATAGRAMS: u32 = 20_000;
const DATAGRAM_BYTES: usize = 64;
/// Of the TCP connection that lives beside what floods.
const TALK_PORT: u16 = 7_000;
const TALK_BYTES: usize = 100;
const TALKS: u32 = 2_000;
/// Nobody's: the host takes the frame, finds no way and answers nothing.
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Ethernet, IPv4 and UDP headers.
const HEADER_BYTES: u64 = 14 + 20 + 8;
/// What the sensor may take more while it is behind: nothing grows with packets.
const GROWTH_KIB_MAX: u64 = 16 << 10;
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_sensor_whose_reader_rests_keeps_exact_totals_and_flows_and_recovers() {
    if may_load() {
        overload("r", &["--test-reader-pause-s", "10"]);
    }
}

#[test]
fn a_sensor_whose_reader_is_slow_keeps_exact_totals_and_flows_and_recovers() {
    if may_load() {
        // Some 900 records fill the ring, so that this is some 20,000 records a second at most.
        overload("s", &["--test-reader-delay-us", "40000"]);
    }
}

fn overload(tag: &str, hindrance: &[&str]) {
    let space = Space::new(tag);
    let mut sensor = Sensor::start(&space, hindrance);
    let linked_before = space.link_packets();
    // Both ends of every flow have spoken, and the reader has begun its rest.
    let mut talk = Talk::start(&space);
    space.exchange(10);
    let resident_kib = sensor.resident_kib();
    talk.go_on();
    space.exchange(DATAGRAMS);
    let talked = talk.end();
    let linked = {
        let now = space.link_packets();
        (now.0 - linked_before.0, now.1 - linked_before.1)
    };
    assert!(sensor.says("stepped down"), "{}", sensor.told());
    assert!(
        sensor.says("every packet is recorded again"),
        "{}",
        sensor.told()
    );
    let grown_kib = sensor.resident_kib().saturating_sub(resident_kib);
    assert!(grown_kib < GROWTH_KIB_MAX, "{grown_kib} KiB more");
    let (status, flows) = sensor.stop();
    let told = sensor.told();
    assert!(status, "{told}");
    assert!(told.trim_end().ends_with("books balance"), "{told}");
    let each = u64::from(DATAGRAMS) + 10;
    let datagrams = each * u64::from(FLOWS);
    assert_eq!(
        linked,
        (
            datagrams + talked.out.packets,
            datagrams + talked.back.packets
        ),
        "the link took them all"
    );
    let kernel = told.lines().find(|l| l.contains("kernel:")).unwrap();
    let mapped = number_before(kernel, " counted by flow");
    assert!(mapped > u64::from(DATAGRAMS), "{kernel}");
    assert_eq!(
        number_before(kernel, " packets, "),
        datagrams * 2 + talked.out.packets + talked.back.packets,
        "{kernel}"
    );
    assert_eq!(
        number_before(kernel, " bytes"),
        datagrams * 2 * (DATAGRAM_BYTES as u64 + HEADER_BYTES)
            + talked.out.bytes
            + talked.back.bytes,
        "{kernel}"
    );
    assert!(!kernel.contains("ring-full"), "{kernel}");
    for port in FIRST_PORT..FIRST_PORT + FLOWS {
        let [there, back] = sums_of(&flows, port);
        assert_eq!(there.packets, each, "port {port}:\n{flows}");
        assert_eq!(back.packets, each, "port {port}:\n{flows}");
        assert_eq!(
            there.bytes + back.bytes,
            each * 2 * (DATAGRAM_BYTES as u64 + HEADER_BYTES)
        );
    }
    assert_eq!(
        sums_of(&flows, TALK_PORT),
        [talked.out, talked.back],
        "{flows}"
    );
}

#[test]
fn half_open_flows_of_a_million_sources_on_the_wire_age_and_leave_an_established_one_exact() {
    if !may_load() {
        return;
    }
    const SOURCES: u64 = 1 << 20;
    let space = Space::new("f");
    let mut sensor = Sensor::start(&space, &[]);
    let mut talk = Talk::start(&space);
    let flood = |space: &Space| {
        let mut flood = space.role(&space.b, "role_flood", "b").spawn().unwrap();
        assert!(flood.wait().unwrap().success());
    };
    // Tables and maps fill up once.
    flood(&space);
    let resident_kib = sensor.resident_kib();
    talk.go_on();
    flood(&space);
    let talked = talk.end();
    let grown_kib = sensor.resident_kib().saturating_sub(resident_kib);
    assert!(grown_kib < GROWTH_KIB_MAX, "{grown_kib} KiB more");
    // Half-open flows live ten seconds from their last packet, and so does what the kernel keeps of
    // them, once the reader has come so far: a line is printed for each that ends.
    assert!(
        sensor.says("every packet is recorded again"),
        "{}",
        sensor.told()
    );
    sensor.rests(Duration::from_secs(13));
    let (status, flows) = sensor.stop();
    let told = sensor.told();
    assert!(status, "{told}");
    assert!(told.trim_end().ends_with("books balance"), "{told}");
    let kernel = told.lines().find(|l| l.contains("kernel:")).unwrap();
    let seen = number_before(kernel, " packets, ") - talked.out.packets - talked.back.packets;
    // Between sender and program lies the queue of the veth pair.
    assert!(seen > SOURCES && seen <= SOURCES * 2, "{kernel}");
    assert!(number_before(kernel, " flow-map-full") > 0, "{kernel}");
    assert!(!kernel.contains("ring-full"), "{kernel}");
    assert_eq!(
        sums_of(&flows, TALK_PORT),
        [talked.out, talked.back],
        "{told}"
    );
    let half_open = |word: &str| {
        let of = |line: &&str| line.contains(&NOBODY.to_string()) && line.contains(word);
        flows.lines().filter(of).count()
    };
    assert!(half_open(" half-open") > 0, "{told}");
    assert_eq!(half_open(" shutdown"), 0, "all have aged");
}

/// The number that ends where `text` begins.
fn number_before(line: &str, text: &str) -> u64 {
    let before = &line[..line.find(text).unwrap()];
    before.split(' ').next_back().unwrap().parse().unwrap()
}

/// Packets and bytes from one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    packets: u64,
    bytes: u64,
}

/// Over the printed flows of a port: from their initiator, and back.
fn sums_of(flows: &str, port: u16) -> [Sum; 2] {
    let mut sums = [Sum::default(); 2];
    for line in flows
        .lines()
        .filter(|line| line.contains(&format!(":{port} ")))
        // What is told of a flow that goes on is told again at its end.
        .filter(|line| !line.contains(" live "))
    {
        let words: Vec<_> = line.split_whitespace().collect();
        let both = |unit: &str| -> [u64; 2] {
            let at = words.iter().position(|word| *word == unit).unwrap();
            let (there, back) = words[at - 1].split_once('/').unwrap();
            [there, back].map(|number| number.parse().unwrap())
        };
        for ((sum, packets), bytes) in sums.iter_mut().zip(both("packets")).zip(both("bytes")) {
            sum.packets += packets;
            sum.bytes += bytes;
        }
    }
    sums
}

/// A TCP connection from the sensor's end to the other, by message and echo.
struct Talk {
    ends: [(Child, BufReader<std::process::ChildStderr>); 2],
}

/// What went over its wire, by the kernel's own count of segments.
struct Talked {
    out: Sum,
    back: Sum,
}

impl Talk {
    /// Begins it.
    fn start(space: &Space) -> Self {
        let ends = [(&space.b, "b"), (&space.a, "a")].map(|(namespace, end)| {
            let mut child = space.role(namespace, "role_talk", end).spawn().unwrap();
            let mut told = BufReader::new(child.stderr.take().unwrap());
            wait_for(&mut told, "ready");
            (child, told)
        });
        Self { ends }
    }

    fn go_on(&mut self) {
        let input = self.ends[1].0.stdin.as_mut().unwrap();
        input.write_all(b"go\n").unwrap();
    }

    fn end(self) -> Talked {
        /// Ethernet, IPv4, and TCP with time stamps.
        const SEGMENT_BYTES: u64 = 14 + 20 + 32;
        /// A SYN has eight bytes more of options.
        const SYN_BYTES: u64 = 8;
        let [back, out] = self.ends.map(|(mut child, mut told)| {
            let line = wait_for(&mut told, "sent ");
            assert!(child.wait().unwrap().success());
            line.split(' ')
                .skip(1)
                .map(|number| number.parse().unwrap())
                .collect::<Vec<u64>>()
        });
        let sum = |packets, payload_bytes| Sum {
            packets,
            bytes: packets * SEGMENT_BYTES + SYN_BYTES + payload_bytes,
        };
        // Of the end with the sensor: what it sent was seen, and so was what reached it.
        Talked {
            out: sum(out[0], out[2]),
            back: sum(out[1], back[2]),
        }
    }
}

/// The first line that begins so.
fn wait_for(told: &mut impl std::io::BufRead, text: &str) -> String {
    told.lines()
        .map(Result::unwrap)
        .find(|line| line.starts_with(text))
        .unwrap()
}

#[test]
#[ignore = "a role of the tests above"]
fn role_talk() {
    let Ok(end) = std::env::var("NETML_TEST_END") else {
        return;
    };
    let address = SocketAddrV4::new(B, TALK_PORT);
    if end == "b" {
        let listener = TcpListener::bind(address).unwrap();
        eprintln!("ready");
        let (mut stream, _) = listener.accept().unwrap();
        let mut message = [0; TALK_BYTES];
        while stream.read_exact(&mut message).is_ok() {
            stream.write_all(&message).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        eprintln!("sent {}", segments(&stream));
        return;
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut talk = |messages| {
        let mut echo = [0; TALK_BYTES];
        for _ in 0..messages {
            stream.write_all(&[7; TALK_BYTES]).unwrap();
            stream.read_exact(&mut echo).unwrap();
        }
    };
    talk(10);
    eprintln!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    talk(TALKS);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    eprintln!("sent {}", segments(&stream));
}

/// Segments out and in, and payload bytes out with what was sent twice (struct tcp_info).
fn segments(stream: &TcpStream) -> String {
    let info = live_frames::tcp_info(stream).unwrap();
    let word = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap());
    let sent_bytes = u64::from_ne_bytes(info[200..208].try_into().unwrap());
    format!("{} {} {sent_bytes}", word(136), word(140))
}

#[test]
#[ignore = "a role of the tests above"]
fn role_flood() {
    const AT_ONCE: u32 = 1 << 13;
    if std::env::var("NETML_TEST_END").is_err() {
        return;
    }
    let ifindex = std::fs::read_to_string("/sys/class/net/b0/ifindex").unwrap();
    let target = live_frames::Target {
        from_mac: B_MAC_BYTES,
        to_mac: A_MAC_BYTES,
        to: NOBODY,
        port: 80,
    };
    let kind = live_frames::Kind::Syn;
    let ifindex = ifindex.trim().parse().unwrap();
    let sender = live_frames::Sender::new(ifindex, kind, &target, 11, 20).unwrap();
    for _ in 0..(1 << 20) / AT_ONCE {
        sender.send(AT_ONCE).unwrap();
    }
}

/// Two namespaces joined by `a0` and `b0`; gone at drop.
struct Space {
    a: String,
    b: String,
}

impl Space {
    fn new(tag: &str) -> Self {
        let name = |end| format!("nmover{}{tag}{end}", std::process::id());
        let space = Self {
            a: name("a"),
            b: name("b"),
        };
        for namespace in [&space.a, &space.b] {
            sh(&format!("ip netns add {namespace}"));
            // No neighbour discovery of its own: every packet is the test's.
            sh(&format!(
                "ip netns exec {namespace} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; \
                 echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'"
            ));
        }
        let (a, b) = (&space.a, &space.b);
        sh(&format!(
            "ip -n {a} link add a0 address {A_MAC} type veth peer name b0 address {B_MAC} netns {b}"
        ));
        for (namespace, device, address, peer, peer_mac) in
            [(a, "a0", A, B, B_MAC), (b, "b0", B, A, A_MAC)]
        {
            sh(&format!(
                "ip -n {namespace} addr add {address}/24 dev {device} && \
                 ip -n {namespace} link set {device} up && \
                 ip -n {namespace} neigh add {peer} lladdr {peer_mac} dev {device} nud permanent"
            ));
        }
        space
    }

    /// One of the roles below, as a program in a namespace.
    fn role(&self, namespace: &str, role: &str, end: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", namespace])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", role, "--ignored", "--nocapture"])
            .env("NETML_TEST_END", end)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Every flow sends this many datagrams, both ways at once.
    fn exchange(&self, datagrams: u32) {
        let mut senders = [(&self.a, "a"), (&self.b, "b")].map(|(namespace, end)| {
            let mut child = self
                .role(namespace, "role_send", end)
                .env("NETML_TEST_DATAGRAMS", datagrams.to_string())
                .spawn()
                .unwrap();
            let told = BufReader::new(child.stderr.take().unwrap());
            (child, told)
        });
        // Sockets exist from before the first datagram until after the last: a host answers for
        // those that do not.
        for step in ["bound", "done"] {
            for (_, told) in &mut senders {
                assert!(told.lines().any(|line| line.unwrap() == step));
            }
            for (child, _) in &mut senders {
                child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
            }
        }
        for (mut child, _) in senders {
            assert!(child.wait().unwrap().success());
        }
    }

    /// Packets the peer's link received and sent.
    fn link_packets(&self) -> (u64, u64) {
        let output = Command::new("ip")
            .args(["-n", &self.b, "-j", "-s", "link", "show", "b0"])
            .output()
            .unwrap();
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let packets = |way: &str| links[0]["stats64"][way]["packets"].as_u64().unwrap();
        (packets("rx"), packets("tx"))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        for namespace in [&self.a, &self.b] {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

fn sh(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "a role of the test above"]
fn role_send() {
    let Ok(end) = std::env::var("NETML_TEST_END") else {
        return;
    };
    let datagrams: u32 = std::env::var("NETML_TEST_DATAGRAMS")
        .unwrap()
        .parse()
        .unwrap();
    let (from, to) = if end == "a" { (A, B) } else { (B, A) };
    let sockets: Vec<_> = (FIRST_PORT..FIRST_PORT + FLOWS)
        .map(|port| UdpSocket::bind(SocketAddrV4::new(from, port)).unwrap())
        .collect();
    let mut line = String::new();
    eprintln!("bound");
    std::io::stdin().read_line(&mut line).unwrap();
    for _ in 0..datagrams {
        for (port, socket) in (FIRST_PORT..).zip(&sockets) {
            let sent = socket.send_to(&[0; DATAGRAM_BYTES], SocketAddrV4::new(to, port));
            assert_eq!(sent.unwrap(), DATAGRAM_BYTES);
        }
    }
    eprintln!("done");
    std::io::stdin().read_line(&mut line).unwrap();
}

/// The sensor on `a0`, with a small ring and a reader that is hindered.
struct Sensor {
    child: Child,
    told: Arc<Mutex<String>>,
    printed: Arc<Mutex<String>>,
}

impl Sensor {
    fn start(space: &Space, hindrance: &[&str]) -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &space.a])
            .arg(env!("CARGO_BIN_EXE_netml-agent"))
            .args(["run", "--interface", "a0", "--no-collector", "--print"])
            .args(["--ring-bytes", "65536"])
            .args(hindrance)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let told = gather(child.stderr.take().unwrap());
        let printed = gather(child.stdout.take().unwrap());
        let sensor = Self {
            child,
            told,
            printed,
        };
        assert!(sensor.says("watching"), "{}", sensor.told());
        sensor
    }

    fn told(&self) -> String {
        self.told.lock().unwrap().clone()
    }

    /// Resident memory.
    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Waits until the sensor has said so.
    fn says(&self, text: &str) -> bool {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if self.told().contains(text) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Waits until nothing was printed for so long, or two minutes are over.
    fn rests(&self, quiet: Duration) {
        let end = Instant::now() + Duration::from_secs(120);
        let (mut bytes, mut since) = (0, Instant::now());
        while Instant::now() < end && since.elapsed() < quiet {
            let printed = self.printed.lock().unwrap().len();
            if printed != bytes {
                (bytes, since) = (printed, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends it as a user would; true where it ended well, and the flows it printed.
    fn stop(&mut self) -> (bool, String) {
        sh(&format!("kill -INT {}", self.child.id()));
        let status = self.child.wait().unwrap();
        assert!(self.says("books"), "{}", self.told());
        // The readers of its output end with it.
        let printed = loop {
            if Arc::strong_count(&self.printed) == 1 && Arc::strong_count(&self.told) == 1 {
                break self.printed.lock().unwrap().clone();
            }
            std::thread::yield_now();
        };
        (status.success(), printed)
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All lines of a stream so far.
fn gather(stream: impl std::io::Read + Send + 'static) -> Arc<Mutex<String>> {
    let gathered = Arc::new(Mutex::new(String::new()));
    let into = Arc::clone(&gathered);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let mut into = into.lock().unwrap();
            into.push_str(&line.unwrap());
            into.push('\n');
        }
    });
    gathered
}

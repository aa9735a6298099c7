//! The kernel programs without a network: frames through the kernel's test run, compared field by
//! field with the reference walk.

#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking"
)]

mod kernel;

use kernel::{frames, may_load};

use aya::programs::{ProgramError, TestRun as _, TestRunOptions};
use netml_agent::probe::StepDownSettings;
use netml_agent::probe::object::{self, LoadSettings, Loaded};
use netml_common::knobs::{
    EGRESS_PROGRAM, INGRESS_PROGRAM, InterfaceEntry, NEAR_ENTRIES, XDP_PROGRAM,
};
use netml_common::{
    Direction, Extras, InterfaceCounters, Link, LossReason, Marks, PacketRecord, walk,
    walk_with_extras,
};

/// The kernel's test run sends frames from the loopback device.
const TEST_RUN_IFINDEX: u32 = 1;
const SLOT: u8 = 7;
const XDP_PASS: u32 = 2;
const TCX_NEXT: u32 = u32::MAX;
/// Shortest frame the test run takes.
const FRAME_BYTES_MIN: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Xdp,
    Ingress,
    Egress,
}

const ALL: [Program; 3] = [Program::Xdp, Program::Ingress, Program::Egress];

impl Program {
    fn direction(self) -> Direction {
        match self {
            Self::Xdp | Self::Ingress => Direction::Ingress,
            Self::Egress => Direction::Egress,
        }
    }
}

/// The loaded programs, and whether they open tunnels.
struct Bench(Loaded, bool);

impl Bench {
    fn new(link: u8, ingress_marks: u8) -> Self {
        Self::with_ring(1 << 20, Some((link, ingress_marks)))
    }

    fn with_ring(ring_bytes: u32, entry: Option<(u8, u8)>) -> Self {
        Self::with(ring_bytes, entry, true)
    }

    fn with(ring_bytes: u32, entry: Option<(u8, u8)>, decapsulate: bool) -> Self {
        let interfaces = entry
            .map(|(link, ingress_marks)| InterfaceEntry {
                slot: SLOT,
                link,
                ingress_marks,
                reserved: 0,
            })
            .map(|entry| (TEST_RUN_IFINDEX, entry));
        let mut loaded = object::load(&LoadSettings {
            ring_bytes,
            wake_fill_bytes: ring_bytes / 2,
            decapsulate,
            interfaces: interfaces.into_iter().collect(),
            step_down: StepDownSettings::off(),
        })
        .unwrap();
        object::xdp(&mut loaded.bpf, XDP_PROGRAM).unwrap();
        object::classifier(&mut loaded.bpf, INGRESS_PROGRAM).unwrap();
        object::classifier(&mut loaded.bpf, EGRESS_PROGRAM).unwrap();
        Self(loaded, decapsulate)
    }

    /// Runs a program over a frame; the frame must come out as it went in.
    fn run(&mut self, program: Program, frame: &[u8], context: Option<&[u8]>) {
        assert!(self.try_run(program, frame, context));
    }

    /// False where the kernel's test run refuses the frame: newer ones do so for socket buffers
    /// whose IP header is cut.
    fn try_run(&mut self, program: Program, frame: &[u8], context: Option<&[u8]>) -> bool {
        let mut out = vec![0; frame.len() + 512];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: context,
            ..TestRunOptions::new()
        };
        let bpf = &mut self.0.bpf;
        let result = match program {
            Program::Xdp => object::xdp(bpf, XDP_PROGRAM).unwrap().test_run(options),
            Program::Ingress => object::classifier(bpf, INGRESS_PROGRAM)
                .unwrap()
                .test_run(options),
            Program::Egress => object::classifier(bpf, EGRESS_PROGRAM)
                .unwrap()
                .test_run(options),
        };
        let result = match result {
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EINVAL)
                    && program != Program::Xdp =>
            {
                return false;
            }
            result => result.unwrap(),
        };
        let pass = if program == Program::Xdp {
            XDP_PASS
        } else {
            TCX_NEXT
        };
        assert_eq!(result.return_value, pass, "every path lets the frame pass");
        assert_eq!(result.data_size_out as usize, frame.len());
        assert_eq!(&out[..frame.len()], frame, "no byte of a frame changes");
        true
    }

    fn entries(&mut self) -> Vec<(PacketRecord, Extras)> {
        let mut entries = Vec::new();
        self.0
            .ring
            .drain(usize::MAX, |entry| entries.push(entry.unwrap()));
        entries
    }

    fn records(&mut self) -> Vec<PacketRecord> {
        let records = self.entries().into_iter();
        records.map(|(record, _)| record).collect()
    }

    fn counters(&self, program: Program) -> InterfaceCounters {
        self.0
            .counters
            .read(u32::from(SLOT), program.direction())
            .unwrap()
    }
}

/// Runs a frame through a program and compares record, class and loss with the reference walk.
/// False where the test run refused the frame.
fn compare(bench: &mut Bench, program: Program, frame: &[u8], link: Link) -> bool {
    let before = bench.counters(program);
    if !bench.try_run(program, frame, None) {
        assert_eq!(bench.counters(program), before);
        return false;
    }
    let after = bench.counters(program);
    let entries = bench.entries();
    let length = u32::try_from(frame.len()).unwrap();
    let told = || format!("{program:?} {link:?} {frame:02x?}");
    assert_eq!(after.frames - before.frames, 1);
    assert_eq!(after.packets - before.packets, 1);
    assert_eq!(after.bytes - before.bytes, u64::from(length));
    assert!(after.balanced());
    match walk_with_extras(frame, length, link, bench.1) {
        Ok((walked, extras)) => {
            assert_eq!(entries.len(), 1, "{}", told());
            let (record, kernel_extras) = entries[0];
            let mono_ns = record.mono_ns;
            assert!(mono_ns > 0);
            let expected = walked.record(mono_ns, SLOT, program.direction(), 1, length);
            assert_eq!(record, expected, "{}", told());
            assert_eq!(kernel_extras, extras, "{}", told());
            let class = netml_common::ProtocolClass::of_ip_protocol(walked.ip_protocol).index();
            assert_eq!(
                after.protocol_packets[class] - before.protocol_packets[class],
                1
            );
        }
        Err(reason) => {
            assert_eq!(entries, [], "{}", told());
            let index = reason.index();
            assert_eq!(after.lost[index] - before.lost[index], 1, "{}", told());
            let class = reason.protocol_class().index();
            assert_eq!(
                after.protocol_bytes[class] - before.protocol_bytes[class],
                u64::from(length)
            );
        }
    }
    true
}

#[test]
fn the_verifier_takes_all_programs_cheaply() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(InterfaceEntry::ETHERNET, 0);
    let bpf = &mut bench.0.bpf;
    let mut instructions = vec![
        object::xdp(bpf, XDP_PROGRAM)
            .unwrap()
            .info()
            .unwrap()
            .verified_instruction_count(),
    ];
    for name in [INGRESS_PROGRAM, EGRESS_PROGRAM] {
        let program = object::classifier(bpf, name).unwrap();
        instructions.push(program.info().unwrap().verified_instruction_count());
    }
    println!("instructions verified, xdp, ingress, egress: {instructions:?}");
    // The verifier gives up at a million; other kernels than this one must have room.
    assert!(instructions.iter().flatten().all(|n| *n < 250_000));
}

#[test]
fn hand_made_and_mutated_frames_agree_with_the_reference_walk() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(InterfaceEntry::ETHERNET, 0);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut compared, mut refused) = (0, 0);
    let mut count = |ran: bool| {
        compared += u32::from(ran);
        refused += u32::from(!ran);
    };
    for program in ALL {
        for frame in frames::all() {
            count(compare(&mut bench, program, &frame, Link::Ethernet));
            for _ in 0..60 {
                let mutant = frames::mutate(&frame, &mut random, FRAME_BYTES_MIN);
                count(compare(&mut bench, program, &mutant, Link::Ethernet));
            }
        }
    }
    assert!(
        refused * 4 < compared,
        "{refused} refused, {compared} compared"
    );
}

/// A sample of what `fuzz.rs` gives the walk in user space.
#[test]
fn fuzzed_frames_agree_with_the_reference_walk() {
    const SAMPLE: u32 = 3_000;
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(InterfaceEntry::ETHERNET, 0);
    let inputs = kernel::corpus::inputs("walk");
    let mut random = kernel::corpus::Random::new(1);
    let mut compared = 0;
    for i in 0..SAMPLE {
        let mut frame = random.mutation(&inputs, 1_500);
        frame.resize(frame.len().max(FRAME_BYTES_MIN), 0);
        let program = ALL[i as usize % ALL.len()];
        compared += u32::from(compare(&mut bench, program, &frame, Link::Ethernet));
    }
    assert!(compared * 2 > SAMPLE, "{compared} of {SAMPLE} compared");
}

#[test]
fn frames_of_raw_ip_devices_agree_with_the_reference_walk() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(InterfaceEntry::RAW_IP, 0);
    for program in ALL {
        for frame in frames::all() {
            let packet = &frame[14..];
            if packet.len() >= FRAME_BYTES_MIN {
                compare(&mut bench, program, packet, Link::RawIp);
            }
        }
    }
}

#[test]
fn closed_tunnels_agree_with_the_reference_walk() {
    if !may_load() {
        return;
    }
    let entry = Some((InterfaceEntry::ETHERNET, 0));
    let mut bench = Bench::with(1 << 20, entry, false);
    for program in ALL {
        for frame in frames::tunnels() {
            assert!(compare(&mut bench, program, &frame, Link::Ethernet));
        }
    }
}

#[test]
fn headers_behind_the_linear_part_are_read() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(InterfaceEntry::ETHERNET, 0);
    // Two extension headers of 2,048 bytes: the ports lie behind the first page.
    let frame = frames::ipv6_udp_behind(2, 255);
    assert!(frame.len() > 4096);
    assert!(compare(&mut bench, Program::Xdp, &frame, Link::Ethernet));
    let walked = walk(frame.as_slice(), frame.len() as u32, Link::Ethernet).unwrap();
    assert_eq!((walked.src_port, walked.dst_port), (1234, 53));
}

#[test]
fn captured_packets_agree_with_the_reference_walk() {
    if !may_load() {
        return;
    }
    let Some(files) = kernel::captures() else {
        return;
    };
    let mut bench = Bench::new(InterfaceEntry::ETHERNET, 0);
    let mut compared = 0;
    for file in files {
        for frame in kernel::ethernet_frames(&file, 200) {
            if frame.len() >= FRAME_BYTES_MIN && frame.len() <= 3000 {
                for program in ALL {
                    compare(&mut bench, program, &frame, Link::Ethernet);
                }
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "{compared} frames compared");
}

#[test]
fn super_packets_count_as_the_packets_of_the_wire() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(InterfaceEntry::ETHERNET, 0);
    // 14 + 20 + 20 bytes of headers before 3,000 bytes of payload.
    let frame = frames::tcp(3000);
    let headers = 54;
    for (gso_segs, gso_size, wire_len, segments, wire_bytes) in [
        (3, 1000, 0, 3, 3054 + 2 * headers),
        // From an untrusted source: not counted yet.
        (0, 1400, 0, 3, 3054 + 2 * headers),
        // The queueing layer knows of inner headers as well.
        (3, 1000, 3400, 3, 3400),
        (0, 0, 0, 1, 3054),
    ] {
        let mut context = [0_u8; 192];
        let mut put = |offset: usize, value: u32| {
            context[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(160, wire_len);
        put(164, gso_segs);
        put(176, gso_size);
        let before = bench.counters(Program::Egress);
        bench.run(Program::Egress, &frame, Some(&context));
        let after = bench.counters(Program::Egress);
        let records = bench.records();
        assert_eq!(records.len(), 1);
        assert_eq!(
            (records[0].segments, records[0].wire_bytes),
            (segments, wire_bytes)
        );
        assert_eq!(records[0].payload_bytes, 3000);
        assert_eq!(after.packets - before.packets, u64::from(segments));
        assert_eq!(after.bytes - before.bytes, u64::from(wire_bytes));
        assert_eq!(after.frames - before.frames, 1);
    }
}

#[test]
fn a_full_ring_is_counted_and_the_books_balance() {
    if !may_load() {
        return;
    }
    const RUNS: u64 = 500;
    let mut bench = Bench::with_ring(4096, Some((InterfaceEntry::ETHERNET, 0)));
    let frame = frames::tcp(100);
    for _ in 0..RUNS {
        bench.run(Program::Xdp, &frame, None);
    }
    let counters = bench.counters(Program::Xdp);
    assert_eq!((counters.frames, counters.packets), (RUNS, RUNS));
    assert_eq!(counters.bytes, RUNS * frame.len() as u64);
    assert!(counters.lost[LossReason::RingFull.index()] > 400);
    assert!(counters.balanced());
    let kept = bench.records().len() as u64;
    assert_eq!(kept, counters.recorded);
    // There is room again.
    bench.run(Program::Xdp, &frame, None);
    assert_eq!(bench.records().len(), 1);
    assert_eq!(bench.0.ring.backlog_bytes(), 0);
}

#[test]
fn an_interface_without_a_slot_is_counted_apart() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::with_ring(4096, None);
    for program in ALL {
        bench.run(program, &frames::tcp(100), None);
    }
    assert_eq!(bench.records(), []);
    let ingress = bench.0.counters.unknown(Direction::Ingress).unwrap();
    let egress = bench.0.counters.unknown(Direction::Egress).unwrap();
    assert_eq!((ingress.frames, egress.frames), (2, 1));
    assert_eq!(ingress.lost[LossReason::UnknownInterface.index()], 2);
    assert!(ingress.balanced() && egress.balanced());
}

#[test]
fn interfaces_that_share_a_place_in_the_array_are_told_apart() {
    if !may_load() {
        return;
    }
    let entry = |slot| InterfaceEntry {
        slot,
        link: InterfaceEntry::ETHERNET,
        ingress_marks: 0,
        reserved: 0,
    };
    let other_ifindex = TEST_RUN_IFINDEX + NEAR_ENTRIES;
    let mut bench = Bench::with_ring(4096, None);
    let tell = |bench: &mut Bench, ifindex, entry| {
        object::set_interface(&mut bench.0.bpf, ifindex, entry).unwrap();
    };
    let slots = |bench: &mut Bench| -> Vec<u8> {
        bench.run(Program::Xdp, &frames::tcp(100), None);
        bench.records().iter().map(|record| record.slot).collect()
    };
    // The other one has the place: this one is found in the map behind.
    tell(&mut bench, other_ifindex, Some(entry(SLOT + 1)));
    assert!(slots(&mut bench).is_empty());
    tell(&mut bench, TEST_RUN_IFINDEX, Some(entry(SLOT)));
    assert_eq!(slots(&mut bench), [SLOT]);
    // It stays found when the other goes, and takes the place when it comes anew.
    tell(&mut bench, other_ifindex, None);
    assert_eq!(slots(&mut bench), [SLOT]);
    tell(&mut bench, TEST_RUN_IFINDEX, None);
    assert!(slots(&mut bench).is_empty());
    tell(&mut bench, TEST_RUN_IFINDEX, Some(entry(SLOT + 2)));
    assert_eq!(slots(&mut bench), [SLOT + 2]);
    tell(&mut bench, TEST_RUN_IFINDEX, None);
    assert!(slots(&mut bench).is_empty());
    let unknown = bench.0.counters.unknown(Direction::Ingress).unwrap();
    assert_eq!(unknown.frames, 3);
}

#[test]
fn records_behind_gro_are_marked_on_ingress_only() {
    if !may_load() {
        return;
    }
    let mut bench = Bench::new(InterfaceEntry::ETHERNET, Marks::AGGREGATED);
    bench.run(Program::Xdp, &frames::tcp(100), None);
    bench.run(Program::Egress, &frames::tcp(100), None);
    let records = bench.records();
    assert!(records[0].marks.has(Marks::AGGREGATED));
    assert!(!records[1].marks.has(Marks::AGGREGATED));
    assert!(records[1].marks.has(Marks::EGRESS));
}

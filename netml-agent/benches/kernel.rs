//! Cost of a frame in the kernel programs, by kind of frame and by what becomes of it: recorded,
//! lost for want of room, counted by flow.
//!
//! Each case is run by the kernel's test run many times over, round after round in turn, so that a
//! slow moment of the machine hits all alike. Beside them, in the same rounds, stand a program
//! that only lets frames pass and one that only submits an empty record. The kernel gives the mean
//! of a run; printed are the median over rounds, minimum and maximum, and the ratio of the medians
//! to both yardsticks. Needs root. Run: `cargo bench --bench kernel`.

use anyhow::Context as _;
use aya::programs::{TestRun as _, TestRunOptions};
use netml_agent::probe::object::{self, LoadSettings, Loaded};
use netml_agent::probe::{KnownFlow, StepDownSettings};
use netml_common::knobs::{BARE_PASS_PROGRAM, BARE_SUBMIT_PROGRAM, InterfaceEntry, XDP_PROGRAM};
use netml_common::{Direction, FlowKey, Link, Network, walk_with_extras};

/// The kernel's test run sends frames from the loopback device.
const TEST_RUN_IFINDEX: u32 = 1;

/// Runs of one case in one round; their records fit into half of [`RING_BYTES`].
const RUNS: u32 = 50_000;
const ROUNDS: usize = 21;
const RING_BYTES: u32 = 16 << 20;

/// A loaded object in one of the states that decide on a frame's way.
struct Stage {
    name: &'static str,
    loaded: Loaded,
    /// The ring is emptied before every run.
    drains: bool,
    /// Its flows are known as established.
    established: bool,
}

struct Case {
    name: String,
    program: &'static str,
    stage: usize,
    frame: Vec<u8>,
    nanoseconds: Vec<u64>,
}

fn main() -> anyhow::Result<()> {
    let mut stages = match stages() {
        Ok(stages) => stages,
        Err(error) => {
            println!("skipped: {error:#}");
            return Ok(());
        }
    };
    let frames = [
        ("TCP over IPv4", tcp(false)),
        ("UDP over IPv4", udp()),
        ("TCP over IPv6", tcp_ipv6()),
        ("TCP over IPv4, one VLAN tag", tcp(true)),
        ("TCP over IPv4 in VXLAN", vxlan_tcp()),
        ("ARP", [vec![2; 12], vec![8, 6], vec![0; 46]].concat()),
    ];
    let mut cases = vec![
        Case {
            name: "bare pass".into(),
            program: BARE_PASS_PROGRAM,
            stage: 0,
            frame: frames[0].1.clone(),
            nanoseconds: Vec::new(),
        },
        Case {
            name: "bare submit".into(),
            program: BARE_SUBMIT_PROGRAM,
            stage: 0,
            frame: frames[0].1.clone(),
            nanoseconds: Vec::new(),
        },
    ];
    for (at, stage) in stages.iter().enumerate() {
        for (kind, frame) in &frames {
            cases.push(Case {
                name: format!("{kind}, {}", stage.name),
                program: XDP_PROGRAM,
                stage: at,
                frame: frame.clone(),
                nanoseconds: Vec::new(),
            });
        }
    }
    for case in &cases {
        if stages[case.stage].established {
            establish(&mut stages[case.stage].loaded, &case.frame)?;
        }
        run(&mut stages[case.stage], case, RUNS)?;
    }
    for _ in 0..ROUNDS {
        for case in &mut cases {
            let nanoseconds = run(&mut stages[case.stage], case, RUNS)?;
            case.nanoseconds.push(nanoseconds);
        }
    }
    for case in &mut cases {
        case.nanoseconds.sort_unstable();
    }
    let median = |case: &Case| case.nanoseconds[ROUNDS / 2];
    let (pass, submit) = (median(&cases[0]), median(&cases[1]));
    println!("{ROUNDS} rounds of {RUNS} runs each, XDP by test run, nanoseconds a frame:");
    for case in &cases {
        println!(
            "  {:<68} {:>4} ({}–{}), {:.1} of a bare pass, {:.2} of a bare submit",
            case.name,
            median(case),
            case.nanoseconds[0],
            case.nanoseconds[ROUNDS - 1],
            median(case) as f64 / pass.max(1) as f64,
            median(case) as f64 / submit.max(1) as f64,
        );
    }
    Ok(())
}

fn stages() -> anyhow::Result<Vec<Stage>> {
    let stage = |name, ring_bytes, step_down, drains| -> anyhow::Result<Stage> {
        let entry = InterfaceEntry {
            slot: 0,
            link: InterfaceEntry::ETHERNET,
            ingress_marks: 0,
            reserved: 0,
        };
        let loaded = object::load(&LoadSettings {
            ring_bytes,
            // Past the ring: waking costs nothing where nobody waits, and is no part of a frame.
            wake_fill_bytes: u32::MAX / 2,
            decapsulate: true,
            interfaces: vec![(TEST_RUN_IFINDEX, entry)],
            step_down,
        })
        .context("the kernel programs cannot be loaded")?;
        Ok(Stage {
            name,
            loaded,
            drains,
            established: name.contains("established"),
        })
    };
    let off = StepDownSettings::off();
    let mut stages = vec![
        stage("recorded", RING_BYTES, off, true)?,
        stage("no room in the ring", 4096, off, false)?,
        // Counted by flow whatever the fill, one in 64 recorded as in a storm.
        stage(
            "counted in an established flow",
            RING_BYTES,
            StepDownSettings {
                high_mark_bytes: 0,
                low_mark_bytes: 0,
                ..StepDownSettings::of_ring(RING_BYTES)
            },
            true,
        )?,
        stage(
            "counted in a flow seen one way, no room",
            4096,
            StepDownSettings {
                high_mark_bytes: 0,
                low_mark_bytes: 0,
                ..StepDownSettings::of_ring(4096)
            },
            false,
        )?,
    ];
    for stage in &mut stages {
        object::xdp(&mut stage.loaded.bpf, XDP_PROGRAM)?;
    }
    object::xdp(&mut stages[0].loaded.bpf, BARE_PASS_PROGRAM)?;
    object::xdp(&mut stages[0].loaded.bpf, BARE_SUBMIT_PROGRAM)?;
    Ok(stages)
}

/// Makes the flow of a frame known to the kernel, as the sensor does.
fn establish(loaded: &mut Loaded, frame: &[u8]) -> anyhow::Result<()> {
    let bytes = u32::try_from(frame.len())?;
    let Ok((walked, extras)) = walk_with_extras(frame, bytes, Link::Ethernet, true) else {
        return Ok(());
    };
    let record = walked.record(0, 0, Direction::Ingress, 1, bytes);
    loaded.flows.seed(&[KnownFlow {
        key: FlowKey::of_packet(&record, Network::of_extras(&extras)).key,
        initiator_is_low: true,
        low_is_egress: false,
        tcp_flags: record.tcp_flags,
    }])?;
    Ok(())
}

/// Mean nanoseconds of one run.
fn run(stage: &mut Stage, case: &Case, runs: u32) -> anyhow::Result<u64> {
    if stage.drains {
        stage.loaded.ring.drain(usize::MAX, |_| {});
    }
    let program = object::xdp(&mut stage.loaded.bpf, case.program)?;
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(&case.frame),
            repeat: runs,
            ..TestRunOptions::new()
        })
        .context("the kernel's test run failed")?;
    u64::try_from(result.duration.as_nanos()).context("a run of centuries")
}

fn ipv4(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let length = (20 + transport.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(transport);
    packet
}

/// An acknowledgement with 100 bytes of payload.
fn segment() -> Vec<u8> {
    let mut segment = vec![0x1f, 0x90, 0xc0, 0x01, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10];
    segment.extend([0x12, 0x34, 0, 0, 0, 0]);
    segment.extend([0; 100]);
    segment
}

fn tcp(tagged: bool) -> Vec<u8> {
    let tag: &[u8] = if tagged { &[0x81, 0, 0, 7] } else { &[] };
    [&[2; 12], tag, &[8, 0], &ipv4(6, &segment())].concat()
}

/// In network 7.
fn vxlan_tcp() -> Vec<u8> {
    let inner = tcp(false);
    let mut datagram = vec![0x04, 0xd2, 0x12, 0xb5];
    datagram.extend(((16 + inner.len()) as u16).to_be_bytes());
    datagram.extend([0, 0, 8, 0, 0, 0, 0, 0, 7, 0]);
    datagram.extend(inner);
    [&[2; 12], &[8, 0][..], &ipv4(17, &datagram)].concat()
}

fn udp() -> Vec<u8> {
    let mut datagram = vec![0x04, 0xd2, 0x00, 0x35, 0, 58, 0, 0];
    datagram.extend([0; 50]);
    [&[2; 12], &[8, 0][..], &ipv4(17, &datagram)].concat()
}

fn tcp_ipv6() -> Vec<u8> {
    let segment = segment();
    let mut frame = vec![2; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((segment.len() as u16).to_be_bytes());
    frame.extend([6, 64]);
    frame.extend([0xfd; 16]);
    frame.extend([0xfe; 16]);
    frame.extend(segment);
    frame
}

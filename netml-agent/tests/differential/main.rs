//! Captures as tshark reads them: every frame's headers, every flow's packets, bytes and TCP
//! flags, computed from tshark's fields alone, must be what the sensor says. Each capture is
//! compared twice: with tunnels opened, as is the default, and with their own packets as the flow's.
//!
//! Frames are compared one by one, so that a difference names its frame; what is excepted stands
//! in [`Exception`], each with its reason. Flows are then summed up from tshark's fields (an
//! excepted frame counts as the sensor read it) and compared with the flows that come out of the
//! engine, however often a time-out cut them.
//!
//! Reads the bundled capture and frames made here always; of `NETML_DATA` all of `odd` and every sixth of `pcap`, with
//! `NETML_EVERY=1` each.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use netml_agent::capture_file::{self, Item, Reader, write};
use netml_agent::engine::{Engine, FlowReport, FlowState, JudgedPacket, Settings, Sink};
use netml_agent::flow::beside;
use netml_common::{Extras, LossReason, Marks, TunnelRecord};

use tshark::{Frame, Layer, Tunnel};

#[path = "../kernel/frames.rs"]
#[allow(dead_code, reason = "only some of its frames are asked for")]
mod frames;
mod tshark;

/// Of the captures that are not odd, one in so many is read unless all are asked for.
const EVERY: usize = 6;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Why a frame may be read otherwise than tshark does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exception {
    /// The capture cut the frame before its headers end: refused, where tshark shows what is left.
    CutByTheCapture,
    /// An IPv4 or IPv6 header that contradicts itself: refused by name; tshark shows its fields.
    BadHeader,
    /// More tags, labels or extension headers than are walked: refused by name.
    Depth,
    /// A transport header that is cut or claims less than its own size: the packet stays with its
    /// addresses, without ports; tshark shows the part it can read.
    CutTransport,
    /// A link type that is refused by name.
    LinkType,
    /// A mobility header with something behind it: tshark does not look there.
    Mobility,
    /// The packet inside a tunnel is cut, or longer than the tunnel's packet: the flow stays the
    /// tunnel's; tshark shows the part it can read.
    CutInside,
}

/// What both say of a frame that is an IP packet. Ports of ICMP are the type under which the flow
/// goes and zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    src_port: u16,
    dst_port: u16,
    tcp_flags: u8,
    network: Option<Network>,
}

/// The network a tunnel names.
type Network = (&'static str, u32);

/// Lower end first.
type Key = ((IpAddr, u16), (IpAddr, u16), u8, Option<Network>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    /// From the lower end, and from the higher one.
    packets: [u64; 2],
    bytes: [u64; 2],
    /// Packets with each flag, from its lowest bit.
    flags: [u64; 8],
}

type Flows = BTreeMap<Key, Totals>;

fn add(flows: &mut Flows, packet: &Packet, packets: u64, bytes: u64) {
    let (key, from_high) = key_of(packet);
    let totals = flows.entry(key).or_default();
    totals.packets[from_high] += packets;
    totals.bytes[from_high] += bytes;
}

fn add_flags(flows: &mut Flows, packet: &Packet) {
    let totals = flows.entry(key_of(packet).0).or_default();
    for (bit, count) in totals.flags.iter_mut().enumerate() {
        *count += u64::from(packet.tcp_flags >> bit & 1);
    }
}

fn key_of(packet: &Packet) -> (Key, usize) {
    let (src, dst) = ((packet.src, packet.src_port), (packet.dst, packet.dst_port));
    if src <= dst {
        ((src, dst, packet.protocol, packet.network), 0)
    } else {
        ((dst, src, packet.protocol, packet.network), 1)
    }
}

// --- the sensor -------------------------------------------------------------------------------

fn open(capture: &Path, decapsulate: bool) -> Reader {
    capture_file::open(capture)
        .unwrap()
        .reading(capture_file::Reading {
            decapsulate,
            ..Default::default()
        })
}

fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

fn packet_of(record: &netml_common::PacketRecord, network: Option<Network>) -> Packet {
    let packet = Packet {
        src: address(record.src),
        dst: address(record.dst),
        protocol: record.ip_protocol,
        src_port: record.src_port,
        dst_port: record.dst_port,
        tcp_flags: record.tcp_flags,
        network,
    };
    let has_type = !record.marks.has(Marks::FRAGMENT_LATER | Marks::L4_CUT);
    match record.ip_protocol {
        ICMP | ICMPV6 if has_type => with_icmp(packet, record.src_port),
        _ => packet,
    }
}

/// A reply goes with its request: both ends of the flow have the request's type.
fn with_icmp(packet: Packet, kind: u16) -> Packet {
    let request = match (packet.protocol, kind) {
        (ICMP, 0) => 8,
        (ICMP, 14 | 16 | 18) | (ICMPV6, 129 | 136) => kind - 1,
        _ => kind,
    };
    Packet {
        src_port: request,
        dst_port: request,
        ..packet
    }
}

/// That of a flow, as the engine reports it.
fn network_of(tunnel: &beside::Tunnel) -> Option<Network> {
    Some((tunnel.kind.name(), tunnel.network_id?))
}

fn tunnel_of(extras: &Extras) -> Option<Tunnel> {
    let record = extras.tunnel?;
    let has_id = record.tunnel & TunnelRecord::HAS_NETWORK_ID != 0;
    Some(Tunnel {
        kind: record.tunnel_kind().unwrap(),
        network_id: has_id.then_some(record.network_id),
        src: address(record.src),
        dst: address(record.dst),
        deeper: record.tunnel & TunnelRecord::DEEPER != 0,
    })
}

/// Flows as the engine reports their ends, and their flags as it shows their packets.
#[derive(Default)]
struct Summed {
    flows: Flows,
    flag_sets: BTreeMap<Key, u8>,
}

impl Sink for Summed {
    fn flow(&mut self, report: &FlowReport) {
        if !matches!(report.state, FlowState::End(_)) {
            return;
        }
        let ends = report.ends;
        let is_icmp = matches!(ends.ip_protocol, ICMP | ICMPV6);
        let dst_port = if is_icmp {
            ends.src_port
        } else {
            ends.dst_port
        };
        let forward = Packet {
            src: address(ends.src),
            dst: address(ends.dst),
            protocol: ends.ip_protocol,
            src_port: ends.src_port,
            dst_port,
            tcp_flags: report.tcp_flags,
            network: report.beside.tunnel.as_ref().and_then(network_of),
        };
        let reverse = Packet {
            src: forward.dst,
            dst: forward.src,
            src_port: forward.dst_port,
            dst_port: forward.src_port,
            ..forward
        };
        add(
            &mut self.flows,
            &forward,
            report.fwd_packets,
            report.fwd_bytes,
        );
        add(
            &mut self.flows,
            &reverse,
            report.rev_packets,
            report.rev_bytes,
        );
        *self.flag_sets.entry(key_of(&forward).0).or_default() |= report.tcp_flags;
    }

    fn packet(&mut self, packet: &JudgedPacket) {
        let network = packet.tunnel.as_ref().and_then(network_of);
        add_flags(&mut self.flows, &packet_of(&packet.record, network));
    }
}

// --- the comparison ---------------------------------------------------------------------------

/// What a capture gave: frames compared and excepted.
#[derive(Default)]
struct Compared {
    frames: u64,
    /// Frames that were several packets on the wire.
    cut: u64,
    /// Packets out of tunnels.
    inner: u64,
    excepted: BTreeMap<Exception, u64>,
}

impl Compared {
    fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.cut += other.cut;
        self.inner += other.inner;
        for (exception, count) in other.excepted {
            *self.excepted.entry(exception).or_default() += count;
        }
    }
}

/// With tunnels closed and opened.
fn compare(capture: &Path) -> [Compared; 2] {
    let theirs = tshark::frames(capture);
    [false, true].map(|decapsulate| compare_with(capture, &theirs, decapsulate))
}

fn compare_with(capture: &Path, theirs: &[Frame], decapsulate: bool) -> Compared {
    let mut reader = open(capture, decapsulate);
    let mut engine = Engine::new(Settings::default(), None);
    let mut ours = Summed::default();
    let mut expected = Flows::new();
    let mut protocols = BTreeMap::<u8, [u64; 2]>::new();
    let mut compared = Compared::default();
    for (number, frame) in (1..).zip(theirs) {
        let at = || format!("{} frame {number}: {frame:?}", capture.display());
        let Some(item) = reader.next_item().unwrap() else {
            panic!("the sensor has no more at {}", at());
        };
        compared.frames += 1;
        let extras = *reader.extras();
        let sensor = match item {
            Item::Packet(record) => {
                engine.packet_with(&record, &extras, &mut ours);
                let network = tunnel_of(&extras).and_then(|tunnel| tunnel.network());
                Some(packet_of(&record, network))
            }
            Item::Lost(..) => None,
        };
        let exception = exception(frame, &item, &extras, decapsulate);
        if let Some(exception) = exception {
            *compared.excepted.entry(exception).or_default() += 1;
        }
        let wire_bytes = match item {
            Item::Packet(record) => record.wire_bytes,
            Item::Lost(_, wire_bytes) => wire_bytes,
        };
        let opened = decapsulate && exception != Some(Exception::CutInside);
        let (packets, bytes) = frame.on_the_wire(opened);
        assert_eq!(wire_bytes, bytes, "{}", at());
        compared.cut += u64::from(packets > 1);
        let agreed = if exception.is_some() {
            sensor
        } else {
            let layer = frame.layer(decapsulate);
            assert_eq!(sensor, layer.map(Layer::packet), "{item:?} at {}", at());
            let tunnel = frame
                .inner
                .filter(|_| decapsulate)
                .map(|(tunnel, _)| tunnel);
            assert_eq!(tunnel_of(&extras), tunnel, "tunnel at {}", at());
            compared.inner += u64::from(tunnel.is_some());
            if let Item::Lost(reason, _) = item {
                assert!(fits(reason, frame), "{reason:?} at {}", at());
            }
            sensor
        };
        for (side, packet) in [sensor, agreed].into_iter().enumerate() {
            if let Some(packet) = packet {
                protocols.entry(packet.protocol).or_default()[side] += 1;
            }
        }
        if let Some(packet) = agreed {
            add(&mut expected, &packet, packets.into(), bytes.into());
            add_flags(&mut expected, &packet);
        }
    }
    assert!(reader.next_item().unwrap().is_none(), "tshark has no more");
    engine.finish(&mut ours);
    let name = capture.display();
    for (protocol, [ours, theirs]) in protocols {
        assert_eq!(ours, theirs, "{name}: packets of protocol {protocol}");
    }
    for (key, totals) in &expected {
        assert_eq!(ours.flows.get(key), Some(totals), "{name}: flow {key:?}");
        let flags = (0..8).fold(0, |set, bit| set | u8::from(totals.flags[bit] > 0) << bit);
        assert_eq!(ours.flag_sets[key], flags, "{name}: flags of {key:?}");
    }
    assert_eq!(ours.flows.len(), expected.len(), "{name}: flows");
    compared
}

/// Whether a frame may differ, and why.
fn exception(frame: &Frame, item: &Item, extras: &Extras, decapsulate: bool) -> Option<Exception> {
    match item {
        Item::Lost(LossReason::CaptureRefused, _) if frame.captured_bytes < frame.bytes => {
            Some(Exception::CutByTheCapture)
        }
        Item::Lost(LossReason::CaptureRefused, _) => Some(Exception::LinkType),
        Item::Lost(
            LossReason::BadIpv4Header | LossReason::BadIpv6Header | LossReason::BadIpv6Extension,
            _,
        ) => Some(Exception::BadHeader),
        Item::Lost(
            LossReason::VlanDepth | LossReason::MplsDepth | LossReason::Ipv6ExtensionDepth,
            _,
        ) => Some(Exception::Depth),
        Item::Packet(record) if record.marks.has(Marks::L4_CUT) => Some(Exception::CutTransport),
        Item::Packet(_) if frame.protocols.ends_with(":mipv6") => Some(Exception::Mobility),
        Item::Packet(_) if decapsulate && extras.tunnel.is_none() && frame.is_inner_cut() => {
            Some(Exception::CutInside)
        }
        _ => None,
    }
}

/// Whether the reason for which a frame gives no packet is what tshark calls it.
fn fits(reason: LossReason, frame: &Frame) -> bool {
    let has = |name: &str| frame.protocols.split(':').any(|layer| layer == name);
    let has_arp = has("arp") && !matches!(frame.arp_operation, Some(3 | 4));
    match reason {
        LossReason::Arp => has_arp,
        LossReason::Lldp => has("lldp"),
        LossReason::Llc => has("llc") || has("ipx"),
        LossReason::Eapol => has("eapol"),
        LossReason::PppoeDiscovery => has("pppoed"),
        LossReason::PppControl => has("pppoes") || has("ppp"),
        LossReason::SlowProtocol => has("slow"),
        _ => !has_arp && !has("lldp") && !has("eapol"),
    }
}

// --- which captures ---------------------------------------------------------------------------

fn has_tshark() -> bool {
    let found = Command::new("tshark").arg("--version").output();
    if found.is_ok_and(|output| output.status.success()) {
        return true;
    }
    println!("skipped: tshark is missing: cargo xtask setup --checks");
    assert!(
        std::env::var_os("NETML_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "a required test was skipped: tshark is missing"
    );
    false
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn the_bundled_capture_is_read_as_tshark_reads_it() {
    if !has_tshark() {
        return;
    }
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/fixtures/lab.pcap.gz");
    for compared in compare(&capture) {
        assert!(compared.frames > 10_000);
        assert_eq!(compared.excepted, BTreeMap::new());
    }
}

/// Conversations in each kind of tunnel, with the same ends in two networks, and frames of each shape, whole and not.
#[test]
fn frames_made_here_are_read_as_tshark_reads_them() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let compare_frames = |frames: &[Vec<u8>]| {
        let capture = folder.path().join("made.pcap");
        let file = std::fs::File::create(&capture).unwrap();
        let mut writer = write::Writer::new(file, write::LINK_ETHERNET, 65_535).unwrap();
        for (number, frame) in (1..).zip(frames) {
            let bytes = frame.len() as u32;
            writer.packet(number * 1_000_000, bytes, frame).unwrap();
        }
        writer.flush().unwrap();
        compare(&capture)
    };
    let conversations = frames::tunnelled_conversations();
    let [closed, opened] = compare_frames(&conversations);
    assert_eq!(
        (closed.inner, opened.inner),
        (0, conversations.len() as u64)
    );
    assert_eq!(
        (&closed.excepted, &opened.excepted),
        (&BTreeMap::new(), &BTreeMap::new())
    );
    let [_, opened] = compare_frames(&frames::all());
    assert!(opened.inner > 10, "{} packets out of tunnels", opened.inner);
}

#[test]
fn captures_are_read_as_tshark_reads_them() {
    let Some(data) = std::env::var_os("NETML_DATA") else {
        println!("skipped: NETML_DATA names no captures");
        return;
    };
    if !has_tshark() {
        return;
    }
    let data = Path::new(&data);
    let every = match std::env::var_os("NETML_EVERY") {
        Some(value) if value == "1" => 1,
        _ => EVERY,
    };
    let mut captures = files(&data.join("odd"));
    for folder in ["pcap/benign", "pcap/malicious"] {
        captures.extend(files(&data.join(folder)).into_iter().step_by(every));
    }
    let mut sums = [Compared::default(), Compared::default()];
    let mut failed = 0;
    for capture in &captures {
        // What differs is printed by the panic; the others are compared nevertheless.
        let Ok(compared) = std::panic::catch_unwind(|| compare(capture)) else {
            failed += 1;
            continue;
        };
        for (sum, compared) in sums.iter_mut().zip(compared) {
            sum.add(compared);
        }
    }
    assert_eq!(failed, 0, "captures that differ, see above");
    for (tunnels, sum) in ["closed", "opened"].into_iter().zip(&sums) {
        let Compared {
            frames,
            cut,
            inner,
            excepted,
        } = sum;
        println!(
            "tunnels {tunnels}: {} captures, {frames} frames, {cut} of several packets, {inner} packets out of tunnels; excepted: {excepted:?}",
            captures.len()
        );
        assert!(*frames > 10_000, "{frames} frames");
        assert!(*cut > 100, "{cut} frames over the MTU");
        assert_eq!(*inner > 100, tunnels == "opened", "{inner} out of tunnels");
        // Beyond the odd captures hardly a frame is excepted.
        let excepted: u64 = excepted.values().sum();
        assert!(excepted * 50 < *frames, "{excepted} of {frames} excepted");
    }
}

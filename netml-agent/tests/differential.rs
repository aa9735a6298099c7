//! Captures as tshark reads them: every frame's headers, every flow's packets, bytes and TCP
//! flags, computed from tshark's fields alone, must be what the sensor says.
//!
//! Frames are compared one by one, so that a difference names its frame; what is excepted stands
//! in [`Exception`], each with its reason. Flows are then summed up from tshark's fields (an
//! excepted frame counts as the sensor read it) and compared with the flows that come out of the
//! engine, however often a time-out cut them.
//!
//! Reads the bundled capture always; of `NETML_DATA` all of `odd` and every sixth of `pcap`, with
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

use netml_agent::capture_file::{self, Item, Reader};
use netml_agent::engine::{Engine, FlowReport, FlowState, JudgedPacket, Settings, Sink};
use netml_common::LossReason;

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
    /// A transport header that is cut or claims less than its own size: the packet stays with its
    /// addresses, without ports; tshark shows the part it can read.
    CutTransport,
    /// A link type that is refused by name.
    LinkType,
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
}

/// tshark's view of a frame.
#[derive(Debug)]
struct Frame {
    bytes: u32,
    captured_bytes: u32,
    protocols: String,
    /// Operation of an ARP frame; tshark has no name of its own for RARP (3 and 4).
    arp_operation: Option<u32>,
    packet: Option<Packet>,
    cut: Option<Cut>,
}

/// What tells of how many wire packets a frame over the MTU was.
#[derive(Clone, Copy, Debug)]
struct Cut {
    payload_bytes: u32,
    /// Headers behind the link header.
    header_bytes: u32,
}

impl Frame {
    /// Wire packets and their bytes: a frame over the MTU was as many as its payload needs, each with
    /// all headers.
    fn on_the_wire(&self) -> (u32, u32) {
        match self.cut {
            Some(cut) if self.bytes > OVERSIZED_BYTES => {
                let packets = cut.payload_bytes.div_ceil(MTU_BYTES - cut.header_bytes);
                let header_bytes = self.bytes - cut.payload_bytes;
                (packets, self.bytes + (packets - 1) * header_bytes)
            }
            _ => (1, self.bytes),
        }
    }
}

const MTU_BYTES: u32 = 1500;
/// MTU, Ethernet header and three tags. No capture here has such frames on another link.
const OVERSIZED_BYTES: u32 = MTU_BYTES + 14 + 12;

/// Lower end first.
type Key = ((IpAddr, u16), (IpAddr, u16), u8);

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
        ((src, dst, packet.protocol), 0)
    } else {
        ((dst, src, packet.protocol), 1)
    }
}

// --- tshark -----------------------------------------------------------------------------------

const FIELDS: [&str; 32] = [
    "frame.len",
    "frame.cap_len",
    "frame.protocols",
    "ip.src",
    "ip.dst",
    "ip.proto",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.nxt",
    "ipv6.hopopts.nxt",
    "ipv6.dstopts.nxt",
    "ipv6.routing.nxt",
    "ipv6.fraghdr.nxt",
    "ah.next_header",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "icmp.type",
    "icmpv6.type",
    "ip.frag_offset",
    "ipv6.fraghdr.offset",
    "mip6.proto",
    "eth.type",
    "arp.opcode",
    "tcp.len",
    "tcp.hdr_len",
    "udp.length",
    "ip.hdr_len",
];

/// Every frame, in order. A field that occurs in several layers is a list.
fn frames(capture: &Path) -> Vec<Frame> {
    let settings = tempfile::tempdir().unwrap();
    let mut command = Command::new("tshark");
    // No settings of whoever runs this, no names, and every frame for itself.
    command.env("WIRESHARK_CONFIG_DIR", settings.path());
    command.env("HOME", settings.path());
    command.args([
        "-n",
        "-T",
        "fields",
        "-E",
        "occurrence=a",
        "-E",
        "aggregator=;",
    ]);
    for preference in [
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
        "ip.tso_support:TRUE",
    ] {
        command.args(["-o", preference]);
    }
    for field in FIELDS {
        command.args(["-e", field]);
    }
    // A cut file ends with an error behind its last whole frame (status 2).
    let output = command.arg("-r").arg(capture).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("aren't valid"), "{log}");
    assert!(matches!(output.status.code(), Some(0 | 2)), "{log}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| frame(line, capture)).collect()
}

/// The values of one field, taken one after the other, outermost first.
struct Values<'a>(BTreeMap<&'static str, std::str::Split<'a, char>>);

impl<'a> Values<'a> {
    fn next(&mut self, field: &str) -> Option<&'a str> {
        self.0
            .get_mut(field)?
            .next()
            .filter(|value| !value.is_empty())
    }

    fn number(&mut self, field: &str) -> Option<u32> {
        let value = self.next(field)?;
        match value.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    }
}

fn frame(line: &str, capture: &Path) -> Frame {
    let columns: Vec<&str> = line.split('\t').collect();
    assert_eq!(columns.len(), FIELDS.len(), "{}: {line}", capture.display());
    let mut values = Values(
        FIELDS
            .into_iter()
            .zip(columns.iter().map(|column| column.split(';')))
            .collect(),
    );
    let bytes = values.number("frame.len").unwrap();
    let captured_bytes = values.number("frame.cap_len").unwrap();
    let protocols = values.next("frame.protocols").unwrap_or_default();
    Frame {
        bytes,
        captured_bytes,
        protocols: protocols.to_owned(),
        arp_operation: values.number("arp.opcode"),
        packet: outermost(protocols, &mut values),
        cut: cut(&mut values),
    }
}

/// Payload and headers of TCP or UDP in the outermost packet.
fn cut(values: &mut Values<'_>) -> Option<Cut> {
    const IPV6_BYTES: u32 = 40;
    const UDP_BYTES: u32 = 8;
    let ip_bytes = values.number("ip.hdr_len").unwrap_or(IPV6_BYTES);
    let (payload_bytes, transport_bytes) = match values.number("tcp.len") {
        Some(bytes) => (bytes, values.number("tcp.hdr_len")?),
        None => (
            values.number("udp.length")?.checked_sub(UDP_BYTES)?,
            UDP_BYTES,
        ),
    };
    Some(Cut {
        payload_bytes,
        header_bytes: ip_bytes + transport_bytes,
    })
}

/// The outermost IP packet of a frame: its addresses, the protocol behind all extension headers,
/// and the ports of what follows them directly.
fn outermost(protocols: &str, values: &mut Values<'_>) -> Option<Packet> {
    let mut layers = protocols
        .split(':')
        .skip_while(|layer| !matches!(*layer, "ip" | "ipv6"))
        .peekable();
    let is_v6 = layers.next()? == "ipv6";
    let (src, dst, mut protocol) = if is_v6 {
        (
            values.next("ipv6.src")?,
            values.next("ipv6.dst")?,
            values.number("ipv6.nxt")?,
        )
    } else {
        (
            values.next("ip.src")?,
            values.next("ip.dst")?,
            values.number("ip.proto")?,
        )
    };
    let mut is_later_fragment = !is_v6 && values.number("ip.frag_offset")? != 0;
    while let Some(field) = layers.peek().and_then(|layer| match *layer {
        "ipv6.hopopts" => Some("ipv6.hopopts.nxt"),
        "ipv6.dstopts" => Some("ipv6.dstopts.nxt"),
        "ipv6.routing" => Some("ipv6.routing.nxt"),
        "ipv6.fraghdr" => Some("ipv6.fraghdr.nxt"),
        "mipv6" => Some("mip6.proto"),
        "ah" => Some("ah.next_header"),
        _ => None,
    }) {
        protocol = values.number(field)?;
        layers.next();
        if field == "ipv6.fraghdr.nxt" && values.number("ipv6.fraghdr.offset")? != 0 {
            is_later_fragment = true;
            break;
        }
    }
    let protocol = u8::try_from(protocol).ok()?;
    let mut packet = Packet {
        src: src.parse().ok()?,
        dst: dst.parse().ok()?,
        protocol,
        src_port: 0,
        dst_port: 0,
        tcp_flags: 0,
    };
    if is_later_fragment {
        return Some(packet);
    }
    let mut port = |field| values.number(field).unwrap_or(0) as u16;
    match (protocol, layers.peek().copied()) {
        (TCP, Some("tcp")) => {
            (packet.src_port, packet.dst_port) = (port("tcp.srcport"), port("tcp.dstport"));
            packet.tcp_flags = port("tcp.flags") as u8;
        }
        (UDP, Some("udp")) => {
            (packet.src_port, packet.dst_port) = (port("udp.srcport"), port("udp.dstport"));
        }
        (SCTP, Some("sctp")) => {
            (packet.src_port, packet.dst_port) = (port("sctp.srcport"), port("sctp.dstport"));
        }
        (ICMP, Some("icmp")) => packet = with_icmp(packet, port("icmp.type")),
        (ICMPV6, Some("icmpv6")) => packet = with_icmp(packet, port("icmpv6.type")),
        _ => {}
    }
    Some(packet)
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

// --- the sensor -------------------------------------------------------------------------------

/// The tunnels' outer packets: what tshark's first layers are.
fn open(capture: &Path) -> Reader {
    capture_file::open(capture)
        .unwrap()
        .reading(capture_file::Reading {
            decapsulate: false,
            ..Default::default()
        })
}

fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

fn packet_of(record: &netml_common::PacketRecord) -> Packet {
    let packet = Packet {
        src: address(record.src),
        dst: address(record.dst),
        protocol: record.ip_protocol,
        src_port: record.src_port,
        dst_port: record.dst_port,
        tcp_flags: record.tcp_flags,
    };
    let has_type =
        record.marks.0 & (netml_common::Marks::FRAGMENT_LATER | netml_common::Marks::L4_CUT) == 0;
    match record.ip_protocol {
        ICMP | ICMPV6 if has_type => with_icmp(packet, record.src_port),
        _ => packet,
    }
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
        add_flags(&mut self.flows, &packet_of(&packet.record));
    }
}

// --- the comparison ---------------------------------------------------------------------------

/// What a capture gave: frames compared and excepted.
#[derive(Default)]
struct Compared {
    frames: u64,
    /// Frames that were several packets on the wire.
    cut: u64,
    excepted: BTreeMap<Exception, u64>,
}

fn compare(capture: &Path) -> Compared {
    let theirs = frames(capture);
    let mut reader = open(capture);
    let mut engine = Engine::new(Settings::default(), None);
    let mut ours = Summed::default();
    let mut expected = Flows::new();
    let mut protocols = BTreeMap::<u8, [u64; 2]>::new();
    let mut compared = Compared::default();
    for (number, frame) in (1..).zip(&theirs) {
        let at = || format!("{} frame {number}: {frame:?}", capture.display());
        let Some(item) = reader.next_item().unwrap() else {
            panic!("the sensor has no more at {}", at());
        };
        compared.frames += 1;
        let wire_bytes = match item {
            Item::Packet(record) => record.wire_bytes,
            Item::Lost(_, wire_bytes) => wire_bytes,
        };
        let (packets, bytes) = frame.on_the_wire();
        assert_eq!(wire_bytes, bytes, "{}", at());
        compared.cut += u64::from(packets > 1);
        let sensor = match item {
            Item::Packet(record) => {
                engine.packet(&record, &mut ours);
                Some(packet_of(&record))
            }
            Item::Lost(..) => None,
        };
        let agreed = match exception(frame, &item) {
            Some(exception) => {
                *compared.excepted.entry(exception).or_default() += 1;
                sensor
            }
            None => {
                assert_eq!(sensor, frame.packet, "{item:?} at {}", at());
                if let Item::Lost(reason, _) = item {
                    assert!(fits(reason, frame), "{reason:?} at {}", at());
                }
                frame.packet
            }
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
fn exception(frame: &Frame, item: &Item) -> Option<Exception> {
    match item {
        Item::Lost(LossReason::CaptureRefused, _) if frame.captured_bytes < frame.bytes => {
            Some(Exception::CutByTheCapture)
        }
        Item::Lost(LossReason::CaptureRefused, _) => Some(Exception::LinkType),
        Item::Lost(
            LossReason::BadIpv4Header | LossReason::BadIpv6Header | LossReason::BadIpv6Extension,
            _,
        ) => Some(Exception::BadHeader),
        Item::Packet(record) if record.marks.has(netml_common::Marks::L4_CUT) => {
            Some(Exception::CutTransport)
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
    let compared = compare(&capture);
    assert!(compared.frames > 10_000);
    assert_eq!(compared.excepted, BTreeMap::new());
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
    let (mut frames, mut cut, mut excepted) = (0, 0, BTreeMap::<Exception, u64>::new());
    let mut failed = 0;
    for capture in &captures {
        // What differs is printed by the panic; the others are compared nevertheless.
        let Ok(compared) = std::panic::catch_unwind(|| compare(capture)) else {
            failed += 1;
            continue;
        };
        frames += compared.frames;
        cut += compared.cut;
        for (exception, count) in compared.excepted {
            *excepted.entry(exception).or_default() += count;
        }
    }
    println!(
        "{} captures, {frames} frames, {cut} of several packets; excepted: {excepted:?}",
        captures.len()
    );
    assert_eq!(failed, 0, "captures that differ, see above");
    assert!(frames > 10_000, "{frames} frames");
    assert!(cut > 100, "{cut} frames over the MTU");
    // Beyond the odd captures hardly a frame is excepted.
    let excepted: u64 = excepted.values().sum();
    assert!(excepted * 50 < frames, "{excepted} of {frames} excepted");
}

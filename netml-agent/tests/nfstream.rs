//! Flow statistics against NFStream: packets, bytes, times, sizes, gaps and TCP flags of each flow of
//! a capture, as the engine reports them and as its features show them, must be those NFStream counts.
//!
//! `NETML_PYTHON` names a Python that has NFStream (`cargo xtask test --all` makes one outside the
//! repository). Without it nothing is compared, which is said; with it, whatever keeps NFStream from
//! running is a failure. The bundled capture is read always, captures of `NETML_DATA` where it is set.
//!
//! No time-out ends a flow on either side. A feature is compared with the interval that NFStream's
//! numbers leave: it cuts times to milliseconds, features are rounded to sixteenths. What is left
//! out stands in [`LeftOut`], each with its reason.

#![cfg(feature = "train")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use netml_agent::capture_file::{self, Item, Reading};
use netml_agent::engine::{
    Engine, EvaluationRow, FlowReport, FlowState, JudgedPacket, Settings, Sink,
};
use netml_agent::flow::FEATURES;
use netml_agent::flow::decay::log_bin;
use netml_agent::flow::schema::FEATURE_SPECS;
use netml_common::Marks;
use serde::Deserialize;

/// Captures of the data that are read, of each protocol and size some; all are classic pcap over
/// Ethernet.
const CAPTURES: [&str; 10] = [
    "benign/iotsentinel_Aria.pcap.gz",
    "benign/ndpi_whatsapp_login_call.pcap.gz",
    "benign/zeek_kinit.pcap.gz",
    "benign/zeek_quic_win11_firefox_google.pcap.gz",
    "benign/zeek_ssh.pcap.gz",
    "malicious/cicddos2019_webddos.pcap.gz",
    "malicious/evilfingers_nmap_connect.pcap.gz",
    "malicious/graphtunnel_dnscat2_txt.pcap.gz",
    "malicious/visakh_slowloris.pcap.gz",
    "malicious/zeek_sshguess.pcap.gz",
];

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Why flows of one pair of ends are not compared in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LeftOut {
    /// Not TCP or UDP: of ICMP the sensor's flow is one type, NFStream's all that two hosts exchange.
    Protocol,
    /// A SYN after the end begins a flow anew, in NFStream it goes on: their sums are compared.
    BegunAnew,
    /// NFStream leaves out all fragments but the first.
    Fragments,
    /// Frames over the MTU are the packets they were cut into; NFStream counts frames.
    Segments,
    /// The capture cut the frame: NFStream leaves out cut packets of IPv6, the sensor counts them.
    Cut,
}

// --- NFStream ---------------------------------------------------------------------------------

#[derive(Clone, Debug, Deserialize)]
struct Theirs {
    src_ip: IpAddr,
    src_port: u16,
    dst_ip: IpAddr,
    dst_port: u16,
    protocol: u8,
    first_ms: u64,
    last_ms: u64,
    gap_mean_ms: f64,
    gap_stddev_ms: f64,
    gap_max_ms: f64,
    flags: Sides<Flags>,
    frame: Sides<Sizes>,
    payload: Sides<Sizes>,
}

#[derive(Clone, Debug, Deserialize)]
struct Sides<T> {
    src2dst: T,
    dst2src: T,
}

impl<T> Sides<T> {
    fn swapped(self) -> Self {
        Self {
            src2dst: self.dst2src,
            dst2src: self.src2dst,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Flags {
    fin: u64,
    syn: u64,
    rst: u64,
    psh: u64,
    ack: u64,
    urg: u64,
    ece: u64,
    cwr: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Sizes {
    packets: u64,
    bytes: u64,
    mean_ps: f64,
    stddev_ps: f64,
}

impl Sizes {
    /// NFStream divides the squares by one less than there are packets, the sensor by their number.
    fn deviation(&self) -> f64 {
        let packets = self.packets as f64;
        self.stddev_ps * ((packets - 1.0) / packets).max(0.0).sqrt()
    }
}

impl Theirs {
    fn key(&self) -> Key {
        let ends = [(self.src_ip, self.src_port), (self.dst_ip, self.dst_port)];
        key(ends, self.protocol)
    }

    /// With the sensor's initiator as source.
    fn from(self, initiator: (IpAddr, u16)) -> Self {
        if initiator == (self.src_ip, self.src_port) {
            return self;
        }
        Self {
            src_ip: self.dst_ip,
            src_port: self.dst_port,
            dst_ip: self.src_ip,
            dst_port: self.src_port,
            flags: self.flags.swapped(),
            frame: self.frame.swapped(),
            payload: self.payload.swapped(),
            ..self
        }
    }

    fn packets(&self) -> u64 {
        self.frame.src2dst.packets + self.frame.dst2src.packets
    }

    /// What the features of this flow may be, by name.
    fn features(&self) -> Vec<(&'static str, [f64; 2])> {
        let packets = self.packets() as f64;
        let Sides {
            src2dst: fwd,
            dst2src: rev,
        } = &self.payload;
        let [fwd_bytes, rev_bytes] = [fwd.bytes as f64, rev.bytes as f64];
        let payload_bytes = fwd_bytes + rev_bytes;
        let flags = |of: fn(&Flags) -> u64| {
            share((of(&self.flags.src2dst) + of(&self.flags.dst2src)) as f64 / packets)
        };
        let duration_ms = (self.last_ms - self.first_ms) as f64;
        let gaps = packets - 1.0;
        // Cutting both ends of the flow to milliseconds moves the mean gap by less than one of them in all.
        let gap_mean = [-1.0, 1.0].map(|by| (self.gap_mean_ms + by / gaps.max(1.0)).max(0.0));
        let gap_max = [-1.0, 1.0].map(|by| (self.gap_max_ms + by).max(0.0));
        let mut all = vec![
            ("flow_packets_log2", binned([packets; 2])),
            ("flow_rev_packet_share", share(rev.packets as f64 / packets)),
            ("flow_fwd_payload_mean_log2", binned([fwd.mean_ps; 2])),
            ("flow_rev_payload_mean_log2", binned([rev.mean_ps; 2])),
            ("flow_fwd_payload_cv", sizes_cv(fwd)),
            ("flow_rev_payload_cv", sizes_cv(rev)),
            ("flow_fwd_payload_bytes_log2", binned([fwd_bytes; 2])),
            ("flow_rev_payload_bytes_log2", binned([rev_bytes; 2])),
            (
                "flow_payload_balance",
                share((fwd_bytes - rev_bytes) / payload_bytes.max(1.0)),
            ),
            (
                "flow_duration_ms_log2",
                binned([-1.0, 1.0].map(|by| (duration_ms + by).max(1.0))),
            ),
            ("flow_gap_cv", self.gap_cv(gap_mean)),
            ("flow_gap_max_ms_log2", binned(gap_max.map(|ms| ms * 10.0))),
            (
                "flow_gap_mean_ms_log2",
                binned(gap_mean.map(|ms| ms * 10.0)),
            ),
        ];
        if packets < 2.0 {
            all.retain(|(name, _)| !name.starts_with("flow_gap"));
        }
        if self.protocol == TCP {
            // Of SYNs the sensor counts those without ACK: the initiator's.
            let syns = self.flags.src2dst.syn as f64;
            all.extend([
                ("flow_syn_share", share(syns / packets)),
                ("flow_rst_share", flags(|of| of.rst)),
                ("flow_ack_share", flags(|of| of.ack)),
                ("flow_psh_share", flags(|of| of.psh)),
            ]);
        }
        all
    }

    fn gap_cv(&self, mean: [f64; 2]) -> [f64; 2] {
        let gaps = self.packets() as f64 - 1.0;
        if gaps < 2.0 {
            return [-1.0, -1.0];
        }
        let deviation = self.gap_stddev_ms * ((gaps - 1.0) / gaps).sqrt();
        // Each gap is off by less than a millisecond.
        let [low, high] = [-1.0, 1.0].map(|by| (deviation + by).max(0.0));
        let cv = [low / mean[1].max(1e-6), high / mean[0].max(1e-6)].map(|cv| cv.min(10.0));
        [cv[0] * (1.0 - 1e-4), cv[1] * (1.0 + 1e-4)]
    }
}

/// Deviation over mean, as precise as 32-bit floats add up.
fn sizes_cv(of: &Sizes) -> [f64; 2] {
    if of.packets < 2 {
        return [-1.0, -1.0];
    }
    let cv = (of.deviation() / of.mean_ps.max(1e-6)).min(10.0);
    [cv - 0.01, cv + 0.01]
}

fn share(value: f64) -> [f64; 2] {
    [value - 1e-4, value + 1e-4]
}

/// Sixteenths of a logarithm of what lies between, as precise as 32-bit floats add up.
fn binned([low, high]: [f64; 2]) -> [f64; 2] {
    let bin = |value: f64| f64::from(log_bin(value as f32));
    [bin(low * (1.0 - 1e-4)), bin(high * (1.0 + 1e-4))]
}

fn nfstream(python: &Path, capture: &Path) -> Vec<Theirs> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("checks/nfstream_reference.py");
    let output = Command::new(python).arg(script).arg(capture).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    assert!(
        output.status.success(),
        "NFStream did not run: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

// --- the sensor -------------------------------------------------------------------------------

/// Ends in order, and the protocol.
type Key = ([(IpAddr, u16); 2], u8);

fn key(mut ends: [(IpAddr, u16); 2], protocol: u8) -> Key {
    ends.sort_unstable();
    (ends, protocol)
}

fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

struct Ours {
    report: FlowReport,
    features: [f32; FEATURES],
}

impl Ours {
    fn initiator(&self) -> (IpAddr, u16) {
        (address(self.report.ends.src), self.report.ends.src_port)
    }

    fn key(&self) -> Key {
        let ends = &self.report.ends;
        let responder = (address(ends.dst), ends.dst_port);
        key([self.initiator(), responder], ends.ip_protocol)
    }

    fn feature(&self, name: &str) -> f64 {
        let at = FEATURE_SPECS.iter().position(|spec| spec.name == name);
        f64::from(self.features[at.unwrap()])
    }
}

#[derive(Default)]
struct Gathered {
    /// Bytes that the capture kept of a frame at most.
    kept_bytes: u32,
    last_rows: HashMap<u64, (u64, [f32; FEATURES])>,
    segmented: HashSet<u64>,
    cut: HashSet<u64>,
    flows: Vec<Ours>,
}

impl Sink for Gathered {
    fn flow(&mut self, report: &FlowReport) {
        if matches!(report.state, FlowState::End(_)) {
            let (packets, features) = self.last_rows[&report.flow_id];
            assert_eq!(
                packets,
                report.fwd_packets + report.rev_packets,
                "{report:?}"
            );
            self.flows.push(Ours {
                report: report.clone(),
                features,
            });
        }
    }

    fn packet(&mut self, packet: &JudgedPacket) {
        if packet.record.segments > 1 {
            self.segmented.insert(packet.flow_id);
        }
        let record = &packet.record;
        let is_cut_ipv6 = address(record.src).is_ipv6() && record.wire_bytes > self.kept_bytes;
        if record.marks.has(Marks::L4_CUT) || is_cut_ipv6 {
            self.cut.insert(packet.flow_id);
        }
    }

    fn row(&mut self, row: &EvaluationRow<'_>) {
        let row_of = (row.packets, *row.features);
        self.last_rows.insert(row.flow_id, row_of);
    }
}

/// The snap length in the header of a classic little-endian pcap, compressed.
fn kept_bytes(capture: &Path) -> u32 {
    let mut header = [0; 24];
    let mut file = flate2::read::GzDecoder::new(std::fs::File::open(capture).unwrap());
    file.read_exact(&mut header).unwrap();
    assert_eq!(header[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    u32::from_le_bytes(header[16..20].try_into().unwrap())
}

fn engine(capture: &Path) -> Gathered {
    const NEVER_NS: u64 = 1 << 60;
    let settings = Settings {
        flows_max: 1 << 20,
        active_timeout_ns: NEVER_NS,
        idle_timeout_ns: NEVER_NS,
        datagram_idle_timeout_ns: NEVER_NS,
        half_open_timeout_ns: NEVER_NS,
        closed_timeout_ns: NEVER_NS,
        report_interval_ns: NEVER_NS,
        ..Settings::default()
    };
    let reading = Reading {
        decapsulate: false,
        ..Reading::default()
    };
    let mut reader = capture_file::open(capture).unwrap().reading(reading);
    let mut engine = Engine::new(settings, None);
    let mut gathered = Gathered {
        kept_bytes: kept_bytes(capture),
        ..Gathered::default()
    };
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Packet(record) = item {
            engine.packet_with(&record, reader.extras(), &mut gathered);
        }
    }
    engine.flush(&mut gathered);
    engine.finish(&mut gathered);
    gathered
}

// --- the comparison ---------------------------------------------------------------------------

#[derive(Default)]
struct Compared {
    flows: u64,
    values: u64,
    turned: u64,
    left_out: BTreeMap<LeftOut, u64>,
    differences: Vec<String>,
}

fn compare(python: &Path, capture: &Path) -> Compared {
    let mut theirs: BTreeMap<Key, Vec<Theirs>> = BTreeMap::new();
    for flow in nfstream(python, capture) {
        theirs.entry(flow.key()).or_default().push(flow);
    }
    let mut gathered = engine(capture);
    let mut ours: BTreeMap<Key, Vec<Ours>> = BTreeMap::new();
    for flow in std::mem::take(&mut gathered.flows) {
        ours.entry(flow.key()).or_default().push(flow);
    }
    let mut compared = Compared::default();
    for (key, ours) in &ours {
        let theirs = theirs.remove(key).unwrap_or_default();
        match left_out(key, ours, &theirs, &gathered) {
            Some(reason) => *compared.left_out.entry(reason).or_default() += 1,
            None => compared.flow(&ours[0], theirs[0].clone()),
        }
        if let Some(LeftOut::BegunAnew) = left_out(key, ours, &theirs, &gathered) {
            compared.sums(key, ours, &theirs);
        }
    }
    for key in theirs.keys().filter(|key| matches!(key.1, TCP | UDP)) {
        compared
            .differences
            .push(format!("{key:?}: only NFStream has it"));
    }
    compared
}

fn left_out(key: &Key, ours: &[Ours], theirs: &[Theirs], gathered: &Gathered) -> Option<LeftOut> {
    let any = |set: &HashSet<u64>| ours.iter().any(|flow| set.contains(&flow.report.flow_id));
    if !matches!(key.1, TCP | UDP) {
        Some(LeftOut::Protocol)
    } else if ours
        .iter()
        .any(|flow| flow.feature("flow_fragment_share") > 0.0)
    {
        Some(LeftOut::Fragments)
    } else if any(&gathered.segmented) {
        Some(LeftOut::Segments)
    } else if any(&gathered.cut) || theirs.is_empty() {
        Some(LeftOut::Cut)
    } else if ours.len() > 1 || theirs.len() > 1 {
        Some(LeftOut::BegunAnew)
    } else {
        None
    }
}

impl Compared {
    fn value(&mut self, what: &str, at: &Ours, ours: f64, [low, high]: [f64; 2]) {
        self.values += 1;
        if !(low..=high).contains(&ours) {
            self.differences.push(format!(
                "{what} is {ours}, not from {low} to {high}: {:?}",
                at.key()
            ));
        }
    }

    fn flow(&mut self, ours: &Ours, theirs: Theirs) {
        self.flows += 1;
        self.turned += u64::from(ours.initiator() != (theirs.src_ip, theirs.src_port));
        let theirs = theirs.from(ours.initiator());
        let report = &ours.report;
        let frame = &theirs.frame;
        let mut flags = 0;
        for of in [&theirs.flags.src2dst, &theirs.flags.dst2src] {
            let counts = [
                of.fin, of.syn, of.rst, of.psh, of.ack, of.urg, of.ece, of.cwr,
            ];
            for (bit, count) in counts.into_iter().enumerate() {
                flags |= u64::from(count > 0) << bit;
            }
        }
        for (what, ours_is, theirs_is) in [
            ("packets forward", report.fwd_packets, frame.src2dst.packets),
            ("packets back", report.rev_packets, frame.dst2src.packets),
            ("bytes forward", report.fwd_bytes, frame.src2dst.bytes),
            ("bytes back", report.rev_bytes, frame.dst2src.bytes),
            (
                "first ms",
                report.first_mono_ns / 1_000_000,
                theirs.first_ms,
            ),
            ("last ms", report.last_mono_ns / 1_000_000, theirs.last_ms),
            ("TCP flags", report.tcp_flags.into(), flags),
        ] {
            self.value(what, ours, ours_is as f64, [theirs_is as f64; 2]);
        }
        for (name, expected) in theirs.features() {
            self.value(name, ours, ours.feature(name), expected);
        }
    }

    /// Of flows that one side cuts and the other does not.
    fn sums(&mut self, key: &Key, ours: &[Ours], theirs: &[Theirs]) {
        self.values += 2;
        let of_ours = |of: fn(&FlowReport) -> u64| ours.iter().map(|flow| of(&flow.report)).sum();
        let of_theirs = |of: fn(&Sizes) -> u64| {
            let sides = theirs
                .iter()
                .map(|flow| of(&flow.frame.src2dst) + of(&flow.frame.dst2src));
            sides.sum()
        };
        let ours: [u64; 2] = [
            of_ours(|report| report.fwd_packets + report.rev_packets),
            of_ours(|report| report.fwd_bytes + report.rev_bytes),
        ];
        let theirs: [u64; 2] = [of_theirs(|of| of.packets), of_theirs(|of| of.bytes)];
        if ours != theirs {
            let what = format!("{key:?}: packets and bytes {ours:?}, not {theirs:?}");
            self.differences.push(what);
        }
    }
}

// --- which captures ---------------------------------------------------------------------------

#[test]
fn flow_statistics_are_those_of_nfstream() {
    let Some(python) = std::env::var_os("NETML_PYTHON").map(PathBuf::from) else {
        println!("skipped: NETML_PYTHON does not name a Python with NFStream");
        return;
    };
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/fixtures/lab.pcap.gz");
    let mut captures = vec![bundled];
    match std::env::var_os("NETML_DATA").map(PathBuf::from) {
        Some(data) => captures.extend(CAPTURES.map(|name| data.join("pcap").join(name))),
        None => println!("NETML_DATA names no captures: only the bundled one is compared"),
    }
    let mut differences = 0;
    for capture in &captures {
        let compared = compare(&python, capture);
        println!(
            "{}: {} flows, {} values; {} begun by the other end; not compared: {:?}; different: {}",
            capture.file_name().unwrap().display(),
            compared.flows,
            compared.values,
            compared.turned,
            compared.left_out,
            compared.differences.len()
        );
        for difference in compared.differences.iter().take(10) {
            println!("  {difference}");
        }
        differences += compared.differences.len();
        assert!(
            compared.flows > 0,
            "nothing of {} is compared",
            capture.display()
        );
    }
    assert_eq!(differences, 0, "see above");
}

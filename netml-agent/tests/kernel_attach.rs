//! The probe at work: namespaces joined by a veth pair, every attach mode, real packets in both
//! directions, totals equal to those of the peer's link.
//!
//! Each test makes its two namespaces and runs this binary again inside one of them, as one of the
//! ignored "role" tests below.
#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking"
)]

mod kernel;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netml_agent::probe::filters::{clsact_filters, tcx_programs};
use netml_agent::probe::{
    CaptureMode, LinkEvent, LinkListener, Probe, ProbeError, ProbeSettings, RingReader, TcMode,
    list_interfaces,
};
use netml_common::{Direction, InterfaceCounters, LossReason, Marks, PacketRecord};

const A: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 2);
const A_MAC: &str = "02:00:00:00:00:01";
const B_MAC: &str = "02:00:00:00:00:02";
const UDP_PORT: u16 = 4000;
const SENT_BY_A: u32 = 500;
const SENT_BY_B: u32 = 300;
const ETHERNET_HEADER_BYTES: u64 = 14;
const DEADLINE: Duration = Duration::from_secs(20);

/// Two namespaces, `a0` in one joined to `b0` in the other; gone at drop.
struct Space {
    a: String,
    b: String,
}

impl Space {
    fn new(tag: &str, offloads: bool) -> Self {
        let name = |end| format!("nmprobe{}{tag}{end}", std::process::id());
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
                "ip -n {namespace} addr add {address}/24 dev {device}"
            ));
            sh(&format!("ip -n {namespace} link set {device} up"));
            sh(&format!(
                "ip -n {namespace} neigh add {peer} lladdr {peer_mac} dev {device} nud permanent"
            ));
            if !offloads {
                sh(&format!(
                    "ip netns exec {namespace} ethtool -K {device} tso off gso off gro off tx off sg off"
                ));
            }
        }
        space
    }

    /// This binary in the first namespace, as `role`.
    fn role(&self, role: &str, capture: &str, tc: &str) -> Command {
        let mut command = in_namespace(&self.a, role);
        command
            .env("NETML_TEST_PEER", &self.b)
            .env("NETML_TEST_CAPTURE", capture)
            .env("NETML_TEST_TC", tc);
        command
    }

    fn run(&self, role: &str, capture: &str, tc: &str) {
        let output = self.role(role, capture, tc).output().unwrap();
        assert!(
            output.status.success(),
            "{role} {capture} {tc}:\n{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// What `doctor --json` says of `a0`.
    fn doctor(&self, arguments: &[&str]) -> serde_json::Value {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.a])
            .arg(env!("CARGO_BIN_EXE_netml-agent"));
        doctor(&mut command, arguments)
    }

    /// The same from the host's namespace, told to look into this one.
    fn doctor_outside(&self, arguments: &[&str]) -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netml-agent"));
        doctor(&mut command, &[&["--netns", &self.a], arguments].concat())
    }

    /// Our filters on `a0`.
    fn filters(&self) -> usize {
        ["ingress", "egress"]
            .iter()
            .map(|parent| {
                let listed = Command::new("tc")
                    .args(["-n", &self.a, "filter", "show", "dev", "a0", parent])
                    .output()
                    .unwrap();
                String::from_utf8_lossy(&listed.stdout)
                    .matches("direct-action")
                    .count()
            })
            .sum()
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

fn in_namespace(namespace: &str, role: &str) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", namespace])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", role, "--ignored", "--nocapture"]);
    command
}

#[test]
fn totals_equal_the_peers_link_in_every_mode() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("m", false);
    for (capture, tc) in [
        ("native", "tcx"),
        ("native", "clsact"),
        ("tc", "tcx"),
        ("tc", "clsact"),
        ("generic", "tcx"),
        ("auto", "auto"),
    ] {
        if tc == "tcx" && !kernel_has_tcx() {
            println!("skipped: {capture} with tcx: this kernel has no TCX");
            continue;
        }
        space.run("role_exchange", capture, tc);
        assert_eq!(space.filters(), 0, "nothing stays behind {capture} {tc}");
    }
}

#[test]
fn super_packets_are_counted_as_segments() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("s", true);
    space.run("role_bulk", "tc", "auto");
}

#[test]
fn filters_of_a_killed_sensor_are_removed_and_those_of_a_living_one_are_not() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("k", false);
    let mut killed = Attached::start(&space, "tc", "clsact");
    assert_eq!(space.filters(), 2);
    // Another sensor on the same interface is refused and harms nothing.
    space.run("role_refused", "tc", "clsact");
    assert_eq!(space.filters(), 2);
    killed.kill();
    assert_eq!(space.filters(), 2, "clsact filters outlive their process");
    space.run("role_exchange", "tc", "clsact");
    assert_eq!(space.filters(), 0);
}

/// `doctor` over `a0`.
fn doctor(command: &mut Command, arguments: &[&str]) -> serde_json::Value {
    command.args(["doctor", "--json", "--interface", "a0"]);
    let output = command.args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_doctor_names_and_removes_filters_of_a_killed_sensor_only() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("d", false);
    let mut sensor = Attached::start(&space, "tc", "clsact");
    let living = space.doctor(&["--clean"]);
    assert_eq!(living["removed"], serde_json::json!([]));
    assert_eq!(space.filters(), 2, "a living sensor's stay");
    sensor.kill();
    let leftovers = |report: &serde_json::Value| {
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["id"] == "leftovers");
        found.unwrap().clone()
    };
    let named = leftovers(&space.doctor(&[]));
    let from_outside = space.doctor_outside(&[]);
    assert_eq!(leftovers(&from_outside), named, "by --netns");
    assert_eq!(named["state"], "degraded", "{named}");
    assert_eq!(named["mend"], "netml-agent doctor --clean");
    assert_eq!(space.filters(), 2, "looking changes nothing");
    let cleaned = space.doctor_outside(&["--clean"]);
    let removed = |program| serde_json::json!({"interface": "a0", "program": program});
    assert_eq!(
        cleaned["removed"],
        serde_json::json!([removed("netml_ingress"), removed("netml_egress")])
    );
    assert_eq!(leftovers(&cleaned)["state"], "ok");
    assert_eq!(space.filters(), 0);
}

#[test]
fn nothing_of_the_link_kind_is_left_by_a_killed_sensor() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("l", false);
    let mut modes = vec![("native", "auto"), ("generic", "auto")];
    if kernel_has_tcx() {
        modes.push(("tc", "tcx"));
    }
    for (capture, tc) in modes {
        space.run("role_bare", "", "");
        let mut sensor = Attached::start(&space, capture, tc);
        sensor.kill();
        space.run("role_bare", "", "");
    }
}

#[test]
fn interfaces_that_come_go_and_are_renamed_are_followed() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("f", false);
    space.run("role_follow", "auto", "auto");
    space.run("role_follow", "tc", "clsact");
    assert_eq!(space.filters(), 0);
}

#[test]
fn the_default_route_is_followed_where_it_moves() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("r", true);
    space.run("role_routes", "tc", "auto");
}

#[test]
fn a_slot_given_to_another_interface_brings_it_nothing_of_the_earlier_one() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("s", false);
    space.run("role_slot", "tc", "auto");
}

#[test]
fn one_interface_more_than_slots_is_refused_counted_and_said() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("n", false);
    space.run("role_too_many", "tc", "auto");
}

#[test]
fn another_network_namespace_is_watched_from_this_one() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("o", false);
    for tc in ["auto", "clsact"] {
        let mut role = in_namespace(&space.b, "role_from_outside");
        let status = role
            .env("NETML_TEST_PEER", &space.a)
            .env("NETML_TEST_TC", tc)
            .status()
            .unwrap();
        assert!(status.success(), "{tc}");
        assert_eq!(space.filters(), 0, "removed where it was made");
    }
}

#[test]
fn a_foreign_xdp_program_is_named_and_auto_goes_around_it() {
    if !kernel::may_load() {
        return;
    }
    let space = Space::new("x", false);
    space.run("role_foreign_xdp", "native", "auto");
}

/// A sensor that stays attached until it is killed.
struct Attached(Child);

impl Attached {
    fn start(space: &Space, capture: &str, tc: &str) -> Self {
        let mut child = space
            .role("role_stay", capture, tc)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut seen = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&seen).contains("attached\n") {
            assert_eq!(output.read(&mut byte).unwrap(), 1, "it ended early");
            seen.push(byte[0]);
        }
        Self(child)
    }
}

impl Attached {
    /// Ends it by SIGKILL, and waits until the kernel has closed what it held.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True where a test started this as its role, false where someone runs all ignored tests.
fn in_role() -> bool {
    std::env::var_os("NETML_TEST_PEER").is_some()
}

fn kernel_has_tcx() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 6)
}

fn settings() -> ProbeSettings {
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    ProbeSettings {
        interfaces: vec!["a0".to_owned()],
        capture: match of("NETML_TEST_CAPTURE").as_str() {
            "native" => CaptureMode::Native,
            "tc" => CaptureMode::Tc,
            "generic" => CaptureMode::Generic,
            _ => CaptureMode::Auto,
        },
        tc: match of("NETML_TEST_TC").as_str() {
            "tcx" => TcMode::Tcx,
            "clsact" => TcMode::Clsact,
            _ => TcMode::Auto,
        },
        ring_bytes: 1 << 20,
        ..ProbeSettings::default()
    }
}

/// Packets and bytes the peer's link received and sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LinkTotals {
    received: (u64, u64),
    sent: (u64, u64),
}

impl LinkTotals {
    fn of_peer() -> Self {
        let peer = std::env::var("NETML_TEST_PEER").unwrap();
        let output = Command::new("ip")
            .args(["-n", &peer, "-j", "-s", "link", "show", "b0"])
            .output()
            .unwrap();
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let totals = |way: &str| {
            let stats = &links[0]["stats64"][way];
            (
                stats["packets"].as_u64().unwrap(),
                stats["bytes"].as_u64().unwrap(),
            )
        };
        Self {
            received: totals("rx"),
            sent: totals("tx"),
        }
    }

    fn since(self, before: Self) -> Self {
        let minus = |a: (u64, u64), b: (u64, u64)| (a.0 - b.0, a.1 - b.1);
        Self {
            received: minus(self.received, before.received),
            sent: minus(self.sent, before.sent),
        }
    }
}

fn totals(probe: &Probe, direction: Direction) -> InterfaceCounters {
    let all = probe.counters().unwrap();
    all.iter()
        .find(|(slot, of, _)| *slot == 0 && *of == direction)
        .unwrap()
        .2
}

/// Polls until `done`, or the deadline.
fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if done() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

fn drain(ring: &mut RingReader) -> Vec<PacketRecord> {
    let mut records = Vec::new();
    ring.drain(usize::MAX, |entry| records.push(entry.unwrap().0));
    records
}

/// Sends datagrams of growing sizes.
fn send(from: Ipv4Addr, to: Ipv4Addr, count: u32) {
    let socket = UdpSocket::bind(SocketAddrV4::new(from, UDP_PORT)).unwrap();
    for i in 0..count {
        let payload = vec![0; 1 + (i as usize * 7) % 1400];
        let sent = socket.send_to(&payload, SocketAddrV4::new(to, UDP_PORT));
        // The answer "port unreachable" to an earlier one is no matter here.
        assert!(sent.is_ok() || i > 0);
    }
}

#[test]
#[ignore = "a role of the tests above"]
fn role_exchange() {
    if !in_role() {
        return;
    }
    let settings = settings();
    let before = LinkTotals::of_peer();
    let (mut probe, mut ring) = Probe::attach(&settings).unwrap();
    let interface = probe.interfaces()[0].clone();
    match settings.capture {
        CaptureMode::Native | CaptureMode::Auto => {
            assert_eq!(interface.ingress_mode, "native-xdp");
        }
        CaptureMode::Tc => assert_eq!(interface.ingress_mode, interface.egress_mode),
        CaptureMode::Generic => assert_eq!(interface.ingress_mode, "generic-xdp"),
    }
    assert_eq!(
        interface.aggregated,
        settings.capture == CaptureMode::Generic
    );
    if settings.tc == TcMode::Clsact {
        assert_eq!(interface.egress_mode, "clsact");
    }
    send(A, B, SENT_BY_A);
    let peer = std::env::var("NETML_TEST_PEER").unwrap();
    assert!(in_namespace(&peer, "role_send").status().unwrap().success());
    let sent = |counters: InterfaceCounters| (counters.packets, counters.bytes);
    // A veth end with native XDP takes packets by NAPI, and the kernel then counts what its peer
    // sent behind the Ethernet header (drivers/net/veth.c, veth_xdp_rcv).
    let is_native = interface.ingress_mode == "native-xdp";
    let uncounted_bytes = if is_native { ETHERNET_HEADER_BYTES } else { 0 };
    let mut link = LinkTotals::of_peer().since(before);
    let agree = eventually(|| {
        link = LinkTotals::of_peer().since(before);
        link.sent.1 += link.sent.0 * uncounted_bytes;
        sent(totals(&probe, Direction::Ingress)) == link.sent
            && sent(totals(&probe, Direction::Egress)) == link.received
    });
    let ingress = totals(&probe, Direction::Ingress);
    let egress = totals(&probe, Direction::Egress);
    assert!(agree, "{link:?}\n{ingress:?}\n{egress:?}");
    assert!(link.sent.0 >= u64::from(SENT_BY_B) && link.received.0 >= u64::from(SENT_BY_A));
    assert!(ingress.balanced() && egress.balanced());
    let records = drain(&mut ring);
    let of = |direction: Direction| {
        records
            .iter()
            .filter(|record| record.marks.has(Marks::EGRESS) == (direction == Direction::Egress))
            .fold((0, 0), |sum: (u64, u64), record| {
                assert_eq!(record.slot, 0);
                (sum.0 + 1, sum.1 + u64::from(record.wire_bytes))
            })
    };
    assert_eq!(of(Direction::Ingress), (ingress.recorded, ingress.bytes));
    assert_eq!(of(Direction::Egress), (egress.recorded, egress.bytes));
    assert_eq!(ring.backlog_bytes(), 0);
    assert!(
        records
            .windows(2)
            .all(|pair| pair[0].mono_ns > 0 && pair[1].mono_ns > 0)
    );
    probe.detach();
    let frames = totals(&probe, Direction::Egress).frames;
    send(A, B, 10);
    assert_eq!(totals(&probe, Direction::Egress).frames, frames, "detached");
}

#[test]
#[ignore = "a role of the tests above"]
fn role_send() {
    if !in_role() {
        return;
    }
    send(B, A, SENT_BY_B);
}

const BULK_BYTES: usize = 8 << 20;

#[test]
#[ignore = "a role of the tests above"]
fn role_bulk() {
    if !in_role() {
        return;
    }
    let (probe, mut ring) = Probe::attach(&ProbeSettings {
        ring_bytes: 8 << 20,
        ..settings()
    })
    .unwrap();
    let listener = TcpListener::bind(SocketAddrV4::new(A, UDP_PORT)).unwrap();
    let peer = std::env::var("NETML_TEST_PEER").unwrap();
    let mut receiver = in_namespace(&peer, "role_receive").spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&vec![0; BULK_BYTES]).unwrap();
    drop(stream);
    assert!(receiver.wait().unwrap().success());
    let mut records = Vec::new();
    assert!(eventually(|| {
        records.extend(drain(&mut ring));
        let egress = totals(&probe, Direction::Egress);
        let ingress = totals(&probe, Direction::Ingress);
        records.len() as u64 == egress.recorded + ingress.recorded && egress.balanced()
    }));
    let egress = totals(&probe, Direction::Egress);
    assert_eq!(egress.lost[LossReason::RingFull.index()], 0);
    let data: Vec<_> = records
        .iter()
        .filter(|record| record.marks.has(Marks::EGRESS) && record.payload_bytes > 0)
        .collect();
    let payload: u64 = data.iter().map(|r| u64::from(r.payload_bytes)).sum();
    // A retransmission sends bytes again; between two veth ends there is hardly one.
    assert!((BULK_BYTES as u64..BULK_BYTES as u64 * 11 / 10).contains(&payload));
    assert!(
        data.iter().any(|record| record.segments > 1),
        "segmentation offload gives super-packets"
    );
    // Ethernet, IPv4, TCP with the time stamp option: every segment repeats them.
    const HEADERS: u32 = 14 + 20 + 32;
    const SEGMENT_BYTES_MAX: u32 = 1500 - 52;
    for record in data {
        let segments = u32::from(record.segments);
        assert_eq!(record.wire_bytes, record.payload_bytes + segments * HEADERS);
        assert_eq!(segments, record.payload_bytes.div_ceil(SEGMENT_BYTES_MAX));
    }
    let all: u64 = records
        .iter()
        .filter(|record| record.marks.has(Marks::EGRESS))
        .map(|record| u64::from(record.segments))
        .sum();
    assert_eq!(egress.packets, all);
    assert!(egress.packets > egress.frames);
}

#[test]
#[ignore = "a role of the tests above"]
fn role_receive() {
    if !in_role() {
        return;
    }
    let mut stream = TcpStream::connect(SocketAddrV4::new(A, UDP_PORT)).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            bytes => received += bytes,
        }
    }
    assert_eq!(received, BULK_BYTES);
}

#[test]
#[ignore = "a role of the tests above"]
fn role_stay() {
    if !in_role() {
        return;
    }
    let _attached = Probe::attach(&settings()).unwrap();
    println!("attached");
    std::io::stdout().flush().unwrap();
    // Until killed; bounded, should the test that started it have died.
    std::thread::park_timeout(Duration::from_secs(60));
}

#[test]
#[ignore = "a role of the tests above"]
fn role_bare() {
    if !in_role() {
        return;
    }
    // What a process held goes a moment after it.
    let mut found = Vec::new();
    let bare = eventually(|| {
        let all = list_interfaces().unwrap();
        let a0 = all.iter().find(|interface| interface.name == "a0").unwrap();
        found = clsact_filters(a0.ifindex).unwrap();
        if kernel_has_tcx() {
            found.extend(tcx_programs("a0").unwrap());
        }
        found.is_empty() && a0.xdp_program_id.is_none()
    });
    assert!(bare, "{found:?}");
}

/// Waits until the kernel tells of links and `done` holds after following; the events meanwhile.
fn follow(
    probe: &mut Probe,
    listener: &LinkListener,
    done: impl Fn(&Probe) -> bool,
) -> Vec<LinkEvent> {
    let mut events = Vec::new();
    let followed = eventually(|| {
        if let Some(gone) = listener.drain().unwrap() {
            probe.follow(&gone).unwrap();
            events.extend(probe.take_events());
        }
        done(probe)
    });
    assert!(followed, "{events:?}");
    events
}

fn names(probe: &Probe) -> Vec<(u32, String)> {
    let all = probe.interfaces().iter();
    all.map(|interface| (interface.slot, interface.name.clone()))
        .collect()
}

#[test]
#[ignore = "a role of the tests above"]
fn role_follow() {
    if !in_role() {
        return;
    }
    let (mut probe, _ring) = Probe::attach(&ProbeSettings {
        interfaces: vec!["a*".to_owned(), "!a9".to_owned()],
        ..settings()
    })
    .unwrap();
    let listener = probe.take_listener().unwrap();
    let of = |slot, name: &str| (slot, name.to_owned());
    assert_eq!(names(&probe), [of(0, "a0")]);
    // It comes, with one that is left out and one that nobody asked for.
    sh(
        "ip link add a1 address 02:00:00:00:01:01 type veth peer name a9; \
        ip addr add 10.98.0.1/24 dev a1; ip link set a1 up; ip link set a9 up; \
        ip neigh add 10.98.0.2 lladdr 02:00:00:00:01:02 dev a1 nud permanent",
    );
    let events = follow(&mut probe, &listener, |probe| probe.interfaces().len() == 2);
    assert_eq!(names(&probe), [of(0, "a0"), of(1, "a1")]);
    assert!(matches!(&events[..], [LinkEvent::Attached(a1)] if a1.name == "a1"));
    let first_id = probe.interfaces()[1].attach_id;
    let sent = |probe: &Probe| {
        let all = probe.counters().unwrap();
        let slot_1 = all
            .iter()
            .find(|(slot, direction, _)| (*slot, *direction) == (1, Direction::Egress));
        slot_1.unwrap().2.packets
    };
    let (from, to) = (Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(10, 98, 0, 2));
    send(from, to, 7);
    assert!(eventually(|| sent(&probe) == 7), "{}", sent(&probe));
    // It is renamed to what no pattern matches, and still watched.
    sh(
        "ip link set a1 down; ip link set a1 name renamed; ip link set renamed up; \
        ip neigh replace 10.98.0.2 lladdr 02:00:00:00:01:02 dev renamed nud permanent",
    );
    let events = follow(&mut probe, &listener, |probe| {
        probe.interfaces()[1].name == "renamed"
    });
    assert!(matches!(&events[..], [LinkEvent::Renamed { from, .. }] if from == "a1"));
    send(from, to, 5);
    assert!(eventually(|| sent(&probe) == 12), "{}", sent(&probe));
    // It goes, and its totals stay.
    sh("ip link del renamed");
    let events = follow(&mut probe, &listener, |probe| probe.interfaces().len() == 1);
    assert!(matches!(&events[..], [LinkEvent::Gone(gone)] if gone.slot == 1));
    assert_eq!(sent(&probe), 12);
    // One of its name comes: a slot and totals of its own. Nothing piles up.
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut held = Vec::new();
    for slot in 2..5 {
        sh("ip link add a1 type veth peer name a9");
        follow(&mut probe, &listener, |probe| probe.interfaces().len() == 2);
        assert_eq!(names(&probe)[1], of(slot, "a1"));
        assert_ne!(probe.interfaces()[1].attach_id, first_id);
        sh("ip link del a1");
        follow(&mut probe, &listener, |probe| probe.interfaces().len() == 1);
        held.push(descriptors());
    }
    assert!(held.windows(2).all(|pair| pair[0] == pair[1]), "{held:?}");
    assert_eq!(sent(&probe), 12);
    assert_eq!(probe.refusals(), 0);
    // None of the above was for want of the one that was there all the time.
    assert_eq!(names(&probe), [of(0, "a0")]);
}

#[test]
#[ignore = "a role of the tests above"]
fn role_routes() {
    if !in_role() {
        return;
    }
    sh(
        "ip link add a1 address 02:00:00:00:01:01 type veth peer name a9; \
        ip addr add 10.98.0.1/24 dev a1; ip link set a1 up; ip link set a9 up; \
        ip neigh add 10.98.0.2 lladdr 02:00:00:00:01:02 dev a1 nud permanent; \
        ip route add default via 10.97.0.2 dev a0",
    );
    let (mut probe, _ring) = Probe::attach(&ProbeSettings {
        interfaces: Vec::new(),
        ..settings()
    })
    .unwrap();
    let listener = probe.take_listener().unwrap();
    let of = |slot, name: &str| (slot, name.to_owned());
    assert_eq!(names(&probe), [of(0, "a0")]);
    // Other routes are no news, and without a default route all stays as it was.
    listener.drain().unwrap();
    sh("ip route add 10.99.0.0/16 dev a1; ip route del 10.99.0.0/16");
    assert!(listener.drain().unwrap().is_none());
    sh("ip route del default");
    let events = follow(&mut probe, &listener, |_| true);
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(names(&probe), [of(0, "a0")]);
    // It leads elsewhere: the new one first.
    sh("ip route add default via 10.98.0.2 dev a1");
    let events = follow(&mut probe, &listener, |probe| names(probe) == [of(1, "a1")]);
    assert!(
        matches!(
            &events[..],
            [LinkEvent::Attached(new), LinkEvent::Left(old)] if new.name == "a1" && old.name == "a0"
        ),
        "{events:?}"
    );
    let sent = |probe: &Probe, of: u32| {
        let all = probe.counters().unwrap();
        let totals = all
            .iter()
            .find(|(slot, direction, _)| (*slot, *direction) == (of, Direction::Egress));
        totals.unwrap().2.packets
    };
    send(A, B, 3);
    let (from, to) = (Ipv4Addr::new(10, 98, 0, 1), Ipv4Addr::new(10, 98, 0, 2));
    send(from, to, 7);
    assert!(eventually(|| sent(&probe, 1) == 7), "{}", sent(&probe, 1));
    assert_eq!(sent(&probe, 0), 0, "nothing is left on the old one");
    // Two default routes lead through both, in one step as well as in two.
    sh("ip route add default via 10.97.0.2 dev a0 metric 50");
    follow(&mut probe, &listener, |probe| probe.interfaces().len() == 2);
    assert_eq!(names(&probe), [of(1, "a1"), of(2, "a0")]);
    sh("ip link del a1");
    let events = follow(&mut probe, &listener, |probe| names(probe) == [of(2, "a0")]);
    assert!(
        matches!(&events[..], [LinkEvent::Gone(gone)] if gone.name == "a1"),
        "{events:?}"
    );
}

#[test]
#[ignore = "a role of the tests above"]
fn role_slot() {
    if !in_role() {
        return;
    }
    const SENT_BEFORE: u32 = 200;
    const SENT_BEHIND: u32 = 90;
    sh("for i in $(seq 32); do ip link add c$i type veth peer name d$i; done");
    // A ring so small that packets are counted by flow.
    let (mut probe, mut ring) = Probe::attach(&ProbeSettings {
        interfaces: vec!["a0".to_owned(), "c*".to_owned(), "d*".to_owned()],
        ring_bytes: 4096,
        slot_rest_ns: 0,
        ..settings()
    })
    .unwrap();
    let listener = probe.take_listener().unwrap();
    let mut maps = probe.take_flow_maps().unwrap();
    assert_eq!(probe.interfaces().len(), 64);
    let waits = |event: &LinkEvent| match event {
        LinkEvent::Refused { name, .. } => name.clone(),
        other => panic!("{other:?}"),
    };
    let waiting: Vec<_> = probe.take_events().iter().map(waits).collect();
    assert_eq!(waiting.len(), 1);
    let mut counted = || {
        let mut frames = 0;
        // The datagrams: errors about them and what other interfaces see are others' matter.
        maps.read(
            0,
            |_| true,
            |totals| {
                if (totals.key.slot, totals.key.ip_protocol) == (0, 17) {
                    frames += totals.frames();
                }
            },
        )
        .unwrap();
        frames
    };
    let of = |probe: &Probe, slot| {
        let all = probe.counters().unwrap().into_iter();
        all.filter(|(found, direction, _)| (*found, *direction) == (slot, Direction::Egress))
            .map(|(_, _, totals)| (totals.recorded, totals.mapped, totals.frames))
            .next()
    };
    let unknown = netml_common::counters::UNKNOWN_SLOT;
    send(A, B, SENT_BEFORE);
    let all_sent = || of(&probe, 0).unwrap().2 == u64::from(SENT_BEFORE);
    assert!(eventually(all_sent), "{:?}", of(&probe, 0));
    let before = of(&probe, 0).unwrap();
    assert!(
        before.1 > 0 && before.0 + before.1 == before.2,
        "{before:?}"
    );
    assert_eq!(counted(), before.1);
    drain(&mut ring);
    // It goes, and the one that waits has its slot.
    sh("ip link del a0");
    follow(&mut probe, &listener, |probe| {
        probe.interfaces().iter().any(|i| i.name == waiting[0])
    });
    let new = probe.interfaces().iter().find(|i| i.name == waiting[0]);
    assert_eq!(new.unwrap().slot, 0);
    assert_eq!(of(&probe, 0), Some((0, 0, 0)));
    assert_eq!(of(&probe, unknown), Some(before));
    assert_eq!(counted(), 0);
    // The same flow through it: what was told is not told again, and totals begin at zero.
    let (name, number) = (&waiting[0], &waiting[0][1..]);
    sh(&format!(
        "ip link set c{number} up; ip link set d{number} up; ip addr add {A}/24 dev {name}; \
        ip neigh replace {B} lladdr {B_MAC} dev {name} nud permanent"
    ));
    send(A, B, SENT_BEHIND);
    let all_sent = || of(&probe, 0).unwrap().2 == u64::from(SENT_BEHIND);
    assert!(eventually(all_sent), "{:?}", of(&probe, 0));
    let behind = of(&probe, 0).unwrap();
    assert!(
        behind.1 > 0 && behind.0 + behind.1 == behind.2,
        "{behind:?}"
    );
    assert_eq!(counted(), behind.1);
    assert_eq!(of(&probe, unknown), Some(before));
}

#[test]
#[ignore = "a role of the tests above"]
fn role_too_many() {
    if !in_role() {
        return;
    }
    sh("for i in $(seq 40); do ip link add c$i type veth peer name d$i; done");
    let (mut probe, _ring) = Probe::attach(&ProbeSettings {
        interfaces: vec!["a0".to_owned(), "c*".to_owned(), "d*".to_owned()],
        ..settings()
    })
    .unwrap();
    assert_eq!(probe.interfaces().len(), 64);
    assert_eq!(probe.refusals(), 17);
    assert!(probe.is_waiting());
    let events = probe.take_events();
    assert_eq!(events.len(), 17);
    for event in &events {
        let LinkEvent::Refused { name, error } = event else {
            panic!("{event:?}");
        };
        assert!(error.to_string().contains(name.as_str()) && error.to_string().contains("64"));
    }
    // Said once, and slots of those that go rest before others have them.
    sh("ip link del c1");
    let listener = probe.take_listener().unwrap();
    let events = follow(&mut probe, &listener, |probe| probe.interfaces().len() < 64);
    assert!(
        events
            .iter()
            .all(|event| matches!(event, LinkEvent::Gone(_))),
        "{events:?}"
    );
    assert!(probe.is_waiting());
    assert_eq!(probe.refusals(), 17);
    sh("for i in $(seq 40); do ip link del c$i 2>/dev/null; done; true");
    follow(&mut probe, &listener, |probe| !probe.is_waiting());
}

#[test]
#[ignore = "a role of the tests above"]
fn role_from_outside() {
    if !in_role() {
        return;
    }
    let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = own();
    let inside = ProbeSettings {
        netns: std::env::var("NETML_TEST_PEER").ok(),
        ..settings()
    };
    for (name, netns) in [("b0", inside.netns.clone()), ("a0", Some("no-such".into()))] {
        let error = Probe::attach(&ProbeSettings {
            interfaces: vec![name.to_owned()],
            netns,
            ..inside.clone()
        })
        .unwrap_err();
        assert!(error.is_misuse(), "{error}");
    }
    let (mut probe, _ring) = Probe::attach(&inside).unwrap();
    assert_eq!(own(), before, "this thread stays where it is");
    assert_eq!(names(&probe), [(0, "a0".to_owned())]);
    send(B, A, SENT_BY_B);
    let received = || totals(&probe, Direction::Ingress).packets;
    assert!(
        eventually(|| received() >= u64::from(SENT_BY_B)),
        "{}",
        received()
    );
    // What comes there is heard of here.
    let peer = std::env::var("NETML_TEST_PEER").unwrap();
    sh(&format!(
        "ip -n {peer} link set a0 down; ip -n {peer} link set a0 name z0"
    ));
    let listener = probe.take_listener().unwrap();
    follow(&mut probe, &listener, |probe| {
        probe.interfaces()[0].name == "z0"
    });
    sh(&format!(
        "ip -n {peer} link set z0 name a0; ip -n {peer} link set a0 up"
    ));
    sh(&format!(
        "ip -n {peer} neigh replace {B} lladdr {B_MAC} dev a0 nud permanent"
    ));
    probe.detach();
    assert_eq!(own(), before);
}

#[test]
#[ignore = "a role of the tests above"]
fn role_refused() {
    if !in_role() {
        return;
    }
    let error = Probe::attach(&settings()).unwrap_err();
    assert!(matches!(error, ProbeError::ClsactHeld { .. }), "{error}");
}

#[test]
#[ignore = "a role of the tests above"]
fn role_foreign_xdp() {
    if !in_role() {
        return;
    }
    let native = settings();
    let (_foreign, _ring) = Probe::attach(&native).unwrap();
    let error = Probe::attach(&native).unwrap_err();
    assert!(matches!(error, ProbeError::ForeignXdp { .. }), "{error}");
    for part in ["--capture tc", "a0", "netml_xdp"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let (around, _ring) = Probe::attach(&ProbeSettings {
        capture: CaptureMode::Auto,
        ..native
    })
    .unwrap();
    assert_ne!(around.interfaces()[0].ingress_mode, "native-xdp");
}
